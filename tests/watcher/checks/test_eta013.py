"""ETA013: somebody else writes the lr."""

from __future__ import annotations

from ..runs import controller, falling, feed


def test_what_was_found_and_what_should_stand_there() -> None:
    watcher = controller()
    feed(watcher, falling()[:50])
    decision = watcher.changed(50, 1e-3, 1e-2)
    assert decision is not None and (decision.code, decision.policy, decision.action) == ("ETA013", "follow", "restore")
    assert decision.numbers == {"found": 1e-3, "written": 1e-2}
    assert "the optimizer's lr is 1e-3, and the schedule says 1e-2: 0.1 times that" in str(decision)


def test_an_lr_of_0_has_no_ratio() -> None:
    watcher = controller(act=False)
    decision = watcher.changed(0, 0.0, 1e-2)
    assert decision is not None and "times" not in str(decision)


def test_without_a_handle_it_does_not_apply() -> None:
    watcher = controller(run={"peak": None})
    assert watcher.checks()["ETA013"] == "no handle drives the lr"
    assert watcher.changed(0, 1e-3, 1e-2) is None
