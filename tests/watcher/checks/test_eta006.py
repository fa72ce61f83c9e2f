"""ETA006: the lr is too low."""

from __future__ import annotations

import pytest

from ..runs import controller, falling, probe, probed, said

LINE = [2.3 - 0.0008 * i + 0.002 * (i % 2) for i in range(1000)]
SLIGHT = [2.3 - 0.00005 * i + 0.002 * (i % 2) for i in range(1000)]


def looks(**how: float) -> dict[int, object]:
    return {step: probe(**how) for step in (100, 200, 300, 400)}


def test_steps_that_agree_along_a_straight_line() -> None:
    watcher = probed(controller(act=False), LINE, looks(sign=0.8), lr=1e-4)
    (note,) = said(watcher, "ETA006")
    assert note.step >= 200 and note.numbers["sign"] == pytest.approx(0.8)
    assert "(+0.80) and the loss falls along a straight line" in note.said


def test_steps_that_agree_more_than_momentum_makes_them() -> None:
    assert said(probed(controller(act=False), falling(end=1.5), looks(sign=0.95)), "ETA006")
    assert not said(probed(controller(act=False), falling(end=1.5), looks(sign=0.7)), "ETA006")


def test_updates_that_lead_nowhere() -> None:
    watcher = probed(controller(act=False), falling(start=2.3, end=2.29), looks(update_ratio=2e-5))
    (note,) = said(watcher, "ETA006")
    assert note.numbers["way"] == pytest.approx(1000 * 2e-5)
    assert "1,000 such updates would move no layer by more than 0.02 of its norm" in note.said


def test_without_probes_the_line_has_to_do() -> None:
    (note,) = said(probed(controller(act=False), SLIGHT, {}, lr=1e-4), "ETA006")
    assert "straight line, by 0." in note.said


def test_good_runs_are_not_too_slow() -> None:
    for losses in (falling(), falling(noise=0.2), falling(end=1.8)):
        assert said(probed(controller(act=False), losses, looks(sign=0.7)), "ETA006") == []
