"""AdaGrad."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, cast, descend_, is_zero, over_

__all__ = ["Adagrad"]


@dataclass(frozen=True, eq=False)
class Adagrad(Rule):
    """Steps shrink with all squares seen: g += λθ; s += g²; θ −= η / (1 + t·decay) · g / (√s + ε).

    Args:
        lr_decay: decay; default 0.
        weight_decay: λ; default 0.
        initial_accumulator_value: s before the first update; default 0.
        eps: ε; default 1e-10.
        maximize: ascend; default False.

    Source: `torch.optim.Adagrad`; Duchi et al., https://jmlr.org/papers/v12/duchi11a.html.
    """

    lr_decay: Number = 0.0
    weight_decay: Number = 0.0
    initial_accumulator_value: Number = 0.0
    eps: Number = 1e-10
    maximize: bool = False

    of_step_size = MappingProxyType({"sum": "sum"})

    def init(self, params_LP: Tensor) -> State:
        return {"sum": torch.zeros_like(params_LP).add_(cast(self.initial_accumulator_value, params_LP))}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        total = state["sum"].addcmul_(grads_LP, grads_LP)
        direction = grads_LP.div_(total.sqrt().add_(cast(self.eps, total)))
        return descend_(params_LP, direction, lr / (1 + t * self.lr_decay)), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η / (1 + t·decay) / (√s + ε), LP."""
        root = state["sum"].sqrt()
        return over_(lr / (1 + t * self.lr_decay), root.add_(cast(self.eps, root)))
