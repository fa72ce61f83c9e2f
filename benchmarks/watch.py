"""M7: what a live guard sees, and what it saves.

Runs with faults injected in mid-run and clean ones, over an MLP, a BatchNorm convnet, a transformer and an LSTM on
real data (`watching/workloads.py`), twelve kinds of fault (`watching/faults.py`), and six arms (`watching/arms.py`):
nothing, clipping, ReduceLROnPlateau, Lightning's SpikeDetection, `eta.watch` that acts, and one that proposes.

    python benchmarks/watch.py                      # what the cache lacks, then the table and results/watch.json
    python benchmarks/watch.py --arms etascope --kinds "1 corrupt batch" --workloads mlp --fresh
    python benchmarks/watch.py --show               # the table alone

Each run is a line of results/watch_runs/<arm>.jsonl, so an interrupted benchmark goes on where it was. How it is
scored: `watching/scores.py`.
"""

import argparse
import json
import os
import shlex
import sys
import time
from datetime import date
from pathlib import Path

import torch
from watching.arms import ARMS, available
from watching.faults import FAULTS
from watching.runs import CLEAN, run
from watching.scores import scores, table
from watching.workloads import WORKLOADS

from etascope.finder.session import versions
from etascope.storage import write_atomically

HERE = Path(__file__).parent
KINDS = (*CLEAN, *FAULTS)


def file_of(folder, arm):
    """Where the runs of an arm are."""
    return folder / f"{arm.replace(', act=False', ' proposes').replace(' ', '-')}.jsonl"


def key_of(record):
    return record["workload"], record["kind"], record["seed"]


def load(folder, arm):
    """Runs of an arm by workload, kind and seed; a line that broke off is left out."""
    path, runs = file_of(folder, arm), {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        runs[key_of(record)] = record
    return runs


def save(folder, arm, runs):
    """Write all runs of an arm anew."""
    write_atomically(file_of(folder, arm), "".join(json.dumps(r, allow_nan=False) + "\n" for r in runs.values()))


def cells(args):
    """(workload, kind, seed) of the runs asked for, seed by seed."""
    for number in range(max(args.seeds, args.clean_seeds)):
        seed = args.first + number
        for name in args.workloads:
            for kind in args.kinds:
                if kind == "clean, constant" and "constant" not in WORKLOADS[name].schedules:
                    continue
                if number < (args.clean_seeds if kind in CLEAN else args.seeds):
                    yield name, kind, seed


def go(args, arm):
    """The runs of an arm that are missing."""
    runs, asked = load(args.cache, arm), list(cells(args))
    if args.fresh:
        dropped = set(asked)
        runs = {key: record for key, record in runs.items() if key not in dropped}
    save(args.cache, arm, runs)
    missing, began = [cell for cell in asked if cell not in runs], time.perf_counter()
    with file_of(args.cache, arm).open("a") as file:
        for i, (name, kind, seed) in enumerate(missing, 1):
            record = run(name, seed, kind, arm)
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            if args.verbose or i % 50 == 0 or i == len(missing):
                said = f"{name}, {kind}, seed {seed}: final {float(record['final']):.4f}, {record['ended']}, "
                said += f"{record['n_alarms']} alarms"
                print(f"{arm}: {i} of {len(missing)}, {time.perf_counter() - began:.0f} s; {said}", flush=True)


def listed(known):
    """A parser of names with semicolons or commas between them; names with commas go by semicolons."""

    def parse(text):
        names = [name.strip() for name in text.split(";")]
        if not set(names) <= set(known):
            names = [name.strip() for name in text.split(",")]
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"no {', '.join(sorted(unknown))}; there are {'; '.join(known)}")
        return names

    return parse


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several = "names, with semicolons (or commas, where the names have none)"
    parser.add_argument("--arms", type=listed(ARMS), default=list(ARMS), help=several)
    parser.add_argument("--kinds", type=listed(KINDS), default=list(KINDS), help=several)
    parser.add_argument("--workloads", type=listed(WORKLOADS), default=list(WORKLOADS), help=several)
    parser.add_argument("--seeds", type=int, default=8, help="of each workload and kind of fault")
    parser.add_argument("--first", type=int, default=0, help="the first seed; thresholds were set with those from 50")
    parser.add_argument("--clean-seeds", type=int, default=25, help="of each workload and schedule")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="only what is missing (the default)")
    again.add_argument("--fresh", action="store_true", help="what is asked for is run again")
    parser.add_argument("--show", action="store_true", help="run nothing")
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    parser.add_argument("--cache", type=Path, default=HERE / "results/watch_runs")
    parser.add_argument("--results", type=Path, default=HERE / "results/watch.json")
    return parser.parse_args()


def main():
    args = arguments()
    torch.set_num_threads(1)
    args.cache.mkdir(parents=True, exist_ok=True)
    if not args.show:
        if not os.environ.get("ETASCOPE_DATA"):
            sys.exit("The workloads need ETASCOPE_DATA.")
        for arm in args.arms:
            if available(arm):
                go(args, arm)
            else:
                print(f"{arm}: left out, as there is no eta.watch yet")
    runs = {arm: found for arm in ARMS if (found := load(args.cache, arm))}
    if "nothing" not in runs:
        sys.exit('The scores compare with the arm "nothing", which has not run: --arms nothing.')
    scored = scores(runs)
    print(table(scored))
    if not args.show:
        machine = f"{os.cpu_count()} cores, one thread"
        about = {"machine": machine, "versions": versions(), "date": str(date.today()), "command": shlex.join(sys.argv)}
        write_atomically(args.results, json.dumps(about | scored, allow_nan=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
