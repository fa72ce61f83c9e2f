"""Several processes that train one model: each has a watch, and all have to decide alike."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch


@pytest.mark.slow
@pytest.mark.parametrize("how", ["plain", "accelerate"])
def test_two_processes_decide_alike(how: str) -> None:
    if how == "accelerate" and not importlib.util.find_spec("accelerate"):
        pytest.skip("needs accelerate: pip install etascope[all]")
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([sys.executable, script, how, port], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    first, second = said["ended"]
    assert first["decisions"] == second["decisions"] and first["weights"] == second["weights"]  # to the bit
    made = [(code, action) for _, code, action, _ in first["decisions"]]
    assert made[:3] == [("ETA003", "skip"), ("ETA003", "skip"), ("ETA003", "rewind")]  # noise in the second's data
    assert made[3] == ("ETA001", "skip")  # NaN in the first's
    assert first["updates"] == second["updates"] == 300 and first["scale"] == second["scale"] == 0.5
    assert max(first["final"], second["final"]) < 0.1  # their running statistics differ, as their data do
    assert said["logs"] == (["watch.jsonl", "watch.rank1.jsonl"] if how == "plain" else ["run.jsonl"])
