"""Looks at every layer now and then, three updates in a row each time, and what is told from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..probes import Movement, bound, critical_lr
from ..watcher import Probe
from .scaling import scale_of

__all__ = ["Prober"]


class Prober:
    """Makes a probe of the run every so many updates.

    Args:
        models: what is trained.
        optimizer: what trains it.
        scaler: the gradient scaler, or None.
        every: updates between two probes; 0 for none.

    Attributes:
        next: the update from which on the next probe is due.
    """

    def __init__(self, models: Sequence[nn.Module], optimizer: torch.optim.Optimizer, scaler: Any, every: int) -> None:
        self.every = every
        self.next: float = max(2, every // 2) if every else math.inf
        self._models, self._optimizer, self._scaler = nn.ModuleList(models), optimizer, scaler
        self._before: list[Tensor] = []  # the parameters at the second look, where sharpness is asked for
        self.renew()

    def renew(self) -> None:
        """Begin anew with the parameters that the optimizer has now."""
        several = len(self._models) > 1
        named = [
            (f"{i}.{name}" if several else name, parameter)
            for i, model in enumerate(self._models)
            for name, parameter in model.named_parameters()
        ]
        self._movement = Movement(named if self.every else (), self._optimizer)

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        return self._movement.layers

    def reset(self) -> None:
        """A probe that was begun begins again."""
        self._movement.reset()
        self._before = []

    def look(self, step: int, lr: float, closure: Callable[[], Any] | None) -> Probe | None:
        """Look, right before an update; a probe at the third look, or where a device was waited for then, later.

        Args:
            step: updates made.
            lr: of the first param group.
            closure: returns the loss of the present batch from a forward pass alone; None for no sharpness.
        """
        movement = self._movement
        if closure is not None and movement.looks == 1:
            self._before = [p.detach().clone() for p in self._parameters()]
        scale = scale_of(self._scaler, self._optimizer)
        movement.look(1.0 if scale is None else scale)
        if movement.looks < 3 or not movement.ready():
            return None
        found = movement.result()
        self.next = step + self.every
        if closure is not None and self._before:
            found |= self._sharpness(closure, lr)
        self._before = []
        return Probe.from_json(found)

    def _sharpness(self, closure: Callable[[], Any], lr: float) -> dict[str, float]:
        """Critical sharpness along the way that the last update went, and what the rule bears of it."""
        parameters = self._parameters()
        if not lr > 0 or len(self._before) != len(parameters):
            return {}
        update = [(then - now.detach()) / lr for then, now in zip(self._before, parameters, strict=True)]
        found = critical_lr(closure, parameters, update, lr, model=self._models)
        critical = found.lr or found.high  # where no lr lowers the loss, it is below all that were tried
        said = {} if critical is None else {"sharpness": 2.0 / critical}
        stable = bound(self._optimizer)
        return said if stable is None else {**said, "bound": stable}

    def _parameters(self) -> list[Tensor]:
        return [p for group in self._optimizer.param_groups for p in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        """What is smoothed over probes, and when the next one is due; one that was begun is not in it."""
        return {"movement": self._movement.state_dict(), "next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._movement.load_state_dict(state["movement"])
        self.next = state["next"]
