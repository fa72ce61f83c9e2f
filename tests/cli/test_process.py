"""`etascope` as a process of its own."""

import json
import signal
import subprocess
import sys

import pytest


def start(*args, cwd, **how):
    return subprocess.Popen(
        [sys.executable, *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


@pytest.mark.parametrize("command", ["--help", "tasks", "--version"])
def test_no_torch_for(command, tmp_path):
    process = start("-X", "importtime", "-m", "etascope.cli", command, cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 0 and out
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "etascope.cli.app" in imported
    assert not imported & {"torch", "rich", "jinja2", "sklearn"}


FUNCTION = """
import math, os, time
horizon = 100
def run(lr, steps, seed):
    print("noise"); os.write(1, b"more noise\\n"); time.sleep(PAUSE)
    if lr > 1: return math.inf
    return 2 / (1 + steps * lr) + lr * 0.1 + 1e-3 * seed
"""


def test_find_with_a_training_function_that_prints(tmp_path):
    (tmp_path / "fun.py").write_text(FUNCTION.replace("PAUSE", "0"))
    process = start("-m", "etascope.cli", "find", "fun.py", "--json", "--out", "o", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode in (0, 3), err
    assert json.loads(out) == json.loads((tmp_path / "o" / "finding.json").read_text())
    assert "noise" in err and (tmp_path / "o" / "report.html").is_file()


def test_ctrl_c_and_on(tmp_path):
    (tmp_path / "fun.py").write_text(FUNCTION.replace("PAUSE", "0.1"))
    process = start("-m", "etascope.cli", "find", "fun.py", "--out", "o", cwd=tmp_path)
    for line in process.stderr:
        if line.startswith("rung 1"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err and "find fun.py --out o\n" in err and "use lr" in out
    again = start("-m", "etascope.cli", "find", "fun.py", "--out", "o", cwd=tmp_path)
    again.communicate()
    assert again.returncode in (0, 3)


def test_a_reader_that_goes_away(tmp_path):
    process = start("-m", "etascope.cli", "tasks", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
