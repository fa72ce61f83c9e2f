"""All finders on one half of the workloads, each by its own code, each with its cost.

    python benchmarks/finders/run.py --methods tuners,range-tests,default,learning-rate-free --resume
    python benchmarks/finders/run.py --methods etascope --budgets 2,1,.5,.25,.1 --jobs 2 --resume
    python benchmarks/finders/run.py --show

Needs the truths (truth.py), ETASCOPE_DATA and what requirements.txt lists. Appends to benchmarks/results/finders.json
one row for each method, budget, task and seed; with --resume only what is not there is run. A row says what a method
answered and what it took; how good that was is computed by --show, against the truths as they are then.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import math
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from calibration import FACTORS, LEARNING_RATE_FREE, SCALED, named
from learning_rate_free import default, learning_rate_free
from range_tests import RANGE_TESTS, range_test
from table import Table
from truth import HALVES, RESULTS, truth
from tuners import TUNERS, tuner

import etascope as eta
from etascope.finder.session import versions
from etascope.storage import write_atomically
from workloads import workload

STORE = RESULTS / "finders.json"
FAMILIES = {
    "etascope": ("etascope",),
    "tuners": TUNERS,
    "range-tests": RANGE_TESTS,
    "default": ("torch's default lr",),
    "learning-rate-free": LEARNING_RATE_FREE,
    "factors": tuple(named(m, f) for m in LEARNING_RATE_FREE for f in FACTORS),
}
PACKAGES = {  # whose versions the results say
    "tuners": ("optuna",),
    "range-tests": ("torch-lr-finder", "lightning", "fastai"),
    "learning-rate-free": ("prodigyopt", "schedulefree", "dadaptation"),
    "factors": ("prodigyopt", "schedulefree", "dadaptation"),
}
REPEATS = {"default": 1, "learning-rate-free": 3, "factors": 1}  # of the seeds asked for, the first so many


class Job(NamedTuple):
    """One row to make."""

    family: str
    method: str
    budget: float | None
    half: str
    task: str
    seed: int


def key(row: dict) -> tuple:
    """What a row is known by."""
    return row["method"], row["budget"], row["task"], row["seed"]


def row(job: Job) -> dict:
    """Run one method once on one workload."""
    start = time.perf_counter()
    made = ask_etascope(job) if job.family == "etascope" else ask_peer(job)
    return {"method": job.method, "budget": job.budget, "half": job.half, "task": job.task, "seed": job.seed,
            **made, "seconds": round(time.perf_counter() - start, 2)}  # fmt: skip


def ask_etascope(job: Job) -> dict:
    try:
        found = eta.find(workload(job.task), budget=job.budget, seed=job.seed, progress=False, name=job.task)
    except eta.NoAnswer as refused:
        return {"lr": None, "cost": 0.0 if refused.record is None else refused.record.cost, "reason": refused.cause}
    return {"lr": found.lr, "cost": found.cost, "reason": "", "interval": found.interval, "zone": found.zone,
            "edge": found.edge, "edge_interval": found.edge_interval, "predicted": found.loss,
            "engine": found.engine.name}  # fmt: skip


def ask_peer(job: Job) -> dict:
    if job.family == "tuners":
        drawn_from = zlib.crc32(f"{job.method} {job.task} {job.seed}".encode())  # or all workloads get the same lrs
        answer = tuner(job.method, Table(truth(job.task), job.seed), drawn_from)
    elif job.family == "range-tests":
        answer = range_test(job.method, workload(job.task), job.seed)
    elif job.family == "default":
        answer = default(workload(job.task))
    else:
        answer = learning_rate_free(job.method, workload(job.task), job.seed)
    made = {"lr": answer.lr, "cost": round(answer.cost, 4), "reason": answer.reason}
    if job.method in SCALED:
        made["loss"] = answer.loss if math.isfinite(answer.loss) else None
    return made


def jobs(asked: argparse.Namespace) -> Iterator[Job]:
    """What the command line asks for, task by task."""
    for task in asked.tasks or HALVES[asked.half]:
        half = next(half for half, names in HALVES.items() if task in names)
        for family in asked.methods:
            for method in FAMILIES[family]:
                for budget in asked.budgets if family == "etascope" else (None,):
                    for seed in asked.seeds[: REPEATS.get(family, len(asked.seeds))]:
                        yield Job(family, method, budget, half, task, seed)


def stored(path: Path) -> dict:
    """What a results file holds."""
    return json.loads(path.read_text()) if path.exists() else {"made": {}, "rows": []}


def append(path: Path, rows: list[dict], made: dict) -> None:
    """Put rows into the results, each in the place of the one with its key; several processes may do so at a time.

    Args:
        path: the results file.
        rows: what was answered.
        made: by family, when and with which versions.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        results = stored(path)
        together = {key(r): r for r in [*results["rows"], *rows]}
        head = json.dumps(results["made"] | made, indent=1)
        lines = ",\n".join(json.dumps(r, allow_nan=False) for r in together.values())
        write_atomically(path, f'{{"made": {head},\n"rows": [\n{lines}\n]}}\n')
    finally:
        os.close(folder)  # which unlocks it


