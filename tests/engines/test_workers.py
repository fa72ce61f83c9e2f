"""Several processes: the same curves as in one, whatever happens to a process."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, cross_entropy, lanes_of, largest_gap, setting, small_task
from torch import Tensor, nn

import etascope as eta
from etascope.engines.base import Setting
from etascope.engines.choose import Chosen
from etascope.engines.lanes import Lanes
from etascope.engines.loop import Loop
from etascope.engines.prepared import Prepared
from etascope.engines.randomness import undisturbed
from etascope.engines.trials import Trial, Tried
from etascope.engines.workers import Ahead, Pool, Workers, sendable
from etascope.errors import EngineError, TaskError
from etascope.records import Curve
from etascope.records import Engine as Ran
from etascope.schedules import as_schedule
from etascope.task import Task

workers_module = importlib.import_module("etascope.engines.workers")
choose_module = importlib.import_module("etascope.engines.choose")  # its name is also that of the function

SETTINGS = [Setting(seed, lr) for seed in (0, 1) for lr in (1e-3, 1e-2, 1e-1, 1e9)]


def trained(engine: Any, steps: int = 12) -> tuple[dict[tuple[int, float], Curve], int]:
    """Curves by setting, and the training steps that progress was told of."""
    told: list[int] = []
    units = engine.units(SETTINGS)
    assert sorted(s for unit in units for s in unit) == sorted(SETTINGS)
    results = dict(engine.train_each(units, steps, 0, lambda n, *_: told.append(n)))
    assert results.keys() == set(range(len(units)))
    return {(c.seed, c.lr): c for done in results.values() for c in done.curves}, sum(told)


def workers(task: Task, engine: str = "loop") -> Workers:
    return Workers(Prepared(task, CPU), Ran(engine, 2 if engine == "lanes" else 1, 1, "cpu", workers=2))


@pytest.mark.parametrize("engine", ["loop", "lanes"])
def test_the_same_curves_as_in_one_process(engine: str) -> None:
    side_by_side = workers(small_task("dropout"), engine)
    try:
        found, told = trained(side_by_side)
    finally:
        side_by_side.close()
    alone = (Lanes if engine == "lanes" else Loop)(side_by_side.prepared, replace(side_by_side.ran, workers=1))
    assert found == trained(alone)[0]
    assert told == sum(c.trained for c in found.values())
    assert any(c.diverged for c in found.values())


def smoothed(model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=label_smoothing)


def folds(seed: int, fold: int = 0) -> Iterator[Any]:
    return iter(batches("linear", seed=100 * fold + seed % 100))


def test_lanes_with_options_give_the_loops_curves() -> None:
    def halved(t: int) -> float:
        return 0.5 ** (t / 6)

    given: list[dict[str, Any]] = [
        {"momentum": 0.5, "schedule": eta.cosine()},
        {"nesterov": True, "weight_decay": 0.01},
        {"label_smoothing": 0.1, "fold": 1},
        {"schedule": as_schedule(halved), "fold": 2},
    ]
    settings = [setting(lr, seed, **options) for seed in (0, 1) for lr in (1e-2, 3e-2) for options in given]
    task = small_task(loss=smoothed, train=folds, horizon=20)
    side_by_side = workers(task, "lanes")
    try:
        units = side_by_side.units(settings)
        found = dict(side_by_side.train_each(units, 20, 0, lambda *_: None))
        assert side_by_side._pool is not None
    finally:
        side_by_side.close()
    truth, alone = Loop(side_by_side.prepared, side_by_side.ran), Lanes(side_by_side.prepared, side_by_side.ran)
    for i, unit in enumerate(units):
        assert found[i].curves == alone.train(unit, 20, 0, lambda *_: None).curves
        loops = truth.train(unit, 20, 0, lambda *_: None).curves
        assert [c.options for c in found[i].curves] == [s.written() for s in unit]
        assert largest_gap(found[i].curves, loops) < 1e-4


def test_a_schedule_that_cannot_be_sent_is_trained_here() -> None:
    lock = threading.Lock()

    def locked(t: int) -> float:
        with lock:
            return 1.0

    settings = [setting(lr, schedule=as_schedule(locked)) for lr in (1e-3, 1e-2)]
    side_by_side = workers(small_task())
    found = dict(side_by_side.train_each([[s] for s in settings], 5, 0, lambda *_: None))
    assert side_by_side._pool is None and len(found) == 2
    reason = sendable(side_by_side.prepared, settings)
    assert isinstance(reason, str) and "lock" in reason


@pytest.mark.parametrize(("gain", "words"), [(1e9, "; one process: 2 were no faster"), (1e-9, "2 processes")])
def test_it_is_said_why_there_are_not_several(monkeypatch: pytest.MonkeyPatch, gain: float, words: str) -> None:
    monkeypatch.setattr(choose_module, "GAIN", gain)
    monkeypatch.setattr(choose_module, "WORTH_STARTING_S", 0)
    monkeypatch.setattr(choose_module, "WORTH_PROCESSES_S", 0)
    monkeypatch.setattr(choose_module, "cores", lambda: 2)
    settings = [setting(lr, nesterov=True, momentum=m) for lr in (1e-3, 1e-2) for m in (0.5, 0.9)]
    chosen = choose_module.choose(Prepared(small_task(), CPU), "auto", 0, 4000, settings=settings)
    chosen.engine.close()
    assert words in chosen.engine.ran.why


class Played:
    """A pool of one other process, whose trials take as long as those here."""

    def __init__(self, *_: Any) -> None:
        self.closed = False

    def __len__(self) -> int:
        return 1

    def greet(self) -> None:
        return None

    def ask(self, jobs: Any, tick: Any, here: Any) -> Any:
        return ((i, here(job, tick)) for i, job in enumerate(jobs))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("side_by_side_s", "threaded_s", "workers", "threads"),
    [
        (1.0, 0.1, 2, 1),  # all that two cores have: threads are not tried
        (1.6, 0.6, 1, 2),  # two at once slow each other down, and threads do not
        (1.6, 0.79, 2, 1),
        (1.99, 0.9, 1, 1),
        (1.99, 0.5, 1, 2),
    ],
)
def test_processes_are_tried_before_threads_and_threads_where_these_fall_short(
    monkeypatch: pytest.MonkeyPatch, side_by_side_s: float, threaded_s: float, workers: int, threads: int
) -> None:
    calls = []

    def try_out(prepared: Any, kinds: Any, samples: Any, allowed: float, run: int, **how: Any) -> Tried:
        counts = how.get("counts")
        calls.append(counts)
        together = len(calls) in (3, 4)  # the first look, trials of one process, then both
        step_s = threaded_s if counts == (2,) else side_by_side_s if together else 1.0
        return Tried([Trial("loop", 1, counts[0], step_s)], 3)

    monkeypatch.setattr(choose_module, "try_out", try_out)
    pools: list[Played] = []

    class Noted(Played):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            pools.append(self)

    monkeypatch.setattr(choose_module, "Pool", Noted)
    monkeypatch.setattr(choose_module, "cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    task = small_task(loss=asks)
    engine = choose_module.choose(Prepared(task, CPU), "auto", 0, 4000, settings=lanes_of([0.01, 0.1])).engine
    assert (engine.ran.workers, engine.ran.threads) == (workers, threads)
    assert (2,) not in calls[:4]
    assert [pool.closed for pool in pools] == [workers == 1]


def asks(model: nn.Module, batch: Any) -> Tensor:
    loss = cross_entropy(model, batch)
    return loss if loss > 0 else -loss  # which no lanes can


def deadly(model: nn.Module, batch: Any) -> Tensor:
    if os.environ.get("OMP_NUM_THREADS") == "1" and os.getppid() == int(os.environ["ETASCOPE_TEST_PARENT"]):
        os._exit(9)
    return cross_entropy(model, batch)


# -------------------------------------------------------------------- how a process ends, played by a small one

ACTOR = """
import os, pathlib, pickle, sys, time
inbox, outbox = sys.stdin.buffer, sys.stdout.buffer
def send(kind, value):
    outbox.write(pickle.dumps((kind, value)))
    outbox.flush()
