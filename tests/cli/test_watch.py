"""`etascope watch`."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from rich.console import Console

import etascope as eta
from etascope.cli.run_view import RunView, sparkline
from etascope.cli.watch import follow
from etascope.watcher import read_log

HORIZON = 300


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The log of a run with a bad batch, three bad ones in a row, and somebody else's lr."""
    path = tmp_path_factory.mktemp("run") / "run.jsonl"
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    handle = eta.attach(eta.warmup("5%") >> eta.cosine(), sgd, lr=0.1, horizon=HORIZON)
    bad = {100: float("nan"), 200: 1e3, 201: 1e3, 202: 1e3}
    with eta.watch(net, sgd, schedule=handle, act=True, log=path, probe_every=20) as w:
        for seen, x in enumerate(w.batches([torch.randn(16, 4) for _ in range(10)])):
            if seen == 150:
                sgd.param_groups[0]["lr"] = 3.0
            sgd.zero_grad()
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean() + bad.get(seen, 0.0)
            loss.backward()
            w.observe(loss + 0.1 * torch.rand(()))
            if seen % 50 == 49:
                w.validate(2.0 - seen / HORIZON)
            sgd.step()
    return path


def test_a_summary_where_there_is_no_terminal(cli, log):
    got = cli("watch", log)
    assert (got.code, got.err) == (0, "")
    assert got.out.startswith("SGD · warmup('5%') >> cosine() · peak lr 0.1 · acting: rewind(), follow()\n")
    assert "step 300 of 300 (100%)" in got.out and "the run is over" in got.out and "validation 1" in got.out
    assert "▲ step 100: the loss is nan" in got.out and "; ETA001" in got.out and "rewound to step" in got.out
    assert "  → Look at the batch before this step." in got.out
    assert any(c in got.out for c in "▁▂▃")


def test_json(cli, log):
    data = json.loads(cli("watch", log, "--json").out)
    assert data["step"] == data["horizon"] == HORIZON and data["ended"] == "over" and data["act"] is True
    assert {d["code"] for d in data["decisions"]} >= {"ETA001", "ETA003", "ETA013"}
    assert len(data["validations"]) >= 5 and data["damaged"] == ""


def test_why(cli, log):
    got = cli("watch", log, "--why", 290)
    assert got.out.startswith("step 290: lr ") and "rewind 0.5" in got.out and "rewound to step" in got.out
    data = json.loads(cli("watch", log, "--why", 290, "--json").out)
    assert data["exact"] is True and data["peak"] * data["scale"] * data["schedule"] == data["lr"]
    got = cli("watch", log, "--why", 1000)
    assert (got.code, got.out) == (2, "") and "no step 1000" in got.err


def test_a_replay_is_the_same_to_the_bit(cli, log):
    got = cli("watch", log, "--replay")
    assert got.code == 0 and got.out.startswith("rewind(), follow(), acting:\n")
    assert "the same as in the log, to the bit." in got.out
    data = json.loads(cli("watch", log, "--replay", "--json").out)
    assert data["same"] is True and data["decisions"] == [d.to_json() for d in read_log(log).decisions]


def test_a_changed_log_replays_otherwise(cli, log, here):
    lines = log.read_text().splitlines()
    (here / "other.jsonl").write_text("\n".join(line for line in lines if '"ETA001"' not in line) + "\n")
    assert "not those in the log" in cli("watch", "other.jsonl", "--replay").out


