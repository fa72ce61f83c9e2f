"""ETA005: beyond the edge of stability, and not falling."""

from __future__ import annotations

import numpy as np
import pytest

from ..runs import controller, falling, feed, probe


def flat() -> list[float]:
    return falling()[:300] + falling(600, start=0.7, end=0.7)


@pytest.mark.parametrize(
    ("look", "number"),
    [(probe(sharpness=400.0, bound=2.0), ("times_bound", 2.0)), (probe(sign=-0.7), ("sign", -0.7))],
)
def test_three_probes_beyond_it_and_a_loss_that_stays(look: object, number: tuple[str, float]) -> None:
    watcher = controller(act=False)
    feed(watcher, flat(), lr=1e-2)
    first, second, third = (watcher.probe(900, look) for _ in range(3))  # type: ignore[arg-type]
    assert first is second is None and third is not None and third.code == "ETA005"
    assert third.numbers[number[0]] == pytest.approx(number[1])
    assert "the loss does not fall" in str(third) and "cut" in str(third)


def test_at_the_edge_and_falling_is_how_trainings_go() -> None:
    watcher = controller(act=False)
    feed(watcher, falling()[:300], lr=1e-2)
    assert [watcher.probe(300, probe(sharpness=400.0, bound=2.0)) for _ in range(4)] == [None] * 4
    feed(watcher, flat()[300:], lr=1e-2, first=300)
    assert [watcher.probe(900, probe(sharpness=250.0, bound=2.0)) for _ in range(4)] == [None] * 4


def wild(learns: float, begins: float = 0.03, noise: float = 0.6) -> list[float]:
    """Losses that fall by so much of 2.3, and move by `noise` once the first twenty are over."""
    rng = np.random.default_rng(0)
    return [
        float(2.3 * (1 - learns * i / 400) + (begins if i < 20 else noise) * rng.standard_normal()) for i in range(400)
    ]


def test_losses_that_jump_about_and_do_not_fall_are_told() -> None:
    watcher = controller()
    decisions = [d for d in feed(watcher, wild(0.0)) if d.code == "ETA005"]
    assert decisions[0].action == "scale" and decisions[0].step in range(100, 200)
    assert "nothing was learnt, and it jumps about" in str(decisions[0])
    assert watcher.factor == 0.5 ** len(decisions) and len(decisions) > 1  # again and again, while it does not help


def test_a_hard_task_with_noisy_losses_is_not() -> None:
    assert not [d for d in feed(controller(), wild(0.0, begins=0.6)) if d.code == "ETA005"]


def test_neither_are_losses_that_fall() -> None:
    assert not [d for d in feed(controller(), wild(1.0, noise=0.2)) if d.code == "ETA005"]
