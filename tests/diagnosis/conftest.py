import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from etascope.cli import main
from etascope.diagnosis import diagnosing


@pytest.fixture
def unjudged(monkeypatch):
    """No trees are fitted: what is read and noted is the same."""
    p = {"too low": 0.1, "fine": 0.7, "too high": 0.1, "not the learning rate": 0.1}
    monkeypatch.setattr(diagnosing, "predict", lambda features, losses: p)


@pytest.fixture
def cli(monkeypatch, capfd):
    """Call `etascope ARGS`; what it gives has `code`, `out`, `err`."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["etascope", *map(str, args)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capfd.readouterr()
        return SimpleNamespace(code=stop.value.code or 0, out=out, err=err)

    return call