def made_with(family: str) -> dict:
    """When and with what the rows of a family are made."""
    used = {name: version(name) for name in PACKAGES.get(family, ())}
    return {family: {"date": str(date.today()), "cores": os.cpu_count(), "versions": versions() | used}}


def settle(cores) -> None:
    """Put a worker on one core, with one thread; alone it may use them all, as etascope then does."""
    import torch

    torch.set_num_threads(1)
    if cores is not None:
        os.sched_setaffinity(0, {cores.get()})


def numbers(kind):
    """A list of numbers on the command line: `2,1,.5`, and for whole ones `10-14`."""

    def read(text: str) -> list:
        if kind is int and "-" in text:
            first, last = map(int, text.split("-"))
            return list(range(first, last + 1))
        return [kind(part) for part in text.split(",")]

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("tasks", nargs="*", help="workloads; default: all of the half")
    parser.add_argument("--half", choices=HALVES, default="fresh")
    parser.add_argument("--methods", type=lambda t: t.split(","), default=[], help=", ".join(FAMILIES))
    parser.add_argument("--budgets", type=numbers(float), default=[1.0], help="of etascope, in complete runs")
    parser.add_argument("--seeds", type=numbers(int), default=list(range(10, 15)))
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side, one thread each")
    parser.add_argument("--results", type=Path, default=STORE)
    parser.add_argument(
        "--merge", type=Path, help="results from elsewhere to take in; they replace those of their keys"
    )
    parser.add_argument("--resume", action="store_true", help="run only what is not in the results")
    parser.add_argument("--show", action="store_true", help="print the table of what is in the results")
    asked = parser.parse_args()
    if unknown := [m for m in asked.methods if m not in FAMILIES]:
        parser.error(f"unknown method {unknown[0]}; there are {', '.join(FAMILIES)}")
    if asked.merge:
        others = stored(asked.merge)
        append(asked.results, others["rows"], others["made"])
    if asked.methods:
        run(asked)
    if asked.show or not asked.methods:
        from summary import lines

        print("\n".join(lines(stored(asked.results)["rows"], asked.half)))


def run(asked: argparse.Namespace) -> None:
    there = {key(r) for r in stored(asked.results)["rows"]} if asked.resume else set()
    todo = [j for j in jobs(asked) if (j.method, j.budget, j.task, j.seed) not in there]
    os.environ["OMP_NUM_THREADS"] = "1"  # before the workers load torch
    failed: list[str] = []
    spawn, cores = multiprocessing.get_context("spawn"), None
    if asked.jobs > 1:
        cores = spawn.Queue()
        for core in itertools.islice(itertools.cycle(sorted(os.sched_getaffinity(0))), asked.jobs):
            cores.put(core)
    with ProcessPoolExecutor(asked.jobs, mp_context=spawn, initializer=settle, initargs=(cores,)) as pool:
        waiting = {pool.submit(row, job): job for job in todo}
        for count, done in enumerate(as_completed(waiting), 1):
            job = waiting[done]
            try:
                made = done.result()
            except Exception as error:  # the others go on
                failed.append(f"{job.method} on {job.task}, seed {job.seed}: {type(error).__name__}: {error}")
                print(failed[-1], flush=True)
                continue
            append(asked.results, [made], made_with(job.family))
            lr = "none" if made["lr"] is None else f"{made['lr']:.3g}"
            print(f"{count}/{len(todo)} {job.task:25} {job.method:22} {job.budget or '':4} seed {job.seed}  lr {lr:9} "
                  f"cost {made['cost']:.2f}  {made['seconds']:.0f} s  {made['reason'][:60]}", flush=True)  # fmt: skip
    if failed:
        sys.exit(f"{len(failed)} of {len(todo)} failed, the first: {failed[0]}")


if __name__ == "__main__":
    main()
