"""Small optimizers, and what they were stepped with."""

from __future__ import annotations

from typing import Any

import torch


def weights(n: int = 1) -> list[torch.Tensor]:
    """n parameters with a gradient."""
    made = [torch.ones(2, requires_grad=True) for _ in range(n)]
    for w in made:
        w.grad = torch.full((2,), 0.1)
    return made


def sgd(n: int = 1, lr: float = 0.1, **options: Any) -> torch.optim.SGD:
    """SGD with n param groups."""
    return torch.optim.SGD([{"params": [w]} for w in weights(n)], lr=lr, **options)


def lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    """What is written in the groups."""
    return [float(group["lr"]) for group in optimizer.param_groups]


def run(optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
    """The lrs that each of these updates was made with."""
    used = []
    for _ in range(steps):
        used.append(lrs(optimizer))
        optimizer.step()
    return used
