"""What a gradient scaler is told, and what it tells.

`torch.amp.GradScaler` has no public way to say that a step is not to be made; what it goes by is in
`_per_optimizer_states`, as its own `unscale_` and `step` leave it (torch 2.3 to 2.13). Where that is missing, gradients
are taken as they are, and nothing is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["keep_scale", "refuse_step", "scale_of"]

_READY = 0  # the value of torch's OptState.READY: not unscaled yet


def _state_of(scaler: Any, optimizer: torch.optim.Optimizer) -> Any:
    if scaler is None or not scaler.is_enabled():
        return None
    states = getattr(scaler, "_per_optimizer_states", None)
    return None if states is None else states[id(optimizer)]


def scale_of(scaler: Any, optimizer: torch.optim.Optimizer) -> Tensor | None:
    """What the gradients are still multiplied by; None where they were unscaled, or nothing scales them."""
    state = _state_of(scaler, optimizer)
    if state is None or getattr(state["stage"], "value", None) != _READY:
        return None
    scale: Tensor | None = getattr(scaler, "_scale", None)
    return scale


def refuse_step(scaler: Any, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
    """Have the next `scaler.step(optimizer)` leave the update out, as if a gradient had overflowed.

    Where the gradients are still scaled, the smallest one comes back as infinities: what unscales them finds these,
    whoever calls it. Where they were unscaled already, the scaler's own finding is set.
    """
    state = _state_of(scaler, optimizer)
    if state is None or not parameters:
        return
    if getattr(state["stage"], "value", None) == _READY:
        smallest = min((p for p in parameters if p.requires_grad), key=Tensor.numel, default=None)
        if smallest is not None:
            smallest.grad = torch.full_like(smallest, math.inf)
    else:
        device = parameters[0].device
        state["found_inf_per_device"] = {device: torch.ones((), device=device)}


def keep_scale(scaler: Any) -> None:
    """Have the next `scaler.update()` leave scale and growth as they are now: no gradient has really overflowed."""
    if scaler is None or not scaler.is_enabled():
        return
    vars(scaler).pop("update", None)
    saved, update = scaler.state_dict(), scaler.update

    def once(*args: Any, **kwargs: Any) -> None:
        vars(scaler).pop("update", None)
        update(*args, **kwargs)
        scaler.load_state_dict(saved)

    scaler.update = once
