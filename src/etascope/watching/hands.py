"""What a decision does to the training: gradients dropped, states put back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..records.run import Decision
from ..watcher import Controller
from .control import Control
from .scaling import keep_scale, refuse_step
from .snapshots import Ring

__all__ = ["Buffers", "Hands"]

LARGE = 1 << 16  # numbers in a buffer


class Buffers:
    """The buffers as they were after the last loss in line.

    A batch whose update is left out has gone through the running statistics of the model's normalisations; they are
    put back without it.

    Each is copied every time, since what torch counts for a tensor, its version, does not move with the running
    statistics. Only large ones, as masks are, are copied where their version has moved: of those, what is written
    through `.data` is not seen.

    Args:
        models: whose buffers.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        owners = {id(module): module for model in models for module in model.modules()}
        self._places = [(m._buffers, name) for m in owners.values() for name in m._buffers]
        self._kept: list[Tensor | None] = [None] * len(self._places)
        self._marks: list[Any] = [None] * len(self._places)

    @torch.no_grad()
    def keep(self) -> None:
        """Keep them as they are now."""
        copies: list[Tensor] = []
        moved: list[Tensor] = []
        for i, (own, name) in enumerate(self._places):
            now, kept = own[name], self._kept[i]
            if self._holds_still(i, now):
                continue
            if kept is not None and now is not None and _fits(kept, now):
                copies.append(kept)
                moved.append(now)
            else:
                self._kept[i] = None if now is None else now.detach().clone()
            self._marks[i] = _mark(now)
        if moved:
            torch._foreach_copy_(copies, moved)

    @torch.no_grad()
    def put_back(self) -> None:
        """Put them back as they were kept."""
        for i, (own, name) in enumerate(self._places):
            now, kept = own[name], self._kept[i]
            if self._holds_still(i, now):
                continue
            if kept is not None and now is not None and _fits(kept, now):
                now.copy_(kept)
            else:
                own[name] = None if kept is None else kept.clone()

    def _holds_still(self, i: int, now: Tensor | None) -> bool:
        return (mark := _mark(now)) is not None and mark == self._marks[i]


def _mark(tensor: Tensor | None) -> tuple[int, int] | None:
    """What is another one after a large tensor was written; None for others."""
    if tensor is None or tensor.numel() <= LARGE or tensor.is_inference():
        return None
    return id(tensor), tensor._version


def _fits(kept: Tensor, now: Tensor) -> bool:
    if kept.layout != torch.strided or now.layout != torch.strided:
        return False
    same = kept.shape == now.shape and kept.dtype == now.dtype and kept.device == now.device
    return same and kept.stride() == now.stride()


class Hands:
    """Carries decisions out.

    Args:
        models: what is trained.
        optimizer: what trains it.
        scaler: the gradient scaler, or None.
        control: of the lr.
        ring: of snapshots.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer,
        scaler: Any,
        control: Control,
        ring: Ring | None,
    ) -> None:
        self.ring = ring
        self._optimizer, self._scaler, self._control = optimizer, scaler, control
        self._buffers = Buffers(models)
        self._sizes = self._layout()
        self._taken_at = -1  # the observation with which a snapshot was taken last, or refused
        self.passing = False  # an update was left out, and its `step` may not have come yet

    def calm(self) -> None:
        """The last loss was in line."""
        if self._buffers._places:
            self._buffers.keep()

    def carry_out(self, decision: Decision, pending: bool) -> None:
        """Do what was decided.

        Args:
            decision: one that is taken.
            pending: whether an update is to come of gradients that are there; not so between two iterations.
        """
        action = decision.action
        if action in ("rewind", "stop") and decision.to_step is not None:
            self._go_back(decision.to_step)
        if not pending or action not in ("skip", "rewind", "stop"):
            return
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        for parameter in parameters:
            parameter.grad = None
        self._control.pass_over(True)
        self.passing = True
        refuse_step(self._scaler, self._optimizer, parameters)
        if action != "skip" or "grad" not in decision.numbers or decision.code != "ETA001":
            keep_scale(self._scaler)  # else a gradient did overflow, and the scale is to fall
        if action == "skip":
            self._buffers.put_back()

    def step_is_over(self) -> None:
        """The step that was left out lies behind."""
        self.passing = False
        self._control.pass_over(False)

    def turn(self, controller: Controller) -> list[int]:
        """Take, confirm and drop snapshots as the controller has it; returns the steps of those that are not there."""
        ring = self.ring
        if ring is None:
            return []
        if (on_trial := ring.on_trial) is not None:
            if on_trial in [kept.step for kept in controller.kept if kept.good]:
                ring.confirm(on_trial)
            elif on_trial not in controller.steps_kept:
                ring.doubt()
        if controller.take and controller.kept and controller.seen != self._taken_at:
            newest, self._taken_at = controller.kept[-1], controller.seen
            if ring.take(newest.step, self._control.extra()) and newest.good:
                ring.confirm(newest.step)
        return self.missing(controller)

    def missing(self, controller: Controller) -> list[int]:
        """The steps that the controller would go back to, and whose snapshots are lost."""
        if self.ring is None:
            return []
        self.ring.look()
        there = {*self.ring.good, self.ring.on_trial}
        return [step for step in controller.steps_kept if step not in there]

    def has_changed(self) -> bool:
        """Whether parameters or groups were added since the last call: snapshots of before do not fit any more."""
        if (now := self._layout()) == self._sizes:
            return False
        self._sizes = now
        if self.ring is not None:
            self.ring.clear()
        return True

    def _layout(self) -> list[int]:
        return [len(group["params"]) for group in self._optimizer.param_groups]

    def _go_back(self, step: int) -> None:
        assert self.ring is not None
        back = sum(good > step for good in self.ring.good)
        _, extra = self.ring.rewind(back, leave=("lr",))
        self._control.go_back(extra)
