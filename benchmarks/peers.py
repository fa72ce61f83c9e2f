"""What people use today against the same dense truths: range tests, default learning rates, optimizers without one.

    python benchmarks/peers.py          # after find_truth.py; with ETASCOPE_DATA also the tasks of outside.py

Writes benchmarks/results/peers.json. The range test runs at its defaults (100 steps from 1e-8 to 1) with seeds 10 to
14; etascope's rows are read from find_truth.json and find_outside.json. Prodigy, Schedule-Free AdamW and D-Adapted Adam
train one whole run at their own defaults in place of the task's optimizer, through their own libraries on the loop
engine; what is judged is its final loss. Schedule-Free gets a constant schedule, as it is meant to.
"""

import inspect
import json
import logging
import os
import warnings
from dataclasses import replace
from datetime import date
from functools import partial

import lightning as L
import numpy as np
import torch
from dadaptation import DAdaptAdam
from find_truth import RESULTS, task, truth
from lightning.pytorch.tuner import Tuner
from outside import OUTSIDE
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree
from torch.utils.data import DataLoader

import etascope as eta
from etascope.finder.session import versions
from etascope.workloads import TASKS


class Module(L.LightningModule):
    def __init__(self, given):
        super().__init__()
        self.given, self.lr = given, 1e-3
        self.model = given.model()

    def training_step(self, batch):
        return self.given.loss(self.model, batch)

    def configure_optimizers(self):
        params = self.parameters() if self.given.params is None else self.given.params(self.model)
        return self.given.optimizer(params, lr=self.lr)


def lightning(given, seed):
    """The lr that Lightning's range test suggests; None where it has no suggestion."""
    L.seed_everything(seed, verbose=False)
    trainer = L.Trainer(
        max_steps=given.steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=given.clip_norm,
    )  # fmt: skip
    train = given.train if isinstance(given.train, DataLoader) else DataLoader(given.train, batch_size=None)
    finder = Tuner(trainer).lr_find(Module(given), train_dataloaders=train, update_attr=False)
    return finder.suggestion()


def default(given, seed):
    """The lr that torch's optimizer has without being told."""
    function = given.optimizer.func if isinstance(given.optimizer, partial) else given.optimizer
    return inspect.signature(function).parameters["lr"].default


LEARNING_RATE_FREE = {
    "prodigy": (Prodigy, 1.0),
    "schedule-free": (AdamWScheduleFree, 0.0025),
    "d-adapt": (DAdaptAdam, 1.0),
}


def learning_rate_free(name, given, dense, seed):
    """The row of one of them."""
    optimizer, lr = LEARNING_RATE_FREE[name]
    schedule = eta.constant() if name == "schedule-free" else given.schedule
    trained = replace(given, optimizer=lambda params, lr: optimizer(params, lr=lr), schedule=schedule)
    try:
        (curve,) = eta.sweep(trained, lrs=[lr], seeds=(seed,), engine="loop", progress=False).rungs[0].curves
    except eta.NoAnswer as error:  # it ended above the loss at init
        (curve,) = error.record.rungs[0].curves
    loss, (_, best) = curve.loss, dense.best
    regret = min((loss - best) / (dense.init_loss - best), 1.0)
    return {"method": name, "task": dense.task, "seed": seed, "lr": lr, "cost": 1.0, "loss": loss,
            "in_zone": bool(loss <= best + dense.tolerance), "regret": float(regret)}  # fmt: skip


def main():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    names = [*TASKS, *(OUTSIDE if os.environ.get("ETASCOPE_DATA") else ())]
    rows = []
    for name in names:
        dense, given = truth(name), task(name)
        for method, cost in ((lightning, 100 / given.steps), (default, 0.0)):
            for seed in range(10, 15) if method is lightning else (0,):
                lr = method(given, seed)
                mean = float("inf") if lr is None else dense.mean_loss(lr)
                regret = float(min(dense.regret(lr), 1.0)) if np.isfinite(mean) else 1.0
                rows.append({"method": method.__name__, "task": name, "seed": seed, "lr": lr, "cost": cost,
                             "in_zone": bool(mean <= dense.best[1] + dense.tolerance), "regret": regret})  # fmt: skip
        for method in LEARNING_RATE_FREE:
            rows += [learning_rate_free(method, given, dense, seed) for seed in range(10, 13)]
    for file in ("find_truth.json", "find_outside.json"):
        found = json.loads((RESULTS / file).read_text())["rows"]
        keys = ("task", "seed", "lr", "cost", "in_zone", "regret")
        rows += [{"method": "etascope"} | {k: r[k] for k in keys} for r in found if r["task"] in names]
    for method in ("etascope", "lightning", "default", *LEARNING_RATE_FREE):
        own = [r for r in rows if r["method"] == method]
        regret, cost = [r["regret"] for r in own], np.mean([r["cost"] for r in own])
        print(f"{method:13} in the true zone {np.mean([r['in_zone'] for r in own]):6.1%}  regret median "
              f"{np.median(regret):6.2%}, worst {max(regret):6.1%}  cost {cost:.2f} runs")  # fmt: skip
    result = {
        "date": str(date.today()),
        "cores": 2,
        "versions": versions() | {"lightning": L.__version__},
        "rows": rows,
    }
    (RESULTS / "peers.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
