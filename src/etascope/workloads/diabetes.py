"""`diabetes`: regression on 442 patients, full-batch SGD with a linear decay; it overfits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schedules import linear
from ..task import Task
from ._data import SPLIT_SEED, floats, standardised


def task() -> Task:
    """Build the task."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    x, y = load_diabetes(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y[:, None], test_size=0.3, random_state=SPLIT_SEED)
    x_train, x_val = standardised(x_train, x_val)
    y_train, y_val = standardised(y_train, y_val)
    return Task(
        name="diabetes",
        model=net,
        loss=loss,
        optimizer=torch.optim.SGD,
        # The full batch: a list of one.
        train=[(floats(x_train), floats(y_train))],
        val=[(floats(x_val), floats(y_val))],
        horizon=1500,
        schedule=linear(),
    )


def net() -> nn.Module:
    """10-32-32-1 with Tanh."""
    return nn.Sequential(
        nn.Linear(10, 32), nn.Tanh(),
        nn.Linear(32, 32), nn.Tanh(),
        nn.Linear(32, 1),
    )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error, in units of the target's variance."""
    x, y = batch
    return F.mse_loss(model(x), y)
