"""ETA011: the schedule does not fit the run."""

from __future__ import annotations

from typing import Any

from ..runs import controller, cosine, falling, feed, said


def run(steps: int, lr: Any = cosine, why: str = "over", horizon: int | None = 1000) -> list[Any]:
    watcher = controller(act=False, horizon=horizon)
    feed(watcher, falling(steps), lr=lr)
    watcher.end(steps, why)
    return said(watcher, "ETA011")


def test_a_run_that_goes_on_is_told_once() -> None:
    (note,) = run(1400, lambda step: cosine(min(step, 1000)))
    assert note.step == 1009 and note.said == "update 1,009 of a run of 1,000: the schedule is over"
    assert note.numbers["horizon"] == 1000 and "extend" in note.move


def test_a_run_that_ends_early_at_a_high_lr() -> None:
    (note,) = run(300)
    assert note.said == "the run ended after 300 of 1,000 updates, at lr 8e-3"
    assert run(300, why="stopped") == run(300, why="KeyboardInterrupt") == []


def test_a_decay_that_is_over_too_soon() -> None:
    (note,) = run(1000, lambda step: cosine(min(2 * step, 1000)))
    assert 500 <= note.step < 540 and "the decay is over too soon" in note.said


def test_runs_as_long_as_their_schedule_and_restarts() -> None:
    assert run(1000) == run(950) == []
    assert run(1000, lambda step: cosine(4 * step % 1000)) == []


def test_without_a_horizon_it_does_not_apply() -> None:
    assert controller(horizon=None).checks()["ETA011"] == "the horizon is not known"
    assert run(300, horizon=None) == []
