"""Adadelta."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, average_square_, cast, descend_, is_zero

__all__ = ["Adadelta"]


@dataclass(frozen=True, eq=False)
class Adadelta(Rule):
    """Steps as large as the past ones: v = ρv + (1 − ρ)g²; d = √(u + ε) / √(v + ε) · g; θ −= η·d.

    Before: g += λθ; after: u = ρu + (1 − ρ)d².

    Args:
        rho: ρ; default 0.9.
        eps: ε; default 1e-6.
        weight_decay: λ; default 0.
        maximize: ascend; default False.

    Source: `torch.optim.Adadelta`; Zeiler, https://arxiv.org/abs/1212.5701.
    """

    rho: Number = 0.9
    eps: Number = 1e-6
    weight_decay: Number = 0.0
    maximize: bool = False

    of_step_size = MappingProxyType({"square": "square_avg", "square_step": "acc_delta"})

    def init(self, params_LP: Tensor) -> State:
        return {name: torch.zeros_like(params_LP) for name in ("square", "square_step")}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        average_square_(state["square"], grads_LP, self.rho)
        direction = grads_LP.mul_(self._ratio(state))
        average_square_(state["square_step"], direction, self.rho)
        return descend_(params_LP, direction, lr), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η · √(u + ε) / √(v + ε), LP: as of the next update where it leaves v as it is, for u has moved on."""
        ratio = self._ratio(state)
        return ratio.mul_(lr.to(ratio))

    def _ratio(self, state: State) -> Tensor:
        square = state["square"]
        eps = cast(self.eps, square)
        return (state["square_step"] + eps).div_(square + eps).sqrt_()
