"""The run folder: whose it is, who may write in it, and what a continued run must agree with."""

import json
import math
import os
import signal
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import etascope as eta
from etascope.workloads import get


def run(lr, steps, seed):
    return 1.0 / (1 + lr * steps) + 0.1 * lr if lr < 1 else math.inf


find = partial(eta.find, run, horizon=100, init_loss=1.0)
sweep = partial(eta.sweep, run, horizon=20, lrs=[1e-3, 1e-2], init_loss=1.0)


@pytest.fixture(scope="module")
def found():
    return find()


def linear_task(**changes):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    batches = [(x[i : i + 16], (x[i : i + 16, 0] > 0).long()) for i in range(0, 64, 16)]
    options = {
        "model": partial(torch.nn.Linear, 4, 2),
        "loss": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        "optimizer": partial(torch.optim.SGD, momentum=0.5),
        "train": batches,
        "val": batches[:1],
        "horizon": 100,
    }
    return eta.Task(**(options | changes))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("optimizer", {"optimizer": partial(torch.optim.SGD, momentum=0.9)}),
        ("groups", {"params": lambda m: [{"params": m.weight}, {"params": m.bias, "lr_scale": 2.0}]}),
        ("schedule", {"schedule": eta.cosine()}),
        ("init_loss", {"loss": lambda model, batch: 2 * F.cross_entropy(model(batch[0]), batch[1])}),
    ],
)
def test_a_changed_task_does_not_get_the_old_answer(tmp_path, key, change):
    eta.find(linear_task(), out=tmp_path, budget=0.2)
    with pytest.raises(eta.RecordError, match=f"its {key} is"):
        eta.find(linear_task(**change), out=tmp_path, budget=0.2)
    eta.find(linear_task(), out=tmp_path, budget=0.2)


@pytest.mark.parametrize("content", [b"somebody's notes\nand more", b'{"schema": "other"}\n{"torn', b"\xff\x00"])
def test_a_foreign_journal_is_left_as_it_is(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(eta.RecordError, match="not a journal of etascope") as caught:
        find(out=tmp_path)
    assert path.read_bytes() == content
    assert "--out" in caught.value.next_move


@pytest.mark.parametrize("content", [b"", b'{"sch', b'{"schema": "etascope.journal/1", "verb": "fi'])
def test_a_journal_torn_in_its_first_line_begins_anew(tmp_path, content, found):
    (tmp_path / "journal.jsonl").write_bytes(content)
    assert find(out=tmp_path).lr == found.lr


@pytest.mark.parametrize("verb", [find, sweep])
@pytest.mark.parametrize("name", ["finding.json", "sweep.json"])
def test_a_record_without_its_journal_is_not_overwritten(tmp_path, verb, name, found):
    for content in ("{}", json.dumps(found.to_json())):
        (tmp_path / name).write_text(content)
        with pytest.raises(eta.RecordError, match="without the journal"):
            verb(out=tmp_path)
        assert (tmp_path / name).read_text() == content


def test_a_refused_budget_leaves_no_journal(tmp_path):
    with pytest.raises(eta.OptionError, match="smallest look"):
        find(budget=0.001, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    find(budget=0.5, out=tmp_path)


def test_a_folder_is_free_again_after_whatever_happened(tmp_path):
    with pytest.raises(eta.TaskError):
        eta.find(lambda lr, steps, seed: None, horizon=100, init_loss=1.0, out=tmp_path / "a")
    with pytest.raises(eta.RecordError, match="another run"):  # and not that somebody runs in it
        find(horizon=50, out=tmp_path / "a")
    assert find(out=tmp_path / "b").lr == find(out=tmp_path / "b").lr


def test_a_second_one_in_the_same_folder_is_refused(tmp_path):
    refused = []

    def nested(lr, steps, seed):
        if not refused:
            with pytest.raises(eta.RecordError, match="another etascope is running in") as caught:
                find(out=tmp_path)
            refused.append(caught.value)
        return run(lr, steps, seed)

    eta.find(nested, horizon=100, init_loss=1.0, out=tmp_path)
    assert refused


def test_a_child_of_a_killed_run_does_not_keep_the_folder(tmp_path):
    script = f"""
import multiprocessing, os, signal, time
import etascope as eta
fork = multiprocessing.get_context("fork")
alive = fork.Event()  # a child that has not run yet has closed nothing
def wait():
    alive.set()
    time.sleep(30)
def run(lr, steps, seed):
    child = fork.Process(target=wait)
    child.start()
    alive.wait()
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
eta.find(run, horizon=100, init_loss=1.0, out={str(tmp_path)!r})
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.wait()
    try:
        find(out=tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(eta.RecordError, match="taken is a file, not a folder") as caught:
        find(out=tmp_path / "taken")
    assert "--out" in caught.value.next_move


def test_a_continued_run_keeps_to_the_engine(tmp_path):
    eta.find(get("breast-cancer"), budget=0.2, engine="loop", out=tmp_path)
    with pytest.raises(eta.OptionError, match="begun with 'loop'"):
        eta.find(get("breast-cancer"), budget=0.2, engine="lanes", out=tmp_path)
