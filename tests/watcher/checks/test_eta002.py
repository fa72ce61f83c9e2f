"""ETA002: the mean of the last losses has gone astray."""

from __future__ import annotations

from ..runs import controller, falling, feed


def test_a_slow_rise() -> None:
    losses = falling()
    watcher = controller(act=False)
    decision = feed(watcher, losses[:500] + [losses[500] + 0.02 * i for i in range(60)])[0]
    assert decision.code == "ETA002" and 500 < decision.step < 560
    numbers = decision.numbers
    assert numbers["fast"] > numbers["level"] > numbers["best"] and numbers["spread"] > 0
    assert f"the last 8 losses are {numbers['fast']:.3g} on average" in str(decision)


def test_one_high_loss_is_not_the_model() -> None:
    losses = falling()
    decisions = feed(controller(act=False), [*losses[:500], 9.0, *losses[500:]])
    assert [d.code for d in decisions] == ["ETA003"]


def test_noise_and_a_loss_that_stays_are_no_rise() -> None:
    assert feed(controller(act=False), falling(noise=0.1, seed=3)) == []
    assert feed(controller(act=False), falling(start=1.0, end=1.0)) == []
