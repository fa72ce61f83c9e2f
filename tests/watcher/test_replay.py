"""A log replayed: the same decisions to the bit, or those of others."""

from __future__ import annotations

import json
from typing import Any

import pytest

import etascope as eta
from etascope.errors import RecordError
from etascope.watcher import Controller, Log, LogWriter, controller_of, early_stop, replay, rewind

from .runs import controller, cosine, falling, probe

LOSSES = falling()[:400] + [8.0] + falling()[400:500] + [9.0] * 5 + falling()[480:700]


def logged(watcher: Controller) -> Log:
    """The log of a run, as a watch writes it."""
    writer = LogWriter(None, {"controller": json.loads(json.dumps(watcher.to_json()))})
    for step, loss in enumerate(LOSSES):
        lr = cosine(min(step, 999))
        watcher.observe(step, loss, lr, 1.0 + step % 3)
        writer.observe(watcher.seen, step, loss, lr, 1.0 + step % 3)
        written(watcher, writer)
        if step % 100 == 60:
            look = probe(sign=0.1, alignment=0.2)
            writer.write("probe", {"seen": watcher.seen, "step": step, **look.to_json()})
            watcher.probe(step, look)
            writer.write("val", {"seen": watcher.seen, "step": step, "loss": 1.0})
            watcher.validate(step, 1.0)
            written(watcher, writer)
    watcher.end(len(LOSSES), "over")
    written(watcher, writer)
    writer.write("end", {"seen": watcher.seen, "step": len(LOSSES), "why": "over"})
    return Log([json.loads(json.dumps(line)) for line in writer.log.lines])


def written(watcher: Controller, writer: LogWriter) -> None:
    for own in watcher.news:
        writer.write("decision" if isinstance(own, eta.Decision) else "note", own.to_json())
    watcher.news = []


@pytest.mark.parametrize("act", [True, False])
def test_the_same_to_the_bit(act: bool) -> None:
    log = logged(controller(act=act))
    again = list(replay(log))
    assert [own.to_json() for own in again if isinstance(own, eta.Decision)] == [d.to_json() for d in log.decisions]
    assert [own.to_json() for own in again if isinstance(own, eta.Note)] == [n.to_json() for n in log.notes]
    assert len(log.decisions) >= 2 and log.notes


def test_other_policies_would_have_decided_otherwise() -> None:
    log = logged(controller(act=False))
    said = list(replay(log, controller_of(log, (rewind(factor=0.3, skips=0), early_stop(patience=1)), act=True)))
    decisions = [own for own in said if isinstance(own, eta.Decision)]
    assert all(own.taken for own in decisions)
    assert {(own.policy, own.action) for own in decisions} >= {("rewind", "rewind"), ("early_stop", "stop")}
    assert decisions[-1].factor < 1


def test_options_of_the_run_are_kept() -> None:
    log = logged(controller(act=False, keep=7, every=33, bounds=(0.1, 2.0)))
    other: Any = controller_of(log, (), act=True)
    assert (other.keep, other.every, other.bounds, other.run.act) == (7, 33, (0.1, 2.0), True)


def test_a_header_without_a_controller_is_damaged() -> None:
    with pytest.raises(RecordError, match="header is damaged"):
        controller_of(Log([{"kind": "header"}]))