pickle.load(inbox)
send("ready", None)
while True:
    _, (end, lives, until) = pickle.load(inbox)
    send("tick", (3, 1))
    while until and os.path.exists(f"{sys.argv[1]}/{until}"):
        time.sleep(0.1)
    time.sleep(0.5 if until else 0)
    for life in range(lives):  # a file for each that is left: to take it away is to lose it
        try:
            os.unlink(f"{sys.argv[1]}/{end}{life}")
        except FileNotFoundError:
            continue
        if end == "half an answer":
            outbox.write(pickle.dumps(("done", "x" * 100))[:50])
            outbox.flush()
        elif end == "silence":
            os.close(1)
            time.sleep(100)
        os._exit(7)
    send("tick", (4,))
    send("done", end)
"""


class Actors(Pool):
    """A pool whose processes end as their jobs, (end, lives, until), say: so often, once that file is gone."""

    def __init__(self, folder: Path, count: int, starts: int = 99) -> None:
        self.folder, self.starts = folder, starts
        super().__init__(b"", "cpu", count)
        assert self.greet() is None

    def _started(self) -> subprocess.Popen[bytes]:
        if self.starts == 0:
            raise OSError("Resource temporarily unavailable")
        self.starts -= 1
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", ACTOR, str(self.folder)], **pipes)

    def play(self, jobs: list[tuple[str, int, str]]) -> tuple[dict[int, str], int]:
        """Answers by job, and what progress was told of."""
        for end, lives, _ in jobs:
            for life in range(lives):
                (self.folder / f"{end}{life}").touch()
        self.answers: dict[int, str] = {}
        told: list[int] = []
        for i, answer in self.ask([("play", job) for job in jobs], lambda n, *_: told.append(n)):
            self.answers[i] = answer
        return self.answers, sum(told)


@pytest.mark.parametrize("end", ["at once", "half an answer", "silence"])
def test_however_a_process_ends_its_job_is_done_again(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("etascope.engines.workers"), "DYING_S", 0.2)
    with closing(Actors(tmp_path, 2)) as pool:
        assert pool.play([(end, 1, ""), ("well", 0, ""), ("well", 0, "")]) == ({0: end, 1: "well", 2: "well"}, 21)
        assert pool.play([("well", 0, "")] * 2) == ({0: "well", 1: "well"}, 14)


def test_what_is_under_way_is_finished_before_an_error(tmp_path: Path) -> None:
    with closing(Actors(tmp_path, 2)) as pool:
        with pytest.raises(EngineError, match="ended twice, with exit code 7"):
            pool.play([("at once", 2, ""), ("well", 0, "at once1"), ("well", 0, ""), ("well", 0, "")])
        assert pool.answers == {1: "well"}
        assert pool.play([("well", 0, "")] * 3)[0] == dict.fromkeys(range(3), "well")  # none is left waiting


def test_a_process_that_cannot_be_started_again_is_an_error(tmp_path: Path) -> None:
    with closing(Actors(tmp_path, 1, starts=1)) as pool, pytest.raises(EngineError, match="ended twice"):
        pool.play([("at once", 1, "")])


def test_a_process_that_dies_at_the_greeting_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(b"", "cpu", 1)
    pool._processes[0].kill()
    assert pool.greet() == "a worker process ended at once, with exit code -9"
    pool.close()


# ------------------------------------------------------------------------------------------------ a killed sweep


class Killed:
    """A loss whose process is killed at its twelfth call, as long as there are files to take away."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.parent, self.calls = folder, os.getpid(), {os.getpid(): 0}

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        pid = os.getpid()
        self.calls[pid] = self.calls.get(pid, 0) + 1
        if self.calls[pid] == 12 and pid != self.parent:
            for left in self.folder.iterdir():
                with suppress(FileNotFoundError):  # another process was first
                    left.unlink()
                    os.kill(pid, signal.SIGKILL)
        return cross_entropy(model, batch)


