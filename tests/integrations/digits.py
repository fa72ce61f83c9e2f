"""The digits of scikit-learn in batches, some of them corrupt, and a small net."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from etascope.watcher import Log


def data(rows: slice) -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x[rows] / 16, dtype=torch.float32), torch.tensor(y[rows])


def batches(count: int, bad: Any = (), size: int = 16) -> list[tuple[Tensor, Tensor]]:
    x, y = data(slice(0, count * size))
    found = []
    for i in range(count):
        own = x[i * size : (i + 1) * size]
        found.append((torch.full_like(own, torch.nan) if i in bad else own, y[i * size : (i + 1) * size]))
    return found


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def told(log: Log, since: int = 0) -> list[str]:
    """What a run was from an observation on, for two to be compared: observations and decisions."""
    return [repr(one) for one in (*log.observations(), *log.decisions) if one.seen >= since]
