"""Adam."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, average_square_, cast, descend_, is_zero, over_

__all__ = ["Adam"]


@dataclass(frozen=True, eq=False)
class Adam(Rule):
    """Adaptive moments: g += λθ; m = β₁m + (1 − β₁)g; v = β₂v + (1 − β₂)g²; θ −= η · m̂ / (√v̂ + ε).

    m̂ = m / (1 − β₁ᵗ⁺¹) and v̂ = v / (1 − β₂ᵗ⁺¹); amsgrad has the largest v so far in place of v.

    Args:
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: ε; default 1e-8.
        weight_decay: λ, an L2 penalty; default 0.
        amsgrad: never let v fall; default False.
        maximize: ascend; default False.

    Source: `torch.optim.Adam`; Kingma & Ba, https://arxiv.org/abs/1412.6980; Reddi et al.,
    https://openreview.net/forum?id=ryQu7f-RZ (amsgrad).
    """

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    amsgrad: bool = False
    maximize: bool = False

    of_step_size = MappingProxyType({"square": "exp_avg_sq", "max_square": "max_exp_avg_sq"})

    def init(self, params_LP: Tensor) -> State:
        names = ("mean", "square", "max_square") if self.amsgrad else ("mean", "square")
        return {name: torch.zeros_like(params_LP) for name in names}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            self.decay_(params_LP, grads_LP, lr)
        beta1, beta2 = self.betas
        mean = state["mean"].lerp_(grads_LP, cast(1 - beta1, grads_LP))
        square = average_square_(state["square"], grads_LP, beta2)
        if self.amsgrad:
            square = torch.maximum(state["max_square"], square, out=state["max_square"])
        # With c = √(1 − β₂ᵗ⁺¹): m̂ / (√v̂ + ε) = c / (1 − β₁ᵗ⁺¹) · m / (√v + cε), a pass less than in torch.
        c = (1 - beta2 ** (t + 1)) ** 0.5
        step = lr * c / (1 - beta1 ** (t + 1))
        root = torch.sqrt(square, out=grads_LP).add_(cast(self.eps * c, square))  # the gradients are used up
        return descend_(params_LP, torch.div(mean, root, out=root), step), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η / (√v̂ + ε), LP; multiplies m̂."""
        square = state["max_square" if self.amsgrad else "square"]
        c = (1 - self.betas[1] ** (t + 1)) ** 0.5
        return over_(lr * c, square.sqrt().add_(cast(self.eps * c, square)))

    def decay_(self, params_LP: Tensor, grads_LP: Tensor, lr: Tensor) -> None:
        """Weight decay, in place: as a part of the gradient."""
        add_(grads_LP, params_LP, self.weight_decay)
