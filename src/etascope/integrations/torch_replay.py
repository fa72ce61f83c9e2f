"""A torch scheduler once more from step 0, on an optimizer without parameters."""

from __future__ import annotations

import copy
import warnings
from typing import Any

__all__ = ["replay"]


def replay(scheduler: Any, group: int, key: str, steps: int) -> list[float]:
    """The values of `key` in a param group at steps 0 … `steps` − 1; fewer where torch raises. Leaves all as it is.

    In float64, also where the optimizer's lr is a tensor.
    """
    import torch

    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)]} for _ in scheduler.optimizer.param_groups], lr=1.0)
    for ours, theirs in zip(optimizer.param_groups, scheduler.optimizer.param_groups, strict=True):
        ours.update({name: _plain(value) for name, value in theirs.items() if name != "params"})
        ours["lr"] = ours.get("initial_lr", ours["lr"])
    values: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the order of step() calls is of no concern here
        again = _rewound(scheduler, optimizer)
        while len(values) < steps:
            now = optimizer.param_groups[group]
            values.append(float(now["betas"][0] if key == "beta1" else now[key]))
            try:
                again.step()
            except Exception:  # the end of what can be said: OneCycleLR two steps past its last, a user's own function
                break
    return values


def _rewound(scheduler: Any, optimizer: Any) -> Any:
    """A copy on another optimizer, as its constructor left it."""
    if hasattr(scheduler, "_schedulers"):
        parts = [_rewound(part, optimizer) for part in scheduler._schedulers]
        if hasattr(scheduler, "_milestones"):
            return type(scheduler)(optimizer, parts, list(scheduler._milestones))
        return type(scheduler)(parts, optimizer)
    again = copy.copy(scheduler)
    for name, value in vars(scheduler).items():
        if name != "optimizer":
            setattr(again, name, _plain(value))
    again.optimizer = optimizer
    again.last_epoch = -1
    if hasattr(again, "T_cur"):
        again.T_cur, again.T_i = -1, again.T_0
    again._initial_step()
    return again


def _plain(value: Any) -> Any:
    """Tensors as floats, lists as new lists."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return value.item() if hasattr(value, "item") else value
