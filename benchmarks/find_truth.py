"""The finder against the dense truth of every built-in task, and of six others.

    python benchmarks/find_truth.py                 # the built-in tasks; results go to benchmarks/results/
    python benchmarks/find_truth.py --outside       # those of outside.py; needs ETASCOPE_DATA
    python benchmarks/find_truth.py digits wine-rmsprop

The truth is a sweep of 23 lrs x 3 seeds to the full horizon. `find` then runs at budget 1.0 with seeds 10 to 14;
an answer counts where the true mean loss at its lr (linear in log lr between grid points) is inside the true zone.
"""

import json
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
from outside import OUTSIDE

import etascope as eta
from etascope.finder.session import versions
from etascope.workloads import TASKS, get

RESULTS = Path(__file__).parent / "results"
LRS = [float(f"{v:.3g}") for v in np.logspace(-4.5, 1, 23)]
SEEDS = (0, 1, 2)


def task(name):
    return OUTSIDE[name]() if name in OUTSIDE else get(name)


def truth(name):
    """The committed sweep of a task, made if it is not there."""
    path = RESULTS / f"truth-{name}.json"
    if not path.exists():
        sweep = eta.sweep(task(name), lrs=LRS, seeds=SEEDS, name=name)
        curveless = [c | {"train": [], "val": []} for c in sweep.to_json()["rungs"][0]["curves"]]
        data = sweep.to_json()
        data["rungs"][0]["curves"] = curveless
        path.write_text(json.dumps(data, allow_nan=False, indent=1) + "\n")
    return eta.Sweep.load(path)


def covers(dense, interval):
    """Whether an interval holds an lr whose true mean loss is within one standard error of the best."""
    best_lr, best = dense.best
    error = dense.losses[list(dense.lrs).index(best_lr)].std(ddof=1) / len(SEEDS) ** 0.5
    return bool(min(dense.mean_loss(lr) for lr in np.geomspace(*interval, 60)) <= best + error)


def main():
    outside = sys.argv[1:] == ["--outside"]
    names = list(OUTSIDE) if outside else sys.argv[1:] or list(TASKS)
    rows = []
    for name in names:
        dense = truth(name)
        for seed in range(10, 15):
            start = time.perf_counter()
            found = eta.find(task(name), budget=1.0, seed=seed, name=name)
            mean = dense.mean_loss(found.lr)
            rows.append(
                {
                    "task": name,
                    "seed": seed,
                    "lr": found.lr,
                    "in_zone": bool(mean <= dense.best[1] + dense.tolerance),
                    "regret": dense.regret(found.lr),
                    "cost": found.cost,
                    "interval": found.interval,
                    "best_inside": bool(found.interval[0] <= dense.best[0] <= found.interval[1]),
                    "covers": covers(dense, found.interval),
                    "predicted": found.loss,
                    "true": mean,
                    "engine": found.engine.engine,
                    "seconds": time.perf_counter() - start,
                }
            )
            r = rows[-1]
            print(f"{name:14} seed {seed}  lr {r['lr']:<8g} in zone {r['in_zone']!s:5}  regret {r['regret']:7.3%}  "
                  f"cost {r['cost']:.3f}  {r['engine']:5} {r['seconds']:.1f} s", flush=True)  # fmt: skip
        zone = dense.zone
        lrs = np.log10([r["lr"] for r in rows if r["task"] == name])
        print(f"{name:14} true best {dense.best[0]:g}, zone {zone[0]:.2g} to {zone[1]:.2g}, edge {dense.edge}; "
              f"spread between seeds {lrs.std(ddof=1):.2f} decades", flush=True)  # fmt: skip
    share = np.mean([r["in_zone"] for r in rows])
    print(f"in the true zone: {share:.1%} of {len(rows)} (task, seed) pairs")
    covered = np.mean([r["covers"] for r in rows])
    print(f"90% intervals that hold an lr within one standard error of the best: {covered:.1%}")
    summary = {
        "date": str(date.today()),
        "cores": 2,
        "versions": versions(),
        "in_zone": share,
        "covers": covered,
        "rows": rows,
    }
    if outside or names == list(TASKS):
        (RESULTS / ("find_outside.json" if outside else "find_truth.json")).write_text(
            json.dumps(summary, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
