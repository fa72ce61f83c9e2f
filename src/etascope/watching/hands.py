"""What a decision does to the training: gradients dropped, states put back."""

from __future__ import annotations

import weakref
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

    A buffer that holds still, as a mask does, is copied once. That it has changed is seen by the version that torch
    counts for every tensor; what is written through `.data` is not counted, so at the calls number 2, 4, 8, 16 … those
    that seem still are compared with their copies. One that did change is copied at each call from then on.

    Args:
        models: whose buffers.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        owners = {id(module): module for model in models for module in model.modules()}
        self._places = [(m._buffers, name) for m in owners.values() for name in m._buffers]
        self._kept: list[_Kept] = []
        self._calls = 0

    @torch.no_grad()
    def keep(self) -> None:
        """Keep them as they are now."""
        self._calls = n = self._calls + 1
        if len(self._kept) != len(self._places):
            self._kept = [_Kept(own[name]) for own, name in self._places]
            return
        compare = not n & (n - 1)
        copies: list[Tensor] = []
        moved: list[Tensor] = []
        for kept, (own, name) in zip(self._kept, self._places, strict=True):
            now = own[name]
            if kept.is_to_be_copied(now, compare):
                copies.append(kept.copy)  # type: ignore[arg-type]
                moved.append(now)  # type: ignore[arg-type]
        if moved:
            torch._foreach_copy_(copies, moved)

    @torch.no_grad()
    def put_back(self) -> None:
        """Put them back as they were kept."""
        for (own, name), kept in zip(self._places, self._kept, strict=False):
            if not kept.is_still(now := own[name]):
                own[name] = kept.put_into(now)


class _Kept:
    """The copy of a buffer, and how to tell that the buffer is what it was."""

    __slots__ = ("copy", "moves", "of", "version")

    def __init__(self, now: Tensor | None) -> None:
        self.moves = False  # it was seen to, where torch does not count
        self._clone(now)

    def _clone(self, now: Tensor | None) -> None:
        self.copy = None if now is None else now.detach().clone()
        self._is_of(now)

    def _is_of(self, now: Tensor | None) -> None:
        self.of = None if now is None else weakref.ref(now)
        self.version = -1 if now is None or now.is_inference() else now._version

    def is_still(self, now: Tensor | None) -> bool:
        """Whether it is what was copied, as far as torch counts."""
        if now is None or self.of is None:
            return now is None and self.of is None
        return self.of() is now and not self.moves and self.version >= 0 and self.version == now._version

    def is_to_be_copied(self, now: Tensor | None, compare: bool) -> bool:
        """Whether it has changed and fits into the copy; where it does not fit, it was cloned."""
        if self.is_still(now):
            self.moves = compare and now is not None and not _same(self.copy, now)
            return self.moves
        if now is None or not _fits(self.copy, now):
            self._clone(now)
            return False
        if self.of is not None and self.of() is now and self.version >= 0:
            self.version = now._version
        else:
            self._is_of(now)
        return True

    def put_into(self, now: Tensor | None) -> Tensor | None:
        """What was copied, in the buffer itself where it fits."""
        if now is not None and _fits(self.copy, now):
            return now.copy_(self.copy)  # type: ignore[arg-type]
        return None if self.copy is None else self.copy.clone()


def _fits(kept: Tensor | None, now: Tensor) -> bool:
    return kept is not None and kept.shape == now.shape and kept.dtype == now.dtype and kept.device == now.device


def _same(kept: Tensor | None, now: Tensor) -> bool:
    try:
        return kept is not None and torch.equal(kept, now)
    except (NotImplementedError, RuntimeError):  # sparse ones, say: they are copied then
        return False


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
