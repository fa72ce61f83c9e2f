"""Resume: how many schedules go on wrongly, in each order of building and loading; torch's own schedulers beside ours.

    python benchmarks/resume.py          # writes benchmarks/results/resume.json

A run is interrupted at 20 random steps. Optimizer and scheduler are built anew and loaded in one of four orders, and
the lr of every following update is compared with the uninterrupted run's: ours to the bit, torch's within 1e-9 of it.
Torch's schedulers are stepped as their documentation says, once after each update.
"""

import copy
import json
import random
import sys
import warnings
from datetime import date
from pathlib import Path

import torch
from torch.optim import lr_scheduler as torchs

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.schedules.members import HORIZON, MEMBERS

import etascope as eta
from etascope.finder.session import versions

ORDERS = {
    "build, load optimizer, load scheduler": "bos",
    "build, load scheduler, load optimizer": "bso",
    "load optimizer, build, load scheduler": "obs",
    "build, load the scheduler's state alone": "bs",
}
TORCH = {
    "LambdaLR": lambda o: torchs.LambdaLR(o, lambda t: 1 / (t + 1)),
    "MultiplicativeLR": lambda o: torchs.MultiplicativeLR(o, lambda t: 0.9),
    "StepLR": lambda o: torchs.StepLR(o, 5),
    "MultiStepLR": lambda o: torchs.MultiStepLR(o, [3, 20]),
    "ConstantLR": lambda o: torchs.ConstantLR(o, 0.3, 20),
    "LinearLR": lambda o: torchs.LinearLR(o, 0.1, total_iters=30),
    "ExponentialLR": lambda o: torchs.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: torchs.CosineAnnealingLR(o, HORIZON),
    "CosineAnnealingWarmRestarts": lambda o: torchs.CosineAnnealingWarmRestarts(o, 7),
    "PolynomialLR": lambda o: torchs.PolynomialLR(o, HORIZON, 2),
    "CyclicLR": lambda o: torchs.CyclicLR(o, 0.1, 1, 7),
    "OneCycleLR": lambda o: torchs.OneCycleLR(o, 1.0, HORIZON + 2),
    "SequentialLR": lambda o: torchs.SequentialLR(
        o, [torchs.LinearLR(o, 0.1, total_iters=4), torchs.CosineAnnealingLR(o, HORIZON)], [4]
    ),
    "ChainedScheduler": lambda o: torchs.ChainedScheduler(
        [torchs.LinearLR(o, 0.1, total_iters=20), torchs.ExponentialLR(o, 0.9)]
    ),
}


def optimizer():
    w = torch.zeros(1, requires_grad=True)
    w.grad = torch.zeros(1)
    return torch.optim.SGD([w], lr=1.0, momentum=0.9)


def run(o, scheduler, steps):
    used = []
    for _ in range(steps):
        used.append(o.param_groups[0]["lr"])
        o.step()
        if isinstance(scheduler, torchs.LRScheduler):
            scheduler.step()
    return used


def wrong(build, order, tolerance):
    """At how many of the steps the resumed run is another one."""
    o = optimizer()
    scheduler = build(o)
    saved, truth = [], []
    for _ in range(HORIZON):
        saved.append(copy.deepcopy((o.state_dict(), scheduler.state_dict())))
        truth += run(o, scheduler, 1)
    found = 0
    for t in random.sample(range(1, HORIZON - 1), 20):
        o, scheduler = optimizer(), None
        for what in order:
            if what == "b":
                scheduler = build(o)
            elif what == "o":
                o.load_state_dict(saved[t][0])
            else:
                scheduler.load_state_dict(copy.deepcopy(saved[t][1]))
        again = run(o, scheduler, HORIZON - t)
        found += any(abs(a - b) > tolerance for a, b in zip(again, truth[t:], strict=True))
    return found


def main():
    random.seed(0)
    warnings.simplefilter("ignore")
    families = {
        "etascope": (
            {repr(s): lambda o, s=s: eta.attach(s, o, horizon=HORIZON, steps_per_epoch=10) for s in MEMBERS},
            0.0,
        ),
        "torch": (TORCH, 1e-9),
    }
    rows, totals = [], []
    for family, (builds, tolerance) in families.items():
        for name, build in builds.items():
            row = {words: wrong(build, order, tolerance) for words, order in ORDERS.items()}
            rows.append({"family": family, "schedule": name, "wrong_of_20": row})
            print(
                f"{family:9} {name[:60]:60} wrong at {', '.join(f'{n:2}' for n in row.values())} of 20 steps",
                flush=True,
            )
        for words in ORDERS:
            mine = [r for r in rows if r["family"] == family]
            n = sum(r["wrong_of_20"][words] > 0 for r in mine)
            totals.append({"family": family, "order": words, "wrong": n, "of": len(mine)})
    for t in totals:
        print(f"{t['family']:9} {t['order']:42} {t['wrong']} of {t['of']} wrong")
    result = {"date": str(date.today()), "versions": versions(), "horizon": HORIZON, "totals": totals, "rows": rows}
    Path(__file__).parent.joinpath("results/resume.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
