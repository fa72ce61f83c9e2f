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


class Buffers:
    """The buffers as they were after the last loss in line.

    A batch whose update is left out has gone through the running statistics of the model's normalisations; they are
    put back without it.

    Args:
        models: whose buffers.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        owners = {id(module): module for model in models for module in model.modules()}
        self._places = [(m._buffers, name) for m in owners.values() for name in m._buffers]
        self._kept: list[Tensor | None] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Keep them as they are now."""
        now = [own[name] for own, name in self._places]
        if len(self._kept) == len(now) and all(map(_fits, self._kept, now)):
            torch._foreach_copy_([k for k in self._kept if k is not None], [t for t in now if t is not None])
        else:
            self._kept = [None if t is None else t.detach().clone() for t in now]

    @torch.no_grad()
    def put_back(self) -> None:
        """Put them back as they were kept."""
        for (own, name), kept in zip(self._places, self._kept, strict=False):
            now = own[name]
            if kept is not None and _fits(kept, now):
                now.copy_(kept)  # type: ignore[union-attr]
            else:
                own[name] = None if kept is None else kept.clone()


def _fits(kept: Tensor | None, now: Tensor | None) -> bool:
    if kept is None or now is None:
        return kept is now
    return kept.shape == now.shape and kept.dtype == now.dtype and kept.device == now.device


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
        newest = controller.kept[-1] if controller.take else None
        if newest is not None and ring.take(newest.step, self._control.extra()) and newest.good:
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
