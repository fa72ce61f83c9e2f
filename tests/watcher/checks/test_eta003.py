"""ETA003: one loss far out of line."""

from __future__ import annotations

import pytest

from ..runs import controller, falling, feed


def test_a_spike_and_its_numbers() -> None:
    watcher = controller(act=False)
    (decision,) = feed(watcher, [*falling()[:500], 9.0])
    numbers = decision.numbers
    assert (decision.code, decision.step, numbers["loss"]) == ("ETA003", 500, 9.0)
    assert numbers["sigmas"] == pytest.approx((9.0 - numbers["level"]) / numbers["spread"])
    assert numbers["level"] == pytest.approx(0.47, abs=0.05) and 0.9 < numbers["grad"] < 1.1


def test_twice_the_noise_is_no_spike() -> None:
    losses = falling(noise=0.1)
    losses[500] += 0.5
    assert feed(controller(act=False), losses) == []


def test_the_first_twenty_raise_none() -> None:
    codes = [d.code for d in feed(controller(act=False), [2.3] * 19 + [50.0] + [2.3] * 5)]
    assert "ETA003" not in codes


def test_a_low_loss_is_no_spike() -> None:
    assert feed(controller(act=False), [*falling()[:500], 0.0, *falling()[500:]]) == []
