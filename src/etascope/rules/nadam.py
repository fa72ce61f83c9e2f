"""NAdam."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, average_square_, cast, is_zero, over_, shrink_

__all__ = ["NAdam"]


@dataclass(frozen=True, eq=False)
class NAdam(Rule):
    """Adam that looks ahead: θ −= η · (μ'·m / (1 − Πμ·μ') + (1 − μ)·g / (1 − Πμ)) / (√v̂ + ε), m and v as in Adam.

    Before: g += λθ, or decoupled, θ = (1 − ηλ)θ. μ = β₁(1 − ½ · 0.96^((t + 1)ψ)) and μ' the same of t + 1; Πμ is the
    product of all μ so far. v̂ = v / (1 − β₂ᵗ⁺¹).

    Args:
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: ε; default 1e-8.
        weight_decay: λ; default 0.
        momentum_decay: ψ; default 0.004.
        decoupled_weight_decay: decay the parameters themselves; default False.
        maximize: ascend; default False.

    Source: `torch.optim.NAdam`; Dozat, https://openreview.net/forum?id=OM0jvwB8jIp57ZJjtNEZ.
    """

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    momentum_decay: Number = 4e-3
    decoupled_weight_decay: bool = False
    maximize: bool = False

    of_step_size = MappingProxyType({"square": "exp_avg_sq"})

    def init(self, params_LP: Tensor) -> State:
        # torch keeps this product in the default dtype, whatever the parameters': so do rules, to take the same steps
        product = torch.ones(len(params_LP), 1, dtype=torch.get_default_dtype(), device=params_LP.device)
        return {"mean": torch.zeros_like(params_LP), "square": torch.zeros_like(params_LP), "mu_product": product}

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        if self.maximize:
            grads_LP.neg_()
        if not is_zero(self.weight_decay):
            if self.decoupled_weight_decay:
                shrink_(params_LP, lr, self.weight_decay)
            else:
                add_(grads_LP, params_LP, self.weight_decay)
        beta1, beta2 = self.betas
        mean = state["mean"].lerp_(grads_LP, cast(1 - beta1, grads_LP))
        square = average_square_(state["square"], grads_LP, beta2)
        mu, next_mu = self._mu(t + 1), self._mu(t + 2)
        rounded = state["mu_product"] * cast(mu, state["mu_product"])
        product = rounded.to(lr)
        c = (1 - beta2 ** (t + 1)) ** 0.5  # as in Adam
        root = square.sqrt().add_(cast(self.eps * c, square))
        moment = grads_LP.mul_((lr * c * (1 - mu) / (1 - product)).to(grads_LP))
        add_(moment, mean, lr * c * next_mu / (1 - product * next_mu))
        return params_LP.addcdiv_(moment, root, value=-1), {**state, "mu_product": rounded}

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η / (√v̂ + ε), LP; multiplies the sum of the moment and the gradient, each corrected for bias."""
        square = state["square"]
        c = (1 - self.betas[1] ** (t + 1)) ** 0.5
        return over_(lr * c, square.sqrt().add_(cast(self.eps * c, square)))

    def _mu(self, n: int) -> Number:
        return self.betas[0] * (1.0 - 0.5 * (0.96 ** (n * self.momentum_decay)))
