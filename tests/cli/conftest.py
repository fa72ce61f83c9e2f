"""The command line in this process, with a finder that trains nothing."""

import math
import sys
from types import SimpleNamespace

import pytest

from etascope import finder
from etascope.cli import main
from etascope.records import Curve, Engine, Finding, Predicted, Rung, Sweep, Unanswered

COMMON = {
    "task": "digits",
    "horizon": 100,
    "seed": 0,
    "init_loss": 2.3,
    "engine": Engine("loop", 1, 1, "cpu"),
    "cost": 0.5,
    "eval_s": 0.1,
    "wall_s": 1.0,
    "versions": {"etascope": "0.1.0"},
}
LOSSES = {1e-3: 2.0, 1e-2: 0.5, 1e-1: 0.9, 1.0: math.inf}


def rung():
    return Rung(
        100,
        tuple(
            Curve(lr, 0, 100, loss, None if math.isfinite(loss) else 7, 100, ((1, 2.3), (100, loss)))
            for lr, loss in LOSSES.items()
        ),
    )


def make_finding(**changes):
    lrs = tuple(LOSSES)
    predicted = Predicted(lrs, *(3 * ((2.0, 0.5, 0.9, 2.3),)))
    return Finding(
        **(
            COMMON
            | {
                "rungs": (rung(),),
                "lr": 0.01,
                "interval": (5e-3, 2e-2),
                "zone": (6e-3, 1.5e-2),
                "edge": 1.0,
                "loss": 0.5,
                "budget": 1.0,
                "drift": 0.0,
                "noise": 0.01,
                "predicted": predicted,
            }
            | changes
        )
    )


def make_sweep():
    return Sweep(**COMMON, rungs=(rung(),))


def make_unanswered():
    return Unanswered(**COMMON, rungs=(rung(),), reason="every learning rate diverges, down to 1e-9", budget=1.0)


@pytest.fixture
def records():
    """Makers of small records."""
    return SimpleNamespace(finding=make_finding, sweep=make_sweep, unanswered=make_unanswered)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, forgotten with all that was imported from it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def cli(here, monkeypatch, capfd):
    """Call `etascope ARGS`; what it gives has `code`, `out`, `err`, read from the file descriptors."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["etascope", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return SimpleNamespace(code=stop.value.code or 0, out=out, err=err)

    return call


@pytest.fixture
def fake(monkeypatch):
    """Put `act(task, **options)` in the place of a verb of the finder; gives the list of calls."""

    def put(act, verb="find"):
        calls = []

        def stand_in(task, **options):
            calls.append((task, options))
            return act(task, **options)

        monkeypatch.setattr(finder, verb, stand_in)
        return calls

    return put
