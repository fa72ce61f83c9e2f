"""`etascope` as a process of its own."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest


def start(*args, cwd, **how):
    return subprocess.Popen(
        [sys.executable, *args], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
    )


@pytest.mark.parametrize("command", ["--help", "tasks", "--version"])
def test_no_torch_for(command, tmp_path):
    process = start("-X", "importtime", "-m", "etascope", command, cwd=tmp_path)
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
    process = start("-m", "etascope", "find", "fun.py", "--json", "--out", "o", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode in (0, 3), err
    assert json.loads(out) == json.loads((tmp_path / "o" / "finding.json").read_text())
    assert "noise" in err and (tmp_path / "o" / "report.html").is_file()


def test_ctrl_c_and_on(tmp_path):
    (tmp_path / "fun.py").write_text(FUNCTION.replace("PAUSE", "0.1"))
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell has what it starts with & ignore Ctrl-C
    process = start("-m", "etascope", "find", "fun.py", "--out", "o", cwd=tmp_path, preexec_fn=heed)
    for line in process.stderr:
        if line.startswith("rung 1"):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Traceback" not in err and "find fun.py --out o\n" in err and "use lr" in out
    again = start("-m", "etascope", "find", "fun.py", "--out", "o", cwd=tmp_path)
    again.communicate()
    assert again.returncode in (0, 3)


LEARNS = """
horizon = 100
def run(lr, steps, seed):
    return 2 / (1 + steps * lr) + lr if lr < 1 else float("inf")
"""


def shell(line, cwd, **env):
    """A line of shell in which $E is etascope; gives (exit code, output, errors)."""
    line = line.replace("$E", f"{sys.executable} -m etascope")
    got = subprocess.run(["sh", "-c", line], cwd=cwd, capture_output=True, env=os.environ | env)
    return got.returncode, got.stdout, got.stderr


def test_an_encoding_without_minus_gets_look_alikes(tmp_path):
    text = 'import etascope.cli.output as o; o.prepare_streams(); o.say("−1.5 × [▁▂█] … η 語")'
    ascii_only = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    code, out, err = shell(f"{sys.executable} -c '{text}'", tmp_path, **ascii_only)
    assert (code, out.decode("ascii")) == (0, "-1.5 x [_.#] ... eta ?\n"), err
    (tmp_path / "fun.py").write_text(LEARNS)
    code, out, err = shell("$E find fun.py --out o", tmp_path, **ascii_only)
    assert code == 0 and b"?" not in out + err


def test_without_streams(tmp_path):
    (tmp_path / "fun.py").write_text(LEARNS)
    code, out, _ = shell("$E find fun.py --json --out o 2>&-", tmp_path)
    assert code == 0 and json.loads(out) == json.loads((tmp_path / "o" / "finding.json").read_text())
    code, out, _ = shell("$E find nothing.py 2>&-", tmp_path)
    assert (code, out) == (2, b"")
    code, _, err = shell("$E find fun.py --out p >&-", tmp_path)
    assert code == 0 and b"Traceback" not in err
    code, _, err = shell("$E find fun.py --out q <&- >&- 2>&-", tmp_path)
    assert code == 0 and (tmp_path / "q" / "report.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output(tmp_path):
    (tmp_path / "fun.py").write_text(LEARNS)
    for line in ("$E --help", "$E tasks", "$E find fun.py --out o"):
        code, _, err = shell(f"{line} > /dev/full", tmp_path)
        assert code == 2 and b"Error: cannot write to standard output: No space left" in err and b"Traceback" not in err
    assert (tmp_path / "o" / "finding.json").is_file() and (tmp_path / "o" / "report.html").is_file()


@pytest.mark.parametrize("size", [100, 3_000, 20_000])
def test_a_full_disk(tmp_path, size):
    resource = pytest.importorskip("resource")
    (tmp_path / "fun.py").write_text(LEARNS)
    find = ["-m", "etascope", "find", "fun.py", "--out"]

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    stopped = start(*find, "o", cwd=tmp_path, preexec_fn=limited)
    _, err = stopped.communicate()
    assert stopped.returncode == 2 and "cannot write" in err and "File too large" in err and "Traceback" not in err
    findings = []
    for out in ("o", "whole"):
        process = start(*find, out, cwd=tmp_path)
        assert process.communicate() and process.returncode == 0
        data = json.loads((tmp_path / out / "finding.json").read_text())
        findings.append({k: v for k, v in data.items() if k not in ("wall_s", "eval_s")})
    assert findings[0] == findings[1]


def test_a_loaded_record_shows_itself(tmp_path):
    (tmp_path / "fun.py").write_text(LEARNS)
    shell("$E find fun.py --out o", tmp_path)
    code = 'import etascope as eta; f = eta.load("o"); print(f); assert "<svg" in f._repr_html_()'
    got, out, err = shell(f"{sys.executable} -c '{code}'", tmp_path)
    assert got == 0 and out.startswith(b"fun: use lr "), err


def test_a_reader_that_goes_away(tmp_path):
    process = start("-m", "etascope", "tasks", cwd=tmp_path)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
