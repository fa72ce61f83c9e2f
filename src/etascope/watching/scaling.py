"""What a gradient scaler is told, and what it tells.

`torch.amp.GradScaler` has no public way to say that a step is not to be made; what it goes by is in
`_per_optimizer_states`, as its own `unscale_` and `step` leave it (torch 2.3 to 2.13). Without it, everything here does
nothing, and a step whose gradients were dropped raises in `scaler.step`.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["refuse_step", "scale_of"]

_UNSCALED = 1  # the value of torch's OptState.UNSCALED


def _state_of(scaler: Any, optimizer: torch.optim.Optimizer) -> Any:
    states = getattr(scaler, "_per_optimizer_states", None)
    return None if states is None else states[id(optimizer)]


def scale_of(scaler: Any, optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """What the gradients are still multiplied by; None where they were unscaled, or nothing scales them."""
    if scaler is None or not scaler.is_enabled():
        return None
    state = _state_of(scaler, optimizer)
    if state is None or getattr(state["stage"], "value", _UNSCALED) != 0:
        return None
    scale: torch.Tensor | None = getattr(scaler, "_scale", None)
    return scale


def refuse_step(scaler: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Have the next `scaler.step(optimizer)` leave the update out, as if a gradient had overflowed.

    Returns:
        The scaler's state, to be loaded once that step is over: its `update` lowers the scale for the overflow.
    """
    if scaler is None or not scaler.is_enabled():
        return None
    state = _state_of(scaler, optimizer)
    if state is None:
        return None
    before: dict[str, Any] = scaler.state_dict()
    device = next(p.device for group in optimizer.param_groups for p in group["params"])
    stage = state["stage"]
    state["found_inf_per_device"] = {device: torch.ones((), device=device)}
    if getattr(stage, "value", _UNSCALED) == 0:
        state["stage"] = type(stage)(_UNSCALED)
    return before
