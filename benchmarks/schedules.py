"""What a schedule costs: per update beside torch's schedulers, over 10^7 steps beside bare NumPy, in compiled steps.

    python benchmarks/schedules.py          # writes benchmarks/results/schedules.json

Per update: an optimizer whose step does nothing is stepped with and without `attach`; the difference is what the hook
adds. Against it stands a torch scheduler's `step()` alone ("step"), and all that a torch scheduler adds to the loop,
for it also wraps `optimizer.step` ("added"). All are measured in turns, and the quietest turn of each
is compared, in time of the processor.
"""

import json
import math
import os
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

import etascope as eta
from etascope.finder.session import versions

HORIZON = 1_000_000
STEPS = 10**7


class Idle(torch.optim.Optimizer):
    """Its step does nothing, so that what surrounds it is seen."""

    def __init__(self, groups):
        super().__init__([{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(groups)], {"lr": 0.1})

    def step(self, closure=None):
        return None


def cosine(t):
    return 0.5 * (1 + math.cos(math.pi * t / HORIZON))


def together(optimizer, scheduler):
    optimizer.step()

    def step():
        optimizer.step()
        scheduler.step()

    return step


def per_update(groups):
    idle = {name: Idle(groups) for name in ("bare", "attached", "function", "lambda", "cosine")}
    handles = [
        eta.attach(eta.cosine(), idle["attached"], horizon=HORIZON),
        eta.attach(cosine, idle["function"], horizon=HORIZON),
    ]
    by_lambda = LambdaLR(idle["lambda"], cosine)
    by_cosine = CosineAnnealingLR(idle["cosine"], HORIZON)
    calls = {
        "bare": idle["bare"].step,
        "attached": idle["attached"].step,
        "function": idle["function"].step,
        "LambdaLR step": by_lambda.step,
        "CosineAnnealingLR step": by_cosine.step,
        "LambdaLR loop": together(idle["lambda"], by_lambda),
        "CosineAnnealingLR loop": together(idle["cosine"], by_cosine),
    }
    idle["lambda"].step(), idle["cosine"].step()
    n, turns = 1024, 400 if groups == 1 else 40  # with one block of values computed in each turn
    seconds = {name: [] for name in calls}
    for _ in range(turns):
        for name, call in calls.items():
            start = time.thread_time()
            for _ in range(n):
                call()
            seconds[name].append((time.thread_time() - start) / n)
    us = {name: min(values) * 1e6 for name, values in seconds.items()}
    added = {
        name: us[name] - us["bare"] for name in ("attached", "function", "LambdaLR loop", "CosineAnnealingLR loop")
    }
    assert all(handle.step == n * turns for handle in handles)
    row = {"groups": groups, "optimizer_us": us["bare"], "attach_adds_us": added["attached"]}
    row["function"] = {
        "adds_us": added["function"],
        "ratio_to_step": added["function"] / us["LambdaLR step"],
        "ratio_to_added": added["function"] / added["LambdaLR loop"],
    }
    for name in ("LambdaLR", "CosineAnnealingLR"):
        row[name] = {
            "step_us": us[f"{name} step"],
            "adds_us": added[f"{name} loop"],
            "ratio_to_step": added["attached"] / us[f"{name} step"],
            "ratio_to_added": added["attached"] / added[f"{name} loop"],
        }
    return row


def bare_cosine(t, n=STEPS):
    return 0.5 * (1 + np.cos(np.pi * (t / n)))


def bare_warmup_cosine(t, n=STEPS, w=STEPS // 20):
    return np.where(t < w, (t + 1) / (w + 1), 0.5 * (1 + np.cos(np.pi * ((t - w) / (n - w)))))


def whole_run():
    t = np.arange(STEPS)
    rows = []
    for s, bare in ((eta.cosine(), bare_cosine), (eta.warmup("5%") >> eta.cosine(), bare_warmup_cosine)):
        b = s.bind(STEPS)
        seconds = {"etascope": [], "numpy": []}
        for _ in range(5):
            for name, call in (("etascope", b), ("numpy", bare)):
                start = time.perf_counter()
                values = call(t)
                seconds[name].append(time.perf_counter() - start)
                del values
        assert np.abs(b(t[::997]) - bare(t[::997])).max() < 1e-12
        mine, theirs = (min(seconds[name]) for name in ("etascope", "numpy"))
        rows.append(
            {"schedule": repr(s), "steps": STEPS, "etascope_s": mine, "numpy_s": theirs, "ratio": mine / theirs}
        )
    return rows


def compiled(backend="inductor"):
    from torch._dynamo.utils import counters

    counters.clear()
    weights = [torch.ones(4, requires_grad=True) for _ in range(2)]
    for w in weights:
        w.grad = torch.ones(4)
    optimizer = torch.optim.Adam([{"params": [w]} for w in weights], lr=torch.tensor(0.1))
    handle = eta.attach(eta.warmup(10) >> eta.cosine(), optimizer, horizon=100)
    step = torch.compile(optimizer.step, backend=backend)
    start = time.perf_counter()
    step()
    first, graphs = time.perf_counter() - start, counters["stats"]["unique_graphs"]
    for _ in range(99):
        step()
    assert handle.step == 100
    return {
        "backend": backend,
        "steps": 100,
        "first_step_s": first,
        "graphs_after_first_step": graphs,
        "recompiles": counters["stats"]["unique_graphs"] - graphs,
    }


def main():
    torch.set_num_threads(1)
    updates = [per_update(1), per_update(100)]
    for row in updates:
        groups, adds = f"{row['groups']:3} groups", row["attach_adds_us"]
        for name in ("LambdaLR", "CosineAnnealingLR"):
            r = row[name]
            print(f"{groups}: attach adds {adds:.2f} us an update; {name}.step() takes {r['step_us']:.2f}: "
                  f"{r['ratio_to_step']:.2f}x, adds {r['adds_us']:.2f} in all: {r['ratio_to_added']:.2f}x")  # fmt: skip
        r = row["function"]
        print(f"{groups}: the LambdaLR's function in attach adds {r['adds_us']:.2f} us: {r['ratio_to_step']:.2f}x "
              f"of its step(), {r['ratio_to_added']:.2f}x of all", flush=True)  # fmt: skip
    runs = whole_run()
    for row in runs:
        print(f"{row['steps']:.0e} steps of {row['schedule']}: {row['etascope_s']:.3f} s, bare NumPy "
              f"{row['numpy_s']:.3f} s: {row['ratio']:.2f}x", flush=True)  # fmt: skip
    graph = compiled()
    print(f"compiled Adam, tensor lr: {graph['recompiles']} recompiles in {graph['steps']} steps ({graph['backend']})")
    result = {
        "date": str(date.today()),
        "cores": os.cpu_count(),
        "versions": versions(),
        "target": {"per_update": 0.33, "whole_run": 3, "recompiles": 0},
        "per_update": updates,
        "whole_run": runs,
        "compiled": graph,
    }
    Path(__file__).parent.joinpath("results/schedules.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
