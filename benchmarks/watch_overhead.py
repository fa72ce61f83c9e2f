"""What a watch costs: wall-clock of whole runs with `eta.watch`, all its default signals and its log on disk.

With `act` (gradient norms at every update, snapshots) and without. Against the same run without it, with `eta.attach`
in both: A and B in turn, which comes first changing from pair to pair, after a pair that does not count. The ratio is
the median over the pairs, with a 90% interval by a bootstrap of them. Beside it the same of the process's own CPU time,
which other processes on the machine disturb less; on a quiet machine, with one thread, the two are the same but for
what is waited for (the log's disk). A run is batches drawn, forward, backward, update, and one evaluation at the end;
the smallest MLP of `watching/workloads.py`, where a step takes the least, for 2,000 updates (a second) and for 10,000,
and a transformer of 2 layers, width 64, rows of 32 characters, 32 of them a batch.

    python benchmarks/watch_overhead.py                  # writes results/watch_overhead.json
    python benchmarks/watch_overhead.py --without        # the plain run against itself: the error of the method
"""

import argparse
import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import torch
from watching.workloads import WORKLOADS, Transformer, loss_of

import etascope as eta
from etascope.finder.session import versions
from etascope.storage import write_atomically

HERE = Path(__file__).parent
TASKS = {
    "mlp": (replace(WORKLOADS["mlp"], horizon=2000), 1.10),
    "mlp, long": (replace(WORKLOADS["mlp"], horizon=10_000), 1.10),
    "transformer": (
        replace(WORKLOADS["transformer"], model=partial(Transformer, 64, 2), batch=32, lr=3e-3, horizon=200),
        1.02,
    ),
}  # and what the ratio is to be at most


class Unwatched(contextlib.nullcontext):
    """Batches as they come, and nothing else."""

    def __init__(self, work):
        super().__init__(self)
        self.horizon = work.horizon

    def batches(self, loader):
        for _, batch in zip(range(self.horizon), loader, strict=False):
            yield batch


def stream(work):
    """Fresh batches without end."""
    generator, (x, y) = torch.Generator().manual_seed(0), work.data()[0]
    while True:
        rows = torch.randint(len(x), (work.batch,), generator=generator)
        yield x[rows], y[rows]


def run(work, is_watched, act):
    """Seconds of a whole run, by the wall and of the CPU, and its final loss."""
    model = work.start(0)
    optimizer = work.optimizer(model.parameters(), lr=work.lr)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter(), time.process_time()
        handle = eta.attach(work.schedule(), optimizer, horizon=work.horizon)
        if is_watched:
            log = Path(folder, "run.jsonl")
            with eta.watch(model, optimizer, schedule=handle, horizon=work.horizon, act=act, log=log) as watch:
                for x, y in watch.batches(stream(work)):
                    loss = loss_of(model, x, y)
                    loss.backward()
                    watch.observe(loss)
                    optimizer.step()
                    optimizer.zero_grad()
        else:
            with Unwatched(work) as unwatched:
                for x, y in unwatched.batches(stream(work)):
                    loss = loss_of(model, x, y)
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
        final = work.evaluate(model)
        return time.perf_counter() - began[0], time.process_time() - began[1], final


def ratio(plain, watched):
    """The median ratio of pairs, and its 90% interval by a bootstrap."""
    ratios, rng = np.array(watched) / np.array(plain), np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    return float(np.median(ratios)), [float(of) for of in np.quantile(medians, [0.05, 0.95])]


def measure(work, repeats, is_watched, act):
    """The seconds of pairs of runs, and the ratio of the second kind to the plain one."""
    seconds, cpu, finals = {"plain": [], "watched": []}, {"plain": [], "watched": []}, {}
    for i in range(repeats + 1):
        for which in ("plain", "watched") if i % 2 else ("watched", "plain"):
            took, used, finals[which] = run(work, is_watched and which == "watched", act)
            if i:  # the first of each loads code and fills caches
                seconds[which].append(took)
                cpu[which].append(used)
    wall, of_cpu = ratio(**seconds), ratio(**cpu)
    return {
        "ratio": wall[0],
        "interval": wall[1],
        "cpu_ratio": of_cpu[0],
        "cpu_interval": of_cpu[1],
        "ms_a_step": 1e3 * min(seconds["plain"]) / work.horizon,
        "us_added_a_step": 1e6 * float(np.median(np.subtract(cpu["watched"], cpu["plain"]))) / work.horizon,
        "horizon": work.horizon,
        "finals": finals,
        "seconds": seconds,
        "cpu_seconds": cpu,
    }


def told(median, interval):
    return f"{median:.3f}x ({interval[0]:.3f} to {interval[1]:.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=";".join(TASKS), help="names, with semicolons")
    parser.add_argument("--repeats", type=int, default=15, help="pairs of runs")
    parser.add_argument("--without", action="store_true", help="without the watch in both; nothing is written")
    parser.add_argument("--results", type=Path, default=HERE / "results/watch_overhead.json")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if not os.environ.get("ETASCOPE_DATA"):
        sys.exit("The workloads need ETASCOPE_DATA.")
    if not args.without and not hasattr(eta, "watch"):
        sys.exit("There is no eta.watch yet; --without measures the plain run against itself.")
    stored = json.loads(args.results.read_text()) if args.results.exists() else {"rows": {}}
    rows = [(name, act) for name in args.tasks.split(";") for act in (False, True)]
    for name, act in rows[:: 2 if args.without else 1]:
        work, most = TASKS[name]
        row = measure(work, args.repeats, not args.without, act)
        name += ", act" if act else ""
        print(
            f"{name:16} wall-clock {told(row['ratio'], row['interval'])}, CPU time "
            f"{told(row['cpu_ratio'], row['cpu_interval'])}, to be at most {most:.2f}x; a step takes "
            f"{row['ms_a_step']:.2f} ms at best, {row['us_added_a_step']:.0f} us of CPU time are added",
            flush=True,
        )
        about = {"machine": f"{os.cpu_count()} cores, one thread", "versions": versions(), "date": str(date.today())}
        stored["rows"][name] = row | about | {"most": most, "command": shlex.join(sys.argv)}
        if not args.without:
            write_atomically(args.results, json.dumps(stored, allow_nan=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
