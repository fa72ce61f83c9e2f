"""RMSprop."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, average_square_, cast, descend_, is_zero, over_

__all__ = ["RMSprop"]


@dataclass(frozen=True, eq=False)
class RMSprop(Rule):
    """Steps in units of a running root mean square: g += λθ; v = αv + (1 − α)g²; d = g / (√v + ε).

    Centered: m = αm + (1 − α)g, and √(v − m²) in place of √v. Momentum: b = μb + d; θ −= η·b (else η·d).

    Args:
        alpha: α; default 0.99.
        eps: ε; default 1e-8.
        weight_decay: λ; default 0.
        momentum: μ; default 0.
        centered: by the variance instead of the mean square; default False.
        maximize: ascend; default False.

    Source: `torch.optim.RMSprop`; Hinton, https://www.cs.toronto.edu/~tijmen/csc321/slides/lecture_slides_lec6.pdf.
    """

    alpha: Number = 0.99
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    momentum: Number = 0.0
    centered: bool = False
    maximize: bool = False

    of_step_size = MappingProxyType({"square": "square_avg", "mean": "grad_avg"})

    def init(self, params_LP: Tensor) -> State:
        kept = {"square": True, "mean": self.centered, "momentum": not is_zero(self.momentum)}
        return {name: torch.zeros_like(params_LP) for name, needed in kept.items() if needed}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        average_square_(state["square"], grads_LP, self.alpha)
        if self.centered:
            state["mean"].lerp_(grads_LP, cast(1 - self.alpha, grads_LP))
        direction = grads_LP.div_(self._root(state))
        if not is_zero(self.momentum):
            buffer = state["momentum"]
            direction = buffer.mul_(cast(self.momentum, buffer)).add_(direction)
        return descend_(params_LP, direction, lr), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η / (√v + ε), of v − m² where centered, LP; multiplies g, of which b is the sum."""
        return over_(lr, self._root(state))

    def _root(self, state: State) -> Tensor:
        square = state["square"]
        root = square.addcmul(state["mean"], state["mean"], value=-1).sqrt_() if self.centered else square.sqrt()
        return root.add_(cast(self.eps, root))
