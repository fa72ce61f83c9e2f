"""A real `LRScheduler` over `attach`, for frameworks that demand one: Lightning, Accelerate, transformers' Trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch.optim.lr_scheduler import LRScheduler

from ..attachment import attach
from ..attachment.given import Scheduled
from ..errors import OptionError

__all__ = ["ScheduleLR"]

OnChange: TypeAlias = Literal["raise", "saved", "given"]


_CHANGED = (
    'ScheduleLR(..., on_change="saved") goes on as it was saved (for a longer run, then scheduler.handle.extend); '
    'on_change="given" takes what is given here, and keeps counter, scale and factors.'
)


class ScheduleLR(LRScheduler):
    """A schedule on an optimizer, as a torch scheduler that cannot be called too often, too early or not at all.

    The clock is the optimizer's: updates that took place are counted by its own hook, so `step()` does nothing. Whether
    the framework calls it per batch, per epoch or once per process makes no difference, and accumulation and skipped
    updates come out right. `state_dict` is the handle's, and loads in any order with the optimizer's.

    Args:
        optimizer: the torch optimizer.
        schedule: as in `attach`: a schedule, a function of the step, or a mapping from key to these.
        horizon: optimizer updates of the complete run.
        lr: the peak; default None, the optimizer's own.
        steps_per_epoch: updates of one epoch, for lengths in "ep".
        on_change: what to do when a state is loaded that was given something else: "raise" (default), or take what
            was "saved", or what is "given" here. The frameworks load it, and ask nobody.
        options: those of `attach`: groups, factors, clock, added.

    Raises:
        OptionError, ScheduleError: as `attach`.

    >>> from etascope.schedules import cosine
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    >>> scheduler = ScheduleLR(optimizer, cosine(), horizon=4)
    >>> for _ in range(2):
    ...     optimizer.step()
    ...     scheduler.step()  # as often as it likes
    ...     scheduler.step()
    >>> scheduler.last_epoch, scheduler.get_last_lr()
    (2, [0.05])
    """

    def __init__(  # torch's own __init__ would wrap optimizer.step, to warn about an order that does not matter here
        self,
        optimizer: torch.optim.Optimizer,
        schedule: Scheduled,
        horizon: int | None = None,
        lr: float | Sequence[float] | None = None,
        steps_per_epoch: float | None = None,
        on_change: OnChange = "raise",
        **options: Any,
    ) -> None:
        if on_change not in ("raise", "saved", "given"):
            raise OptionError(f"on_change is {on_change!r}.", 'Write "raise", "saved" or "given".')
        self.handle = attach(schedule, optimizer, lr=lr, horizon=horizon, steps_per_epoch=steps_per_epoch, **options)
        self.optimizer = optimizer
        self.on_change = on_change
        self._step_count = 1  # Accelerate counts it up
        for group, base in zip(optimizer.param_groups, self.base_lrs, strict=True):
            group.setdefault("initial_lr", float(base))  # as each of torch's does

    def step(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the optimizer's updates are what is counted. A metric goes to `handle.observe`."""

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """The lr of each param group, as it is now."""
        return list(self.handle.lrs)

    def get_lr(self) -> list[float | torch.Tensor]:
        """The same as `get_last_lr`."""
        return self.get_last_lr()

    @property
    def last_epoch(self) -> int:
        """Optimizer updates so far; torch's name for it. SequentialLR would set it, to count itself.

        Raises:
            OptionError: it is set.
        """
        return self.handle.step

    @last_epoch.setter
    def last_epoch(self, last_epoch: int) -> None:
        raise OptionError(
            "last_epoch of a ScheduleLR was set, as by SequentialLR: it counts the optimizer's updates itself.",
            "Compose schedules with >>: ScheduleLR(optimizer, warmup(100) >> cosine(), ...); or set handle.step.",
        )

    @property
    def _last_lr(self) -> list[float | torch.Tensor]:  # type: ignore[override]
        return self.get_last_lr()

    @property
    def base_lrs(self) -> list[float | torch.Tensor]:  # type: ignore[override]
        """The peak of each param group; the present lr of one that no schedule multiplies."""
        pairs = zip(self.handle.peaks, self.handle.lrs, strict=True)
        return [lr if peak is None else peak for peak, lr in pairs]

    def state_dict(self) -> dict[str, Any]:
        """The handle's state: plain data."""
        return self.handle.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where the saved run stopped; see `Handle.load_state_dict`.

        Raises:
            OptionError, RecordError: the state is not for this run; `on_change` is "raise" and it was given something
                else.
        """
        self.handle._load(state_dict, None if self.on_change == "raise" else self.on_change, _CHANGED)

    def __repr__(self) -> str:
        return f"ScheduleLR({self.handle!r})"
