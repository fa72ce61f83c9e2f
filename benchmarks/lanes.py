"""K trainings as one against plain torch, for each built-in task: seconds, and how often the baseline's speed.

    python benchmarks/lanes.py          # writes benchmarks/results/lanes.json

The baselines are (a) the loop, one training after the other, with one or two threads, whichever is faster, and (b) two
processes of it side by side with one thread each, their start not counted. Every setting trains for 20 steps; its
evaluations are counted. `auto` is what a sweep of them would take, with its own threads and lanes at once.
"""

import json
import multiprocessing
import time
from contextlib import closing
from datetime import date
from pathlib import Path

import numpy as np
import torch

from etascope.engines import Prepared, Setting, choose, rebuild_engine, undisturbed
from etascope.finder.session import versions
from etascope.records import Engine
from etascope.workloads import TASKS, get

STEPS, REPEATS, THREADS = 20, 3, (1, 2)


def train(name, ran, settings):
    """Seconds of training the settings."""
    prepared = Prepared(get(name), torch.device("cpu"))
    built = rebuild_engine(prepared, ran)
    with closing(built), undisturbed():
        if ran.workers > 1:  # their start is not counted, as it is not for the two processes beside them
            list(built.train_each([[s] for s in settings[: ran.workers]], 1, 0, lambda steps: None))
        start = time.perf_counter()
        list(built.train_each(built.units(settings), STEPS, 0, lambda steps: None))
        return time.perf_counter() - start


def half(arguments):
    return train(*arguments)


def measure(name, k, pool):
    settings = [Setting(0, float(lr)) for lr in np.geomspace(1e-5, 1e-2, k)]
    with undisturbed():
        prepared = Prepared(get(name), torch.device("cpu"))
        with closing(choose(prepared, "auto", 0, k * prepared.horizon, settings=settings).engine) as engine:
            auto = engine.ran
    rivals = {("loop", t): Engine("loop", 1, t, "cpu") for t in THREADS}
    rivals |= {("lanes", t): Engine("lanes", k, t, "cpu") for t in THREADS}
    seconds = {key: [] for key in [*rivals, "auto", "two"]}
    for _ in range(REPEATS):
        for key, ran in (rivals | {"auto": auto}).items():
            seconds[key].append(train(name, ran, settings))
        start = time.perf_counter()
        one = rivals["loop", 1]
        pool.map(half, [(name, one, settings[0::2]), (name, one, settings[1::2])], chunksize=1)
        seconds["two"].append(time.perf_counter() - start)
    best = {key: min(values) for key, values in seconds.items()}
    loop, lanes = (min(best[engine, t] for t in THREADS) for engine in ("loop", "lanes"))
    return {
        "task": name,
        "K": k,
        "loop_s": loop,
        "two_processes_s": best["two"],
        "lanes_s": lanes,
        "lanes_over_loop": loop / lanes,
        "lanes_over_two_processes": best["two"] / lanes,
        "auto": f"{auto.engine}, {auto.workers} processes, {auto.threads} threads, {auto.chunk} at once",
        "auto_over_loop": loop / best["auto"],
    }


def main():
    torch.set_num_threads(2)
    rows = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for name in TASKS:
            few = [Setting(0, 1e-4)]
            pool.map(half, [(name, Engine("loop", 1, 1, "cpu"), few)] * 2, chunksize=1)  # imports, and reads the data
            for k in (8, 32):
                r = measure(name, k, pool)
                rows.append(r)
                print(f"{name:14} K={k:<3} loop {r['loop_s']:6.2f} s  two processes {r['two_processes_s']:6.2f} s  "
                      f"lanes {r['lanes_s']:6.2f} s: {r['lanes_over_loop']:4.1f}x the loop, "
                      f"{r['lanes_over_two_processes']:4.1f}x two processes;  auto: {r['auto']}, "
                      f"{r['auto_over_loop']:4.2f}x the loop", flush=True)  # fmt: skip
    worst = min(r["auto_over_loop"] for r in rows)
    print(f"auto at its slowest: {worst:.2f}x the loop")
    result = {"date": str(date.today()), "cores": 2, "versions": versions(), "steps": STEPS, "rows": rows}
    Path(__file__).parent.joinpath("results/lanes.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
