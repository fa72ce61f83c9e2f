"""A sweep by etascope against the same sweep in plain torch: wall-clock from the call to the result.

    python benchmarks/lanes.py                      # every task, K = 3, 8, 16, 32; hours
    python benchmarks/lanes.py --tasks digits,lora --lanes 32 --resume     # only the repeats that the file lacks
    python benchmarks/lanes.py --steady             # the step alone, warm
    python benchmarks/lanes.py --device cuda --lanes 8,32,128 --peak-tflops 67      # on a GPU

Each contender trains the same K learning rates in a process of its own, timed from just before its start to its end:
imports, reading the data, calibration and compilation are inside. The baselines:

- loop: one setting after the other, with one thread or one per core, whichever a short trial shows to be faster;
- two processes: the same loop, each with half of the settings and one thread;
- compiled loop: model and loss by `torch.compile`, once for all settings, with an empty cache. It trains one setting
  after the other, as the loop does, so how it stands to the loop hardly depends on K: it runs at `--compiled-at`.

All three hold the batches of one pass through the data in memory: stricter than a loop over a DataLoader, which most
scripts are (`contenders.py`). The steps are as many as the loop takes `--seconds` for.

The first repeat runs all four, the others etascope and the baselines within 15% of the best, in turn forwards and
backwards. A ratio is the best baseline of one repeat over etascope in the same; a row has their median and the lower
90% bound of their geometric mean (one-sided, by a t-interval of the logarithms). Rows go into
benchmarks/results/lanes.json one by one, in place of those of the same task, K and device.

The steady state is a step of K settings after the start, data in memory, without evaluation: lanes in one process and
in two, the faster of them compiled too, against the three baselines.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np
import torch
from lane_tasks import LANE_TASKS, NEEDS_DATA, lane_task
from scipy import stats

from etascope.engines import Prepared
from etascope.finder.session import versions
from etascope.storage import write_atomically

HERE = Path(__file__).parent
BASELINES = ("loop", "two processes", "compiled loop")
SMALL = ("digits", "diabetes", "breast-cancer", "wine-rmsprop")
CLOSE = 1.15  # times the best baseline's seconds: such a one runs in every repeat
APART = 3.0  # times: final losses that differ by more are not of the same training
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Failed(Exception):
    """A contender ended with an error, and this is the last that it said."""


def start(asked, cache_folder, errors):
    """A process of `contenders.py`, with its threads as asked and a compiler's cache of its own."""
    env = {name: value for name, value in os.environ.items() if name not in THREADS}
    env |= {"TORCHINDUCTOR_CACHE_DIR": cache_folder, "TRITON_CACHE_DIR": f"{cache_folder}/triton"}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", HERE / "contenders.py", json.dumps(asked)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env,
    )  # fmt: skip


def run(together, *, in_step=False):
    """Seconds from before the start of these processes to the end of the last, and what each answered.

    Args:
        together: what each is asked.
        in_step: whether they wait for each other once they are warm.
    """
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        processes = [start(asked, f"{folder}/{i}", errors) for i, asked in enumerate(together)]
        try:
            if in_step:
                for process in processes:
                    while process.stdout.readline() not in ("ready\n", ""):
                        pass
            said = [process.communicate("go\n" if in_step else None)[0] for process in processes]
            seconds = time.perf_counter() - began
        finally:
            for process in processes:
                process.kill()
        if any(process.returncode for process in processes):
            errors.seek(0)
            lines = [line.strip() for line in errors if "Error" in line]
            raise Failed(lines[-1] if lines else f"exit codes {[process.returncode for process in processes]}")
    return seconds, [json.loads(out.splitlines()[-1]) for out in said]


def lrs_of(k):
    """K learning rates, small enough to stay finite: a loop would stop where a lane goes on (`losses_apart` tells)."""
    return [float(f"{lr:.3g}") for lr in np.geomspace(1e-5, 1e-2, k)]


