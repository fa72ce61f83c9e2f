"""K trainings as one against the plain loop, for each built-in task: seconds, and how often the loop's speed.

    python benchmarks/lanes.py          # writes benchmarks/results/lanes.json

One thread each, 20 steps of every setting, evaluation and start included; `auto` is what it would choose.
"""

import json
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch

from etascope.engines import Lanes, Loop, Prepared, Setting, choose, undisturbed
from etascope.finder.session import versions
from etascope.records import Engine
from etascope.workloads import TASKS, get

STEPS = 20


def seconds(engine, settings):
    start = time.perf_counter()
    for unit in engine.units(settings):
        engine.train(unit, STEPS, 0, lambda steps: None)
    return time.perf_counter() - start


def main():
    rows = []
    for name in TASKS:
        prepared = Prepared(get(name), torch.device("cpu"))
        for k in (8, 32):
            settings = [Setting(0, float(lr)) for lr in np.geomspace(1e-5, 1e-2, k)]
            with undisturbed():
                auto = choose(prepared, "auto", 0, 100 * prepared.horizon).engine.ran
                loop, lanes = Loop(prepared, Engine("loop", 1, 1, "cpu")), Lanes(prepared, Engine("lanes", k, 1, "cpu"))
                times = [(seconds(loop, settings), seconds(lanes, settings)) for _ in range(3)]
            loop_s, lanes_s = np.min(times, axis=0)
            row = {"task": name, "K": k, "loop_s": loop_s, "lanes_s": lanes_s, "ratio": loop_s / lanes_s}
            rows.append(row | {"auto": f"{auto.engine}, {auto.threads} threads"})
            print(f"{name:14} K={k:<3} loop {loop_s:6.2f} s  lanes {lanes_s:6.2f} s  {loop_s / lanes_s:4.1f}x  "
                  f"auto: {rows[-1]['auto']}", flush=True)  # fmt: skip
    result = {"date": str(date.today()), "cores": 2, "versions": versions(), "steps": STEPS, "rows": rows}
    Path(__file__).parent.joinpath("results/lanes.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
