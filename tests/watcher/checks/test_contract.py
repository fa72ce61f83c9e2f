"""What holds of every check."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from etascope.records import Note
from etascope.watcher import Controller
from etascope.watcher.checks import CHECKS, AlarmCheck, Check, NoteCheck

from ..runs import controller, falling, feed, probe

PAGES = Path(__file__).parents[3] / "docs" / "checks"


def test_codes_are_in_order_and_each_has_a_file_a_test_and_a_page() -> None:
    assert [check.code for check in CHECKS] == [f"ETA{i:03}" for i in range(1, len(CHECKS) + 1)]
    for check in CHECKS:
        assert Path(inspect.getfile(type(check))).name.startswith(check.code.lower())
        assert Path(__file__).with_name(f"test_{check.code.lower()}.py").is_file()
        assert (PAGES / f"{check.code}.md").is_file()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_it_says_what_it_is_and_what_to_do(check: Check) -> None:
    said = inspect.getdoc(type(check)) or ""
    assert re.search(r"\n\n\*\*What to do\.\*\* \S", said) and said.partition("\n\n")[0].endswith(".")
    assert check.title and not check.title.endswith(".")
    assert isinstance(check, AlarmCheck | NoteCheck)


def eventful(watcher: Controller) -> Controller:
    """A run in which nearly everything goes wrong, more than once."""
    losses = [2.3 + 0.3 * (i % 15) for i in range(60)] + falling(700, noise=0.2) + falling(600, start=0.5, end=0.9)
    losses[400] = losses[900] = 60.0
    for start in range(0, len(losses), 40):
        feed(watcher, losses[start : start + 40], lr=1e-2, first=start, grad=1.0)
        watcher.probe(start + 40, probe(update_ratio=0.3, sign=0.9, effective_lr=1.0 / (1 + start)))
        watcher.validate(start + 40, 1.0 + abs(start - 200) / 500)
    watcher.end(len(losses), "over")
    return watcher


@pytest.mark.parametrize("act", [True, False])
def test_a_check_speaks_once_a_phase_of_the_lr(act: bool) -> None:
    watcher = eventful(controller(act=act, run={"rule": "adagrad"}))
    codes = [own.code for own in watcher.news if isinstance(own, Note) and "bad" not in own.said]
    assert len(set(codes)) >= 5
    assert sorted(codes) == sorted(set(codes))  # the lr is the same throughout: one phase


def test_what_checks_say_is_plain_data_and_a_sentence() -> None:
    for own in eventful(controller(act=True)).news:
        data = json.loads(json.dumps(own.to_json(), allow_nan=False))
        assert type(own).from_json(data) == own
        assert own.said and not own.said.endswith(".")
        assert not isinstance(own, Note) or own.move


def test_each_check_says_how_it_stands() -> None:
    stands = eventful(controller(act=False)).checks()
    assert list(stands) == [check.code for check in CHECKS]
    assert any(said.startswith("spoke") for said in stands.values()) and "quiet" in stands.values()
