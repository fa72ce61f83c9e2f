"""Adamax."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, cast, descend_, is_zero

__all__ = ["Adamax"]


@dataclass(frozen=True, eq=False)
class Adamax(Rule):
    """Adam by the largest gradient: m = β₁m + (1 − β₁)g; u = max(β₂u, |g| + ε); θ −= η · m̂ / u.

    Before: g += λθ. m̂ = m / (1 − β₁ᵗ⁺¹).

    Args:
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: ε; default 1e-8.
        weight_decay: λ; default 0.
        maximize: ascend; default False.

    Source: `torch.optim.Adamax`; Kingma & Ba, https://arxiv.org/abs/1412.6980 (section 7).
    """

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    maximize: bool = False

    of_step_size = MappingProxyType({"largest": "exp_inf"})

    def init(self, params_LP: Tensor) -> State:
        return {name: torch.zeros_like(params_LP) for name in ("mean", "largest")}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        beta1, beta2 = self.betas
        mean, largest = state["mean"].lerp_(grads_LP, cast(1 - beta1, grads_LP)), state["largest"]
        size = grads_LP.abs_().add_(cast(self.eps, grads_LP))
        torch.maximum(largest.mul_(cast(beta2, largest)), size, out=largest)
        direction = torch.div(mean, largest, out=grads_LP)  # the gradients are used up
        return descend_(params_LP, direction, lr / (1 - beta1 ** (t + 1))), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η / u, LP; multiplies m̂."""
        return lr.to(state["largest"]) / state["largest"]
