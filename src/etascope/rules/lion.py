"""Lion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Number, Rule, State, cast, descend_, is_zero, shrink_

__all__ = ["Lion"]


@dataclass(frozen=True, eq=False)
class Lion(Rule):
    """Steps of one size, by sign: θ = (1 − ηλ)θ − η · sign(β₁m + (1 − β₁)g); then m = β₂m + (1 − β₂)g.

    The sign of nan is 0, as in torch: a parameter whose gradient was nan once stays where it is.

    Args:
        betas: (β₁, β₂); default (0.9, 0.99).
        weight_decay: λ, decoupled; default 0.
        maximize: ascend; default False.

    Source: `lion_pytorch.Lion` and `timm.optim.Lion`; Chen et al., https://arxiv.org/abs/2302.06675.
    """

    betas: tuple[Number, Number] = (0.9, 0.99)
    weight_decay: Number = 0.0
    maximize: bool = False

    def init(self, params_LP: Tensor) -> State:
        return {"mean": torch.zeros_like(params_LP)}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            shrink_(params_LP, lr, self.weight_decay)
        beta1, beta2 = self.betas
        mean = state["mean"]
        direction = torch.lerp(mean, grads_LP, cast(1 - beta1, grads_LP)).sign_()
        mean.lerp_(grads_LP, cast(1 - beta2, grads_LP))
        return descend_(params_LP, direction, lr), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η, whatever the parameter; multiplies the sign."""
        return lr
