import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from etascope.cli import main


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
