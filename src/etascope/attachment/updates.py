"""What is an update: which calls of an optimizer's `step` torch tells the handle of, and which of them count."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

import torch

__all__ = ["initialises", "is_hooked", "is_within_another", "nests", "wrapped"]

# torch puts one runner of hooks around the `step` of each class of which there was an instance; all have this code.
_RUNNER = torch.optim.Optimizer.profile_hook_step(torch.optim.Optimizer.step).__code__


def is_hooked(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its `step` runs hooks: torch sees to it in `Optimizer.__init__`, which some wrappers leave out."""
    return bool(getattr(type(optimizer).step, "hooked", False))


def nests(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its `step` may call that of a base class, whose hooks are then run inside its own."""
    classes = [c for c in type(optimizer).__mro__ if c is not torch.optim.Optimizer]
    return len({inspect.unwrap(vars(c)["step"]) for c in classes if "step" in vars(c)}) > 1


def is_within_another(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step that has just ended is part of another one of this optimizer.

    The stack says so, not a count of steps begun: one that raises would never end. Two runners are on it, or, where
    they are compiled and so others, the `step` that called this one.
    """
    runners = 0
    for frame in _callers():
        runner = frame.f_code is _RUNNER
        if (runner or frame.f_code.co_name == "step") and frame.f_locals.get("self") is optimizer:
            runners += 1
            if not runner or runners > 1:
                return True
    return False


def initialises(optimizer: torch.optim.Optimizer, kwargs: Mapping[str, Any]) -> bool:
    """Whether this step is torch.distributed.checkpoint's, which makes an empty state: the lr 0, until it is over."""
    if kwargs != {"closure": None} or any(float(group.get("lr", 0.0)) for group in optimizer.param_groups):
        return False
    return any(
        f.f_code.co_name == "_init_optim_state" and "distributed" in f.f_globals.get("__name__", "") for f in _callers()
    )


def wrapped(optimizer: Any) -> str | None:
    """The name of the attribute under which a wrapper holds an optimizer; None if it holds none, or several."""
    names = [name for name, value in vars(optimizer).items() if isinstance(value, torch.optim.Optimizer)]
    return names[0] if len(names) == 1 else None


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back
