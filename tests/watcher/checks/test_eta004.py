"""ETA004: the loss has stopped falling, and the lr stays high."""

from __future__ import annotations

import numpy as np

from ..runs import controller, cosine, falling, feed, said


def stuck(steps: int = 1000, noise: float = 0.03) -> list[float]:
    """Falls for a third of the run, and then no more."""
    rng = np.random.default_rng(0)
    return [max(1.0, 2.3 - 1.3 * i / 300) + float(noise * rng.standard_normal()) for i in range(steps)]


def test_a_plateau_at_a_constant_lr() -> None:
    watcher = controller(act=False)
    feed(watcher, stuck(), lr=1e-2)
    (note,) = said(watcher, "ETA004")
    assert 450 < note.step < 800 and 300 <= note.numbers["since"] <= note.step - 150
    assert note.numbers["fallen"] < 0.013 and 1.2 < note.numbers["drop"] < 1.4
    assert "of 1.299 in all" in note.said and "Decay" in note.move


def test_where_the_schedule_decays_already_it_is_none() -> None:
    watcher = controller(act=False)
    feed(watcher, stuck(), lr=cosine)
    assert said(watcher, "ETA004") == []


def test_a_loss_that_still_falls_or_never_fell_is_no_plateau() -> None:
    for losses in (falling(), falling(start=2.3, end=2.3), falling(start=2.3, end=0.0, noise=0.001)):
        watcher = controller(act=False)
        feed(watcher, losses, lr=1e-2)
        assert said(watcher, "ETA004") == []