class Bench:
    """One task on one device.

    Args:
        name: the task's.
        device: "cpu" or "cuda".
    """

    def __init__(self, name, device):
        self.name, self.device = name, device
        self.prepared = Prepared(lane_task(name), torch.device("cpu"))  # for its plan of evaluations alone
        self.best = cache(self._best)

    def asked(self, what, lrs, threads, **more):
        threads = threads if self.device == "cpu" else None
        return {"what": what, "task": self.name, "device": self.device, "lrs": lrs, "threads": threads} | more

    def _best(self, what):
        """(threads, seconds of a step of one setting, its floating point operations) of a loop at its fastest."""
        counts = sorted({1, CORES}) if self.device == "cpu" else [None]
        paces = [(run([self.asked(f"pace of {what}", [1e-4], n)], in_step=True)[1][0], n) for n in counts]
        pace, threads = min(paces, key=lambda of: of[0]["seconds"])
        return threads, pace["seconds"], pace["flop"]

    def train(self, contender, lrs, horizon):
        """Seconds from the start of a contender to its end, the final losses, and what else it says."""
        judging = self.prepared.judging(horizon)
        plan = {"horizon": horizon, "evaluations": judging.batches_at, "final": judging.final}
        if contender == "etascope":
            together = [self.asked("etascope", lrs, None, horizon=horizon)]
        elif contender == "two processes":
            together = [self.asked("loop", lrs[i::2], 1, **plan) for i in (0, 1)]
        else:
            together = [self.asked(contender, lrs, self.best("loop")[0], **plan)]
        seconds, said = run(together)
        print(f"  {self.name}, {len(lrs)} x {horizon} steps: {contender} {seconds:.1f} s", file=sys.stderr, flush=True)
        losses = np.empty(len(lrs))
        for i, one in enumerate(said):
            losses[i :: len(said)] = one["losses"]
        return seconds, losses, said[0]

    def long_enough(self, lrs, least_s):
        """A horizon at which the loop takes so many seconds, and that training."""
        horizon = math.ceil(least_s / len(lrs) / self.best("loop")[1])
        while (trained := self.train("loop", lrs, horizon))[0] < least_s:  # the trial was slower than the loop is
            horizon = math.ceil(1.05 * horizon * least_s / trained[0])
        return horizon, trained

    def wall_clock(self, k, least_s, repeats, compiled, before=None):
        """The row of K settings.

        Args:
            k: settings.
            least_s: seconds that the loop takes at least.
            repeats: of etascope and the baselines that are close.
            compiled: whether the compiled loop is among the baselines.
            before: a row of the same cell with fewer repeats; the others are added to it.
        """
        lrs, failed, losses, engines = lrs_of(k), {}, {}, []
        if before:
            horizon, failed, engines = before["horizon"], before["failed"], before["engines"]
            done = len(before["ratios"])
            seconds = {name: [*took, *[None] * (repeats - done)] for name, took in before["seconds"].items()}
        else:
            names = [name for name in (*BASELINES, "etascope") if compiled or name != "compiled loop"]
            seconds, done = {name: [None] * repeats for name in names}, 0
            horizon, trained = self.long_enough(lrs, least_s)
            seconds["loop"][0], losses["loop"], _ = trained
        for i in range(done, repeats):
            running = list(seconds)[1:] if i == 0 else ["etascope", *close(seconds)]
            for name in running[::-1] if i % 2 else running:
                try:
                    seconds[name][i], losses[name], said = self.train(name, lrs, horizon)
                except Failed as error:
                    if name != "compiled loop":
                        raise
                    failed[name] = str(error)
                    continue
                engines += [said["engine"]] if "engine" in said else []
        ratios = [
            min(seconds[n][i] for n in BASELINES if n in seconds and seconds[n][i]) / seconds["etascope"][i]
            for i in range(repeats)
        ]
        return {
            "asked_s": least_s,
            "horizon": horizon,
            "threads": before["threads"] if before else self.best("loop")[0],
            "seconds": seconds,
            "failed": failed,
            "engine": engines[-1],
            "engines": engines,
            "ratios": ratios,
            "ratio": float(np.median(ratios)),
            "lower": lower_bound(ratios),
            "losses_apart": before["losses_apart"] if before else apart(losses),
        }

    def steady(self, k, beside):
        """The row of a step of K settings.

        Args:
            k: settings.
            beside: how else to run lanes, as (processes, threads of each, lanes at once).
        """
        lrs, half, cores = lrs_of(k), math.ceil(k / 2), CORES if self.device == "cpu" else 1
        _, step_s, flop = self.best("loop")
        seconds, failed = {"loop": step_s * k}, {}
        seconds["two processes"] = slowest(self.asked("pace of loop", part, 1) for part in (lrs[0::2], lrs[1::2]))
        try:
            seconds["compiled loop"] = self.best("compiled loop")[1] * k
        except Failed as error:
            failed["compiled loop"] = str(error)
        lanes = []

        def time_lanes(processes, threads, chunk, *, compiled=False):
            parts = [lrs[i::processes] for i in range(min(processes, k))]
            took = slowest(self.asked("pace of lanes", part, threads, chunk=chunk, compiled=compiled) for part in parts)
            lanes.append({"processes": processes, "threads": threads, "chunk": chunk, "seconds": took})
            lanes[-1] |= {"compiled": compiled}

        for way in sorted({(1, 1, k), (1, cores, k), (2, 1, half), *beside}):
            time_lanes(*way)
        best = min(lanes, key=lambda of: of["seconds"])
        time_lanes(best["processes"], best["threads"], best["chunk"], compiled=True)
        best = min(lanes, key=lambda of: of["seconds"])
        ratio = min(seconds.values()) / best["seconds"]
        return {"seconds": seconds, "failed": failed, "lanes": lanes, "best": best, "ratio": ratio, "flop": flop * k}