def test_a_sweep_whose_processes_are_killed_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = tmp_path / "kills"
    kills.mkdir()
    task = small_task("dropout", loss=Killed(kills), horizon=60)
    ran = Ran("lanes", 2, 1, "cpu", "asked for", 2)
    monkeypatch.setattr(
        "etascope.finder.opening.choose", lambda prepared, *_, **__: Chosen(Workers(prepared, ran), 0, 0.0)
    )

    def swept(out: Path | None, deaths: int) -> eta.Sweep:
        for k in range(deaths):
            (kills / str(k)).touch()
        return eta.sweep(task, lrs=[1e-3, 1e-2, 1e-1, 1e9], seeds=(0, 1), out=out, progress=False)

    with monkeypatch.context() as alone:
        alone.setattr(Workers, "_started", lambda *_: None)
        truth = swept(None, 0)
    with pytest.raises(EngineError, match=r"ended twice, with exit code -9, at \{lr: .* of 60 steps"):
        swept(tmp_path / "run", 2)  # once, while at it, and then again
    journal = tmp_path / "run" / "journal.jsonl"
    assert 1 + 1 <= len(journal.read_text().splitlines()) < 1 + 4  # what the others had done, and were at
    found = swept(tmp_path / "run", 0)
    assert not list(kills.iterdir())
    assert found.rungs == truth.rungs  # to the bit
    assert found.cost == truth.cost
    assert len(journal.read_text().splitlines()) == 1 + 4


def test_processes_that_die_in_trials_leave_one_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETASCOPE_TEST_PARENT", str(os.getpid()))
    monkeypatch.setattr(choose_module, "WORTH_STARTING_S", 0)
    monkeypatch.setattr(choose_module, "WORTH_PROCESSES_S", 0)
    monkeypatch.setattr(choose_module, "cores", lambda: 2)
    chosen = choose_module.choose(Prepared(small_task(loss=deadly), CPU), "auto", 0, 4000)
    assert not isinstance(chosen.engine, Workers)
    assert "; one process: a worker process ended at once, with exit code 9" in chosen.engine.ran.why


