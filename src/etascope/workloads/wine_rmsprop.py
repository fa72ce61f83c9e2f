"""`wine-rmsprop`: an MLP that tells three wine growers apart, RMSprop with an exponential decay."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..schedules import exponential
from ..task import Task
from ._data import classification, whole


def task() -> Task:
    """Build the task."""
    from sklearn.datasets import load_wine

    train, val = classification(load_wine, val_share=0.3, standardise=True)
    return Task(
        name="wine-rmsprop",
        model=net,
        loss=loss,
        optimizer=torch.optim.RMSprop,
        train=DataLoader(train, batch_size=16, shuffle=True),
        val=whole(val),
        horizon=800,
        schedule=exponential(to=0.01),
    )


def net() -> nn.Module:
    """13-32-3 with ReLU."""
    return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 3))


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy against labels smoothed by 0.1."""
    x, y = batch
    # Without smoothing, one sure and wrong answer among the 54 of the validation would decide the loss.
    return F.cross_entropy(model(x), y, label_smoothing=0.1)
