"""The dense truth of every workload: 27 lrs x 3 seeds, each to its full horizon under its real schedule.

    python benchmarks/finders/truth.py --half reporting       # makes what is missing, one after the other
    python benchmarks/finders/truth.py fashion-cnn bike-adam

23 lrs from 10^-4.5 to 10, a quarter of a decade apart, then four more around the best of them (an eighth and three
eighths of a decade to each side). Committed as benchmarks/results/truth-NAME.json: final losses and the validation
losses on the way, which tuners that prune need (table.py), to six digits; training curves are left out. The truths of
the choosing half were made earlier by find_truth.py with the 23 lrs alone; their losses are kept, only the four more
are trained, and they have few validation losses on the way.

`python benchmarks/finders/truth.py --check` trains each of them at two lrs only and says what came out.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from scores import covers, edge_right, interval_score, score, score_loss

import etascope as eta
from etascope.records import Rung
from etascope.storage import write_atomically
from workloads import BLIND, CHOOSING, FRESH, REPORTING, workload

__all__ = ["HALVES", "covers", "edge_right", "interval_score", "score", "score_loss", "truth"]

HALVES = {"choosing": CHOOSING, "reporting": REPORTING, "fresh": FRESH, "blind": BLIND}
RESULTS = Path(__file__).parents[1] / "results"
LRS = [float(f"{v:.3g}") for v in np.logspace(-4.5, 1, 23)]
AROUND = (-0.375, -0.125, 0.125, 0.375)  # decades from the best of LRS
SEEDS = (0, 1, 2)
DENSE = 25  # fewer lrs than these are extended


def path_of(name: str) -> Path:
    """Where a truth lies."""
    return RESULTS / f"truth-{name}.json"


def truth(name: str) -> eta.Sweep:
    """The committed truth of a workload, made if it is not there.

    Args:
        name: one of `CHOOSING`, `REPORTING`, `FRESH` or `BLIND`.

    Raises:
        NoAnswer: the workload does not train at any lr, which is its bug.
    """
    if not path_of(name).exists():
        complete(name)
    return eta.Sweep.load(path_of(name))


def complete(name: str) -> eta.Sweep:
    """Train what a truth lacks, and store it."""
    path, task = path_of(name), workload(name)
    if path.exists():
        dense = eta.Sweep.load(path)
    else:
        dense = eta.sweep(task, lrs=LRS, seeds=SEEDS, name=name, progress=False)
    if len(dense.lrs) < DENSE:
        around = [float(f"{dense.best[0] * 10**d:.3g}") for d in AROUND]
        more = eta.sweep(task, lrs=around, seeds=SEEDS, name=name, progress=False)
        dense = merged(dense, more)
    write_atomically(path, text(dense))
    return eta.Sweep.load(path)


def merged(dense: eta.Sweep, more: eta.Sweep) -> eta.Sweep:
    """Both sweeps as one record; of the rest, the first one's."""
    rung = Rung.of(dense.rungs[0].steps, [*dense.rungs[0].curves, *more.rungs[0].curves])
    notes = tuple(dict.fromkeys([*dense.notes, *more.notes]))
    return replace(
        dense, rungs=(rung,), notes=notes, cost=dense.cost + more.cost, wall_s=dense.wall_s + more.wall_s,
        eval_s=dense.eval_s + more.eval_s,
    )  # fmt: skip


def text(dense: eta.Sweep) -> str:
    """The record as JSON without training curves, to six digits; one training a line, so that changes can be read."""
    curves = [replace(c, train=(), effective_lr={}) for c in dense.rungs[0].curves]
    data = rounded(replace(dense, rungs=(replace(dense.rungs[0], curves=tuple(curves)),)).to_json())
    lines = [json.dumps(c, allow_nan=False) for c in data["rungs"][0].pop("curves")]
    rung = json.dumps(data["rungs"][0], allow_nan=False)[:-1] + ', "curves": [\n' + ",\n".join(lines) + "\n]}"
    head = [f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}" for k, v in data.items() if k != "rungs"]
    return "{\n" + ",\n".join([*head, f'"rungs": [{rung}]']) + "\n}\n"


def rounded(value):
    """JSON data with its floats to six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def said(name: str, dense: eta.Sweep) -> str:
    """A truth in a line."""
    zone, (best, loss) = dense.zone, dense.best
    low, high = (score(dense, lr).regret for lr in (dense.lrs[0], dense.lrs[-1]))
    return (
        f"{name:25} best {best:<8.3g} loss {loss:.4g} of {dense.init_loss:.4g}  zone {zone[0]:.2g} to {zone[1]:.2g}, "
        f"{math.log10(zone[1] / zone[0]):.2f} decades  edge {dense.edge}  regret at the ends {low:.0%}, {high:.0%}"
    )


def check(name: str) -> str:
    """Two short-lr trainings of a workload: whether it trains at all."""
    sweep = eta.sweep(workload(name), lrs=[1e-3, 1e-2], seeds=(0,), name=name, progress=False)
    return f"{name:25} init {sweep.init_loss:.4g} losses {sweep.losses.ravel()} engine {sweep.engine.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--half", choices=HALVES)
    parser.add_argument("--check", action="store_true", help="train two lrs of each only")
    asked = parser.parse_args()
    for name in asked.names or HALVES[asked.half or "reporting"]:
        start = time.perf_counter()
        missing = asked.check or not path_of(name).exists() or len(truth(name).lrs) < DENSE
        line = check(name) if asked.check else said(name, complete(name) if missing else truth(name))
        print(f"{line}  {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
