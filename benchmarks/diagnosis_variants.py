"""More tasks to fit with: the fitted half's models and data under other optimizers, schedules, horizons and batches.

A variant is "NAME~I". Its truth is a sweep of 23 lrs with one or two seeds, coarser than a committed one and made when
it is needed. None of the scored tasks has variants.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader
from truth import LRS, truth

import etascope as eta
from etascope.schedules import multistep
from workloads import workload

__all__ = ["VARIANTS", "task_of", "truth_of"]

QUICK = (
    "digits", "diabetes", "breast-cancer", "wine-rmsprop", "fashion-mlp", "adult-mlp", "sms-bag", "bike-rmsprop",
    "fashion-noisy", "goodbooks-factors", "digits-autoencoder", "iris-full-batch", "sms-embeddings", "adult-logistic",
    "adult-deep", "bike-adam", "bike-linear", "goodbooks-taste",
)  # fmt: skip
FRESH = ("adult-auc", "bike-counts", "breast-cancer-few", "shakespeare-bigram", "digits-noisy")
SLOW = ("digits-vit", "shakespeare-gpt", "shakespeare-convolutions", "fashion-cnn")  # one seed
VARIANTS = tuple(f"{name}~{i}" for i in range(3) for name in (*QUICK, *FRESH, *SLOW) if i < 2 or name in QUICK)

SGD, Adam, AdamW = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
OPTIMIZERS = (
    SGD, partial(SGD, momentum=0.9), partial(SGD, momentum=0.9, nesterov=True), partial(SGD, momentum=0.8), Adam,
    partial(Adam, betas=(0.8, 0.95)), partial(AdamW, weight_decay=0.1), torch.optim.NAdam, torch.optim.RMSprop,
    torch.optim.Adagrad, partial(SGD, momentum=0.9, weight_decay=1e-3), partial(AdamW, betas=(0.9, 0.95)),
)  # fmt: skip
SCHEDULES = (
    lambda: None, eta.cosine, partial(eta.linear, to=0.0), lambda: eta.warmup("10%") >> eta.cosine(),
    partial(eta.exponential, to=0.03), lambda: multistep(["50%", "80%"], factor=0.1), lambda: None,
)  # fmt: skip


def task_of(name: str) -> eta.Task:
    """A workload, or a variant of one."""
    base, _, which = name.partition("~")
    task = workload(base)
    if not which:
        return task
    draw = np.random.default_rng([zlib.crc32(base.encode()), int(which)])
    train, horizon = task.train, task.steps * draw.choice([0.5, 1.0, 1.5])
    if isinstance(train, DataLoader):
        size = max(4, int(train.batch_size * draw.choice([0.25, 0.5, 1.0, 2.0])))
        train = DataLoader(train.dataset, batch_size=size, shuffle=True)
    horizon = int(min(max(horizon, 150), 1500))
    return replace(
        task, train=train, horizon=horizon, optimizer=OPTIMIZERS[draw.integers(len(OPTIMIZERS))],
        schedule=SCHEDULES[draw.integers(len(SCHEDULES))](),
    )  # fmt: skip


@cache
def truth_of(name: str, folder: Path) -> eta.Sweep:
    """The dense truth of a workload, or of a variant, which is swept if it is not in the folder yet."""
    if "~" not in name:
        return truth(name)
    path = folder / f"truth-{name}.json"
    if not path.exists():
        seeds = (0,) if name.partition("~")[0] in SLOW else (0, 1)
        eta.sweep(task_of(name), lrs=LRS, seeds=seeds, name=name, progress=False).save(path)
    return eta.Sweep.load(path)
