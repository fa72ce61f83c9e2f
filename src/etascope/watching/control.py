"""How a watch gets at the lr: through the handle that drives it, or, where none does, around each update."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ..attachment import Handle
from ..attachment.updates import is_within_another
from ..schedules import Bound

__all__ = ["Control", "HandleControl", "HookControl", "lr_driven"]


def lr_driven(handle: Handle | None) -> tuple[Bound | None, float | None]:
    """The schedule of the first param group's lr, and its peak, 1 for an absolute one; None for both without one."""
    if handle is None or handle.wanted[0] is None:
        return None, None
    driven = handle.given.of(0)["lr"]
    return driven.bound, 1.0 if driven.absolute else handle.peaks[0]


class Control(Protocol):
    """The lr of a run: how many updates there were, and one factor on it."""

    own: float  # the part of the scale that is not the watch's

    @property
    def step(self) -> int:
        """Updates made."""

    def made(self) -> None:
        """An update is on its way."""

    def put(self, factor: float) -> float:
        """Have the lr multiplied by the factor from the next update on; returns the whole scale."""

    def pass_over(self, on: bool) -> None:
        """Whether the next update is not to be counted, as its gradients were dropped."""

    def altered(self) -> tuple[float, float] | None:
        """The lr that somebody else wrote, and what should stand there."""

    def rewrite(self) -> None:
        """Write what should stand there."""

    def extra(self) -> dict[str, Any]:
        """What belongs to a snapshot, as plain data."""

    def go_back(self, extra: dict[str, Any]) -> None:
        """Take back what belonged to a snapshot."""

    def close(self) -> None:
        """Let go."""

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class HandleControl:
    """Through `handle.scale`, of which the watch's factor is a part: what others set there stays in it."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.own = self._wrote = handle.scale

    @property
    def step(self) -> int:
        return self.handle.step

    def made(self) -> None:
        pass

    def put(self, factor: float) -> float:
        now = self.handle.scale
        if now != self._wrote:  # somebody set it, or a metric-driven factor of the handle did
            by = self._wrote / self.own if self.own > 0 else 1.0
            self.own = now if by == 1.0 or by == 0.0 else now / by
        scale = now if factor == 1.0 and self.own == now else self.own * factor
        if scale != now and self.handle.is_attached:
            self.handle.scale = scale
        self._wrote = scale
        return scale

    def pass_over(self, on: bool) -> None:
        self.handle.pass_over(on)

    def altered(self) -> tuple[float, float] | None:
        return self.handle.altered()

    def rewrite(self) -> None:
        if self.handle.is_attached:
            self.handle.rewrite()

    def extra(self) -> dict[str, Any]:
        return {"own": self.own, "factors": self.handle.factors}

    def go_back(self, extra: dict[str, Any]) -> None:
        if not self.handle.is_attached:
            return
        by = self._wrote / self.own if self.own > 0 else 1.0
        self.own = float(extra["own"])
        self.handle.factors = extra["factors"]
        self.handle.scale = self._wrote = self.own * by
        self.handle.rewrite()  # the snapshot has the momentum, say, that the schedule wanted then

    def close(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {"own": self.own, "wrote": self._wrote}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.own, self._wrote = state["own"], state["wrote"]


class HookControl:
    """Around each update: the lr of all groups is multiplied just before, and put back just after.

    Whatever scheduler there is sees its own lr alone, and goes on as it would have. Without `act` there are no hooks.
    Where `step` is given a closure that makes the observation itself, as Lightning's does, the lr is multiplied there.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, act: bool) -> None:
        self.own = self._factor = 1.0
        self._count = 0
        self._passing = False
        self._made = self._within = False  # observed before this `step`; in a `step` whose closure may observe
        self._optimizer = optimizer
        self._before: list[tuple[Any, Any]] = []  # (group or tensor, its lr before), while they are multiplied
        self._hooks = (
            [optimizer.register_step_pre_hook(self._before_step), optimizer.register_step_post_hook(self._put_back)]
            if act
            else []
        )

    @property
    def step(self) -> int:
        return self._count

    def made(self) -> None:
        self._count += 1
        self._made = True
        if self._within:
            self._multiply()

    def put(self, factor: float) -> float:
        self._factor = factor
        return factor

    def pass_over(self, on: bool) -> None:
        if on and not self._passing:
            self._count -= 1
        self._passing = on

    def altered(self) -> tuple[float, float] | None:
        return None

    def rewrite(self) -> None:
        pass

    def extra(self) -> dict[str, Any]:
        return {}

    def go_back(self, extra: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        self._restore()
        for hook in self._hooks:
            hook.remove()

    def state_dict(self) -> dict[str, Any]:
        return {"count": self._count, "factor": self._factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._count, self._factor = state["count"], state["factor"]

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_within_another(optimizer):
            return
        self._restore()  # of a step that raised
        closure = args[1] if len(args) > 1 else kwargs.get("closure")  # args[0] is the optimizer
        self._within = closure is not None and not self._made
        if not self._within:
            self._multiply()

    def _multiply(self) -> None:
        self._within = False
        if self._factor == 1.0:
            return
        tensors = set()
        for group in self._optimizer.param_groups:
            lr = group["lr"]
            if not isinstance(lr, torch.Tensor):
                self._before.append((group, lr))
                group["lr"] = lr * self._factor
            elif id(lr) not in tensors:  # groups may share one
                tensors.add(id(lr))
                self._before.append((lr, lr.clone()))
                lr.mul_(self._factor)

    def _put_back(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_within_another(optimizer):
            return
        self._made = self._within = False
        self._restore()

    def _restore(self) -> None:
        for own, lr in self._before:
            if isinstance(own, torch.Tensor):
                own.copy_(lr)
            else:
                own["lr"] = lr
        self._before = []