def slowest(together):
    """Seconds of a step of processes that run side by side."""
    return max(said["seconds"] for said in run(list(together), in_step=True)[1])


def close(seconds):
    """The baselines that the first repeat showed to be the best, or nearly."""
    first = {name: seconds[name][0] for name in BASELINES if name in seconds and seconds[name][0]}
    return [name for name, took in first.items() if took <= CLOSE * min(first.values())]


def lower_bound(ratios):
    """The lower 90% bound of the geometric mean; None of a single ratio."""
    n, logs = len(ratios), np.log(ratios)
    return math.exp(logs.mean() - stats.t.ppf(0.9, n - 1) * logs.std(ddof=1) / math.sqrt(n)) if n > 1 else None


def apart(losses):
    """The largest factor between two contenders' final losses of a setting; None where one of them is not finite."""
    table = np.array(list(losses.values()))
    return float((table.max(0) / table.min(0)).max()) if np.isfinite(table).all() else None


def told(row):
    """A row of the table, in a line."""
    counts = {name: sum(s is not None for s in several) for name, several in row["seconds"].items()}
    medians = {name: np.median([s for s in row["seconds"][name] if s]) for name, count in counts.items() if count}
    took = ", ".join(f"{name} {s:.1f} s ({counts[name]} times)" for name, s in medians.items())
    failed = "".join(f", {name} failed: {why}" for name, why in row["failed"].items())
    ran, lower = row["engine"], "" if row["lower"] is None else f", at least {row['lower']:.2f}x"
    agree = row["losses_apart"] is not None and row["losses_apart"] < APART
    return (
        f"{row['task']:14} K={row['K']:<3} {took}{failed}; {ran['engine']}, {ran['workers']} processes, "
        f"{ran['threads']} threads, {ran['chunk']} at once: {row['ratio']:.2f}x{lower}"
        f"{'' if agree else '; THE FINAL LOSSES DIFFER'}"
    )


def told_steady(row, peak):
    """A row of the steady state, in a line; `peak` in FLOP/s, or None."""
    took = ", ".join(f"{name} {s * 1e3:.3g} ms" for name, s in row["seconds"].items())
    failed = "".join(f", {name} failed: {why}" for name, why in row["failed"].items())
    best = row["best"]
    shares = [row["flop"] / s / peak for s in (best["seconds"], min(row["seconds"].values()))] if peak else []
    reached = ", {:.1%} of the peak (baseline {:.1%})".format(*shares) if peak else ""
    return (
        f"{row['task']:14} K={row['K']:<3} {took}{failed}; lanes {best['seconds'] * 1e3:.3g} ms ({best['processes']} "
        f"processes, {best['threads']} threads, {best['chunk']} at once{', compiled' * best['compiled']}): "
        f"{row['ratio']:.2f}x{reached}"
    )


