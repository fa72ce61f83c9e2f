"""`breast-cancer`: logistic regression on 30 features of 569 tumours, AdaGrad at a constant lr."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..task import Task
from ._data import classification, whole


def task() -> Task:
    """Build the task."""
    from sklearn.datasets import load_breast_cancer

    train, val = classification(load_breast_cancer, val_share=0.3, standardise=True)
    return Task(
        name="breast-cancer",
        model=net,
        loss=loss,
        optimizer=torch.optim.Adagrad,
        train=DataLoader(train, batch_size=32, shuffle=True),
        val=whole(val),
        horizon=1000,
    )


def net() -> nn.Module:
    """One linear layer: the log odds of a benign tumour."""
    return nn.Linear(30, 1)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean binary cross-entropy."""
    x, y = batch
    return F.binary_cross_entropy_with_logits(model(x).squeeze(-1), y.float())
