"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, cast, descend_, is_zero

__all__ = ["SGD"]


@dataclass(frozen=True, eq=False)
class SGD(Rule):
    """Gradient descent: g += λθ; b = μb + (1 − τ)g (at t = 0: b = g); θ −= η·b (Nesterov: η·(g + μb)).

    Args:
        momentum: μ; default 0.
        dampening: τ; default 0.
        weight_decay: λ; default 0.
        nesterov: look ahead; default False.
        maximize: ascend; default False.

    Source: `torch.optim.SGD`.

    >>> rule, params_LP, lr_L1 = SGD(momentum=0.9), torch.ones(2, 1), torch.tensor([[0.25], [1.0]])
    >>> params_LP, state = rule.update(params_LP, torch.ones(2, 1), rule.init(params_LP), lr_L1, t=0)
    >>> params_LP.tolist()
    [[0.75], [0.0]]
    """

    momentum: Number = 0.0
    dampening: Number = 0.0
    weight_decay: Number = 0.0
    nesterov: bool = False
    maximize: bool = False

    def init(self, params_LP: Tensor) -> State:
        return {} if is_zero(self.momentum) else {"momentum": torch.zeros_like(params_LP)}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        if is_zero(self.momentum):
            return descend_(params_LP, grads_LP, lr), state
        buffer = state["momentum"]
        if not is_zero(self.dampening) and t == 0:  # else it begins as zeros, and the gradient is all that it gets
            buffer.copy_(grads_LP)
        else:
            add_(buffer.mul_(cast(self.momentum, buffer)), grads_LP, 1 - self.dampening)
        direction = add_(grads_LP, buffer, self.momentum) if self.nesterov else buffer
        return descend_(params_LP, direction, lr), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η, whatever the parameter."""
        return lr
