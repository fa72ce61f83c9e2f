"""Averaged stochastic gradient descent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, descend_, is_zero, shrink_

__all__ = ["ASGD"]


@dataclass(frozen=True, eq=False)
class ASGD(Rule):
    """Steps that shrink with their number: g += wθ; θ = (1 − eλ)θ − e·g, where e = η' / (1 + λη't)^α.

    η' is the learning rate of the update before (at t = 0: e = η). The average of the parameters, which torch keeps
    in the optimizer's state, is left out: no update sees it.

    Args:
        lambd: λ; default 1e-4.
        alpha: α; default 0.75.
        t0: when averaging starts, in steps; without effect here; default 1e6.
        weight_decay: w; default 0.
        maximize: ascend; default False.

    Source: `torch.optim.ASGD`; Polyak & Juditsky, https://doi.org/10.1137/0330046.
    """

    lambd: Number = 1e-4
    alpha: Number = 0.75
    t0: Number = 1e6
    weight_decay: Number = 0.0
    maximize: bool = False

    def init(self, params_LP: Tensor) -> State:
        return {name: params_LP.new_zeros(len(params_LP), 1) for name in ("eta", "lr")}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            add_(grads_LP, params_LP, self.weight_decay)
        lr, before = lr.clone(), state["lr"]  # kept in the state, so not the caller's
        eta = lr if t == 0 else before / (1 + self.lambd * before * t) ** self.alpha
        eta = eta.to(torch.get_default_dtype()).to(lr)  # torch keeps it so, whatever the parameters' dtype
        shrink_(params_LP, eta, self.lambd)
        return descend_(params_LP, grads_LP, eta), {"eta": eta, "lr": lr}

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """e, whatever the parameter."""
        return state["eta"]
