"""`digits-cnn`: a convnet with BatchNorm on 8x8 digits, SGD with Nesterov momentum, warmup and cosine."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..schedules import cosine, warmup
from ..task import Task
from ._data import digits, whole


def task() -> Task:
    """Build the task."""
    train, val = digits()
    return Task(
        name="digits-cnn",
        model=net,
        loss=loss,
        optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True, weight_decay=5e-4),
        train=DataLoader(train, batch_size=64, shuffle=True, drop_last=True),
        val=whole(val),
        horizon=1000,
        schedule=warmup("5%") >> cosine(),
    )


def net() -> nn.Module:
    """Two 3x3 convolutions, each with BatchNorm and pooling, and a linear head."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1, bias=False), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48 * 2 * 2, 10),
    )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy."""
    x, y = batch
    return F.cross_entropy(model(x), y)
