"""At equal total compute: find at budget 0.5 and train with its answer, against whole runs of optimizers without an lr.

    python benchmarks/finders/equal_compute.py --half fresh  # reads finders.json and the truths; trains nothing

Finding and training take 1.5 runs, and so may the others: one whole run at their defaults fits. Both sides are means
over seeds, as regret, so that workloads compare. A workload counts as no worse where etascope's is at most theirs, and
as equal within noise where it is at most theirs plus one seed deviation at the best lr.
"""

import argparse
import json

import numpy as np
from calibration import LEARNING_RATE_FREE
from run import STORE
from summary import judged, truth
from truth import HALVES

BUDGET = 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--half", choices=HALVES, default="fresh")
    asked = parser.parse_args()
    rows = [row for row in json.loads(STORE.read_text())["rows"] if row["half"] == asked.half]

    def regrets(method, budget=None):
        own = [row for row in rows if row["method"] == method and row["budget"] == budget]
        return {t: float(np.mean([judged(r).regret for r in own if r["task"] == t])) for t in {r["task"] for r in own}}

    mine = regrets("etascope", BUDGET)
    for method in LEARNING_RATE_FREE:
        theirs = regrets(method)
        noise = {}
        for task in mine:
            dense = truth(task)
            noise[task] = dense.losses[list(dense.lrs).index(dense.best[0])].std(ddof=1) / (
                dense.init_loss - dense.best[1]
            )
        no_worse = np.mean([mine[t] <= theirs[t] for t in mine])
        within = np.mean([mine[t] <= theirs[t] + noise[t] for t in mine])
        print(
            f"against {method:20} no worse on {no_worse:4.0%} of {len(mine)} workloads, within noise on {within:4.0%}"
        )


if __name__ == "__main__":
    main()
