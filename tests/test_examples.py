"""The examples run as they stand, each in a process of its own."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted(Path(__file__).parents[1].joinpath("examples").glob("*.py"))


SAYS = {"watched_loop": "the decisions are the same: True"}
NEEDS = {"huggingface_trainer": "transformers", "lightning_module": "lightning", "keras_model": "keras"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(path, tmp_path):
    if path.stem in NEEDS and importlib.util.find_spec(NEEDS[path.stem]) is None:
        pytest.skip(f"needs {NEEDS[path.stem]}, of etascope[all]")
    done = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert SAYS.get(path.stem, "use lr") in done.stdout
    left = [p.name for p in tmp_path.rglob("*")]
    assert left == (["gpt2"] if path.stem == "huggingface_trainer" else [])  # a Trainer makes its output_dir itself