def summary(stored, here):
    """What the rows of this machine say together."""
    rows = [row for row in stored["rows"] if row["machine"] == here]
    small = [row["ratio"] for row in rows if row["task"] in SMALL and row["K"] == 32]
    if small:
        print(f"{len(small)} of the {len(SMALL)} small tasks at K = 32: {stats.gmean(small):.2f}x (geometric mean)")
    if large := [row for row in rows if row["task"] not in SMALL and row["K"] == 32]:
        worst = min(large, key=lambda row: row["ratio"])
        print(f"{len(large)} others at K = 32: at least {worst['ratio']:.2f}x ({worst['task']})")
    if bounded := [row for row in rows if row["lower"] is not None]:
        worst = min(bounded, key=lambda row: row["lower"])
        print(
            f"{len(bounded)} cells: the worst lower bound is {worst['lower']:.2f}x ({worst['task']}, K = {worst['K']})"
        )
    if steady := [row for row in stored["steady"] if row["machine"] == here]:
        best = max(steady, key=lambda row: row["ratio"])
        print(f"steady state: at best {best['ratio']:.2f}x ({best['task']}, K = {best['K']})")


def machine(device):
    return f"{CORES} cores" if device == "cpu" else torch.cuda.get_device_name()


def load(path):
    stored = json.loads(path.read_text()) if path.exists() else {}
    return stored if "steady" in stored else {"rows": [], "steady": []}  # an earlier script's file has other rows


def find(rows, wanted):
    return next((row for row in rows if all(row[key] == value for key, value in wanted.items())), None)


def keep(path, part, row):
    """Write a row into the file, in place of the one of the same cell."""
    stored = load(path)
    cell = {key: row[key] for key in ("task", "K", "machine")}
    stored[part] = [old for old in stored[part] if find([old], cell) is None] + [row]
    stored[part].sort(key=lambda of: (of["machine"], LANE_TASKS.index(of["task"]), of["K"]))
    write_atomically(path, json.dumps(stored, allow_nan=False, indent=1) + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default=",".join(LANE_TASKS), help="names, with commas")
    parser.add_argument("--lanes", default="3,8,16,32", help="K, with commas")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the loop takes at least")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--compiled-at", default="32", help="K at which the compiled loop runs, with commas")
    parser.add_argument("--steady", action="store_true", help="measure the steady state, not the wall-clock")
    parser.add_argument("--peak-tflops", type=float, help="of the device: the steady state then says what share it has")
    parser.add_argument("--resume", action="store_true", help="only the cells and repeats that the results lack")
    parser.add_argument("--results", type=Path, default=HERE / "results/lanes.json")
    args = parser.parse_args()
    if unknown := set(args.tasks.split(",")) - set(LANE_TASKS):
        parser.error(f"no task is called {', '.join(sorted(unknown))}; there are {', '.join(LANE_TASKS)}")
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    return args


def main():
    args = arguments()
    here, part = machine(args.device), "steady" if args.steady else "rows"
    for name in args.tasks.split(","):
        if name in NEEDS_DATA and not os.environ.get("ETASCOPE_DATA"):
            print(f"{name:14} skipped: it needs ETASCOPE_DATA")
            continue
        bench = Bench(name, args.device)
        for k in map(int, args.lanes.split(",")):
            cell = {"task": name, "K": k, "machine": here}
            stored = load(args.results)
            old, row = find(stored[part], cell), find(stored["rows"], cell)
            before = old if args.resume and old and (args.steady or old["asked_s"] >= args.seconds) else None
            if before and (args.steady or len(before["ratios"]) >= args.repeats):
                continue
            try:
                if args.steady:
                    ran = row["engine"] if row else {"engine": None}
                    beside = {(ran["workers"], ran["threads"], ran["chunk"])} if ran["engine"] == "lanes" else set()
                    measured = bench.steady(k, beside)
                else:
                    compiled = str(k) in args.compiled_at.split(",")
                    measured = bench.wall_clock(k, args.seconds, args.repeats, compiled, before)
            except Failed as error:
                print(f"{name:14} K={k:<3} failed: {error}", flush=True)
                continue
            row = cell | measured | {"date": str(date.today()), "versions": versions()}
            keep(args.results, part, row)
            print(
                told_steady(row, args.peak_tflops and args.peak_tflops * 1e12) if args.steady else told(row), flush=True
            )
    summary(load(args.results), here)


if __name__ == "__main__":
    main()
