"""`digits`: a small MLP on 8x8 handwritten digits, SGD with momentum at a constant lr."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..task import Task
from ._data import digits, whole


def task() -> Task:
    """Build the task."""
    train, val = digits()
    return Task(
        name="digits",
        model=net,
        loss=loss,
        optimizer=partial(torch.optim.SGD, momentum=0.9),
        train=DataLoader(train, batch_size=64, shuffle=True),
        val=whole(val),
        horizon=1500,
    )


def net() -> nn.Module:
    """64-64-64-10 with ReLU."""
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy."""
    x, y = batch
    return F.cross_entropy(model(x), y)
