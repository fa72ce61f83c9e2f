"""What is shown to a watch as a loss: whether it is a number, and which."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["is_number", "mean_of_all", "no_loss", "number_of", "rank_and_size"]


def is_number(loss: Any) -> bool:
    """Whether it is one number, as a tensor, an array or by itself."""
    if isinstance(loss, Tensor):
        return loss.numel() == 1 and not loss.is_meta
    if isinstance(loss, np.ndarray):
        return loss.size == 1
    return isinstance(loss, Real) and not isinstance(loss, bool)


def number_of(loss: Any) -> float:
    """The number; waits for the device that it is on."""
    return float(loss.reshape(())) if isinstance(loss, Tensor | np.ndarray) else float(loss)


def rank_and_size() -> tuple[int, int]:
    """Which of the processes that train one model this is, and how many they are; 0 and 1 where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def mean_of_all(loss: Any, optimizer: torch.optim.Optimizer) -> Tensor:
    """The mean over all processes, which are to decide alike."""
    device = next(p.device for group in optimizer.param_groups for p in group["params"])
    kind = torch.float32 if device.type == "mps" else torch.float64  # the same in all, and wide enough for the sum
    value = loss.detach() if isinstance(loss, Tensor) else torch.tensor(number_of(loss), dtype=torch.float64)
    mean = value.reshape(()).to(device, kind, copy=True)
    torch.distributed.all_reduce(mean)
    return mean / torch.distributed.get_world_size()


def no_loss(loss: Any) -> str:
    """What is wrong with one that is no number."""
    if isinstance(loss, Tensor) and loss.is_meta:
        return "The loss is on the device meta, where tensors have no values."
    if isinstance(loss, Tensor):
        return f"The loss is a tensor of shape {tuple(loss.shape)}, and not one number."
    return f"The loss is a {type(loss).__name__}, and not a number."
