"""The examples run as they stand, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, tmp_path):
    if path.stem in ("huggingface_trainer", "lightning_module"):
        pytest.importorskip("lightning" if "lightning" in path.stem else "transformers", reason="needs etascope[all]")
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert "use lr" in done.stdout
    assert not list(tmp_path.iterdir()) or path.stem == "lightning_module"
