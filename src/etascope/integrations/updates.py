"""What the adapters of `eta.watch` have in common: an update's loss out of its micro-batches, and the options."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..attachment import Handle, inner_optimizer
from ..watching import watch
from ..watching.losses import is_number
from .torch import ScheduleLR

__all__ = ["Losses", "checked", "handle_of", "here"]


class Losses:
    """The losses of the micro-batches of an update, left on their device."""

    def __init__(self) -> None:
        self._values: list[Any] = []

    def add(self, loss: Any) -> None:
        """One more micro-batch's."""
        self._values.append(loss.detach() if isinstance(loss, Tensor) else loss)

    def take(self, add_up: bool = False) -> Any:
        """Their mean, or sum, and begin anew; None where there is none.

        Where one is no number it is given back as it is: the watch says what is wrong with it.
        """
        values, self._values = self._values, []
        if len(values) < 2:
            return values[0] if values else None
        if odd := [value for value in values if not is_number(value)]:
            return odd[0]
        device = next((value.device for value in values if isinstance(value, Tensor)), None)
        together = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=device).reshape(()) for v in values])
        return together.sum() if add_up else together.mean()


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, all of which `eta.watch` knows.

    Raises:
        TypeError: it does not.
    """
    inspect.signature(watch).bind(None, None, **options)
    return dict(options)


def here(options: Mapping[str, Any], rank: int) -> dict[str, Any]:
    """The options of a process: the first alone writes the log and calls the sinks, and snapshots do not collide."""
    if rank == 0:
        return dict(options)
    folder = options.get("snapshots")
    apart = None if folder is None else Path(folder) / f"rank_{rank}"
    return {**options, "log": None, "sinks": (), "snapshots": apart}


def handle_of(scheduler: Any, optimizer: Any) -> Handle | None:
    """The handle on the optimizer, where the framework's scheduler is a `ScheduleLR`, be it wrapped."""
    inner = getattr(scheduler, "scheduler", scheduler)
    return inner.handle if isinstance(inner, ScheduleLR) and inner_optimizer(inner.optimizer) is optimizer else None