def test_what_other_policies_would_have_done(cli, log):
    got = cli("watch", log, "--replay", "--act", "--policy", "rewind(factor=0.3, skips=0)", "--policy", "plateau")
    assert got.out.startswith("rewind(factor=0.3, skips=0), plateau(), acting:\n")
    assert "rewound to step" in got.out and "is not known" in got.out
    data = json.loads(cli("watch", log, "--replay", "--act", "--policy", "early_stop(patience=0)", "--json").out)
    assert data["same"] is None and {d["policy"] for d in data["decisions"]} <= {"", "early_stop"}


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("rewnd()", "Did you mean 'rewind'?"),
        ("rewind(factor=2)", "rewind(factor=...) is 2."),
        ("rewind(0.3)", "without its name"),
        ("rewind(factor=open('x'))", "is no plain value"),
        ("rewind(speed=1)", "speed"),
        ("__import__('os').system('true')", "is no policy"),
        ("rewind(", "is no policy"),
        ("rewind(**{})", "**"),
    ],
)
def test_policies_that_cannot_be_read(cli, log, policy, said):
    got = cli("watch", log, "--replay", "--policy", policy)
    assert (got.code, got.out) == (2, "") and said in got.err


def test_what_is_no_log(cli, log, here):
    (here / "other.jsonl").write_text('{"epoch": 1, "loss": 2.0}\n')
    for args in (["other.jsonl"], ["other.jsonl", "--replay"], ["nothing.jsonl"], [log, "--act"]):
        got = cli("watch", *args)
        assert (got.code, got.out) == (2, "") and got.err.startswith("Error: ")
    assert "`etascope diagnose other.jsonl`" in cli("watch", "other.jsonl").err


def test_a_log_that_was_cut_off(cli, log, here):
    (here / "cut.jsonl").write_bytes(log.read_bytes()[:-200])
    got = cli("watch", "cut.jsonl")
    assert got.code == 0 and "the last line of cut.jsonl was cut off" in got.out and "is over" not in got.out
    assert "to the bit" in cli("watch", "cut.jsonl", "--replay").out


def test_a_growing_file_is_followed_to_its_end(log, tmp_path):
    path, text = tmp_path / "grow.jsonl", log.read_bytes()
    head = text.index(b"\n") + 1
    path.write_bytes(text[:head])

    def grow():
        for i in range(head, len(text), 1000):  # lines come in pieces
            time.sleep(0.005)
            with path.open("ab") as file:
                file.write(text[i : i + 1000])

    writer = threading.Thread(target=grow)
    shown = io.StringIO()
    writer.start()
    follow(path, Console(file=shown, force_terminal=True, width=100, height=40), pause=0.01)
    writer.join()
    assert "step 300 of 300 (100%)" in shown.getvalue() and "to go" in shown.getvalue()


def test_a_log_begun_anew_is_shown_from_its_beginning(log, tmp_path):
    from etascope.watcher import LogReader

    path = tmp_path / "run.jsonl"
    path.write_bytes(log.read_bytes())
    reader = LogReader(path)
    lines, anew = reader.read()
    assert anew and lines == read_log(path).lines
    assert reader.read() == ([], False)
    (tmp_path / "new").write_bytes(log.read_bytes()[: log.read_bytes().index(b"\n") + 1])
    (tmp_path / "new").replace(path)
    lines, anew = reader.read()
    assert anew and len(lines) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_ctrl_c_leaves_quietly(log, tmp_path):
    path = tmp_path / "run.jsonl"
    path.write_bytes(log.read_bytes()[: log.read_bytes().rindex(b"\n", 0, -2) + 1])  # without its end
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "etascope", "watch", str(path)],
        stdout=theirs, stderr=subprocess.PIPE, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"ETA" not in shown:
        shown += os.read(ours, 4096)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    err = process.stderr.read()
    assert process.wait() == 0 and err == b""


def test_no_torch_is_loaded(log):
    code = (
        f"import sys; sys.argv = ['etascope', 'watch', {str(log)!r}, '--replay']\n"
        "import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr))\n"
        "from etascope.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "False\n"


def test_a_view_of_little(log):
    view = RunView()
    view.take(read_log(log).lines[:1])
    assert "step 0 of 300 (0%)" in view.text()
    assert sparkline([1.0], 5) == "▁" and sparkline([float("nan")] * 3, 2) == "××"