def test_other_processes_compute_in_the_modes_of_this_one() -> None:
    """Types at init and the flushing of denormals, which a race sets in this process."""

    def faint(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, (batch[0] * 1e-38, batch[1]))

    task = small_task(loss=faint, optimizer=partial(torch.optim.Adam, eps=1e-40))
    side_by_side = workers(task)
    torch.set_default_dtype(torch.float64)
    try:
        with undisturbed():
            found = trained(side_by_side)[0]
            truth = trained(Loop(side_by_side.prepared, side_by_side.ran))[0]
    finally:
        torch.set_default_dtype(torch.float32)
        side_by_side.close()
    assert found == truth
    assert trained(Loop(side_by_side.prepared, side_by_side.ran))[0] != truth  # they do make a difference


def faulty(model: nn.Module, batch: Any) -> Tensor:
    raise KeyError("there is no such column")


def test_what_the_users_code_raises_is_raised_here() -> None:
    side_by_side = workers(small_task(loss=faulty))
    with pytest.raises(TaskError, match="no such column"):
        trained(side_by_side)
    side_by_side.close()


def test_a_task_that_cannot_be_sent_is_trained_here() -> None:
    lock = threading.Lock()

    def locked(model: nn.Module, batch: Any) -> Tensor:
        with lock:
            return cross_entropy(model, batch)

    side_by_side = workers(small_task(loss=locked))
    reason = sendable(side_by_side.prepared)
    assert isinstance(reason, str) and "cannot be sent" in reason and "lock" in reason
    assert trained(side_by_side)[0] == trained(Loop(side_by_side.prepared, side_by_side.ran))[0]


def test_a_process_that_cannot_take_the_task_says_why() -> None:
    pool = Pool(b"no pickle", "cpu", 1)
    reason = pool.greet()
    pool.close()
    assert reason is not None and "cannot take the task" in reason


SCRIPT = """
import torch, etascope as eta
from etascope.engines import choose
import sys
module = sys.modules["etascope.engines.choose"]
module.WORTH_STARTING_S = module.WORTH_PROCESSES_S = 0
module.GAIN = 0.01
module.ALLOWANCE, module.ENOUGH = 1, 0
from torch import nn
print("started"); torch.manual_seed(0)
data = [(torch.randn(8, 5), torch.randint(3, (8,))) for _ in range(4)]
task = eta.Task(model=lambda: nn.Linear(5, 3), loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]),
                optimizer=torch.optim.SGD, train=data, horizon=300)
sweep = eta.sweep(task, lrs=[1e-3, 1e-2, 1e-1], out=sys.argv[1])
print(sweep.engine.workers, len(sweep.rungs[0].curves))
"""


def test_a_script_needs_no_guard_and_goes_on_where_it_was(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for _ in range(2):
        command = [sys.executable, str(script), str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[:2] == ["started", "2 3"]
    assert len((tmp_path / "run" / "journal.jsonl").read_text().splitlines()) == 1 + 2  # stacks


# ------------------------------------------------------------------------- processes that are started ahead


def alive(processes: list[Any]) -> list[bool]:
    return [process.poll() is None for process in processes]


def test_who_is_not_taken_is_ended_and_who_is_goes_on() -> None:
    with Ahead(2) as ahead:
        all_of_them = list(ahead._processes)
        taken = ahead.take()
        assert taken is not None and alive(all_of_them) == [True, True]
    assert sorted(alive(all_of_them)) == [False, True]
    assert ahead.take() is None
    prepared = Prepared(small_task(), CPU)
    payload = sendable(prepared)
    assert isinstance(payload, bytes)
    again = Ahead(0)
    again._processes.append(taken)
    with closing(Pool(payload, "cpu", 1, again)) as pool:
        assert pool._processes == [taken] and pool.greet() is None
    assert alive([taken]) == [False]


@pytest.mark.parametrize("what", ["success", "a fault", "too few steps"])
def test_none_that_was_started_ahead_is_left(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    started: list[Any] = []
    start = workers_module._start
    monkeypatch.setattr(workers_module, "_start", lambda: started.append(start()) or started[-1])
    monkeypatch.setattr(choose_module, "cores", lambda: 2)

    def faulty(model: nn.Module, batch: Any) -> Tensor:
        raise KeyError("x")

    task = small_task(
        loss=faulty if what == "a fault" else cross_entropy, horizon=4 if what == "too few steps" else 1000
    )
    with suppress(TaskError):
        eta.sweep(task, lrs=[1e-3, 1e-2], progress=False)
    assert len(started) == (what != "too few steps")
    assert not any(alive(started))
