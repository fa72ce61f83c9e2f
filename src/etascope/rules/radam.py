"""RAdam."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from .base import Number, Rule, State, add_, average_square_, cast, descend_, is_zero, over_, shrink_

__all__ = ["RAdam"]


@dataclass(frozen=True, eq=False)
class RAdam(Rule):
    """Adam that waits for its variance: θ −= η·r·√(1 − β₂ⁿ) · m̂ / (√v + ε) once ρ > 5, before that θ −= η·m̂.

    Before: g += λθ, or decoupled, θ = (1 − ηλ)θ; m, v and m̂ as in Adam; n = t + 1.
    ρ = ρ∞ − 2n·β₂ⁿ / (1 − β₂ⁿ), ρ∞ = 2 / (1 − β₂) − 1, r² = (ρ − 4)(ρ − 2)ρ∞ / ((ρ∞ − 4)(ρ∞ − 2)ρ).

    Args:
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: ε; default 1e-8.
        weight_decay: λ; default 0.
        decoupled_weight_decay: decay the parameters themselves; default False.
        maximize: ascend; default False.

    Source: `torch.optim.RAdam`; Liu et al., https://arxiv.org/abs/1908.03265.
    """

    betas: tuple[Number, Number] = (0.9, 0.999)
    eps: Number = 1e-8
    weight_decay: Number = 0.0
    decoupled_weight_decay: bool = False
    maximize: bool = False

    of_step_size = MappingProxyType({"square": "exp_avg_sq"})

    def init(self, params_LP: Tensor) -> State:
        return {name: torch.zeros_like(params_LP) for name in ("mean", "square")}

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
        factor, adaptive = self._rectified(t)
        step = lr * factor / (1 - beta1 ** (t + 1))
        if adaptive is False:
            return descend_(params_LP, mean, step), state
        root = self._root(square, adaptive, out=grads_LP)  # the gradients are used up
        return descend_(params_LP, torch.div(mean, root, out=root), step), state

    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """η·r·√(1 − β₂ⁿ) / (√v + ε) once ρ > 5, before that η; LP; multiplies m̂."""
        factor, adaptive = self._rectified(t)
        square = state["square"]
        return over_(lr * factor, self._root(square, adaptive, out=torch.empty_like(square)))

    def _rectified(self, t: int) -> tuple[Number, Tensor | bool]:
        """r·√(1 − β₂ⁿ) where ρ > 5, else 1; and where that is."""
        beta2, n = self.betas[1], t + 1
        unbias = 1 - beta2**n
        longest = 2 / (1 - beta2) - 1
        length = longest - 2 * n * (beta2**n) / unbias  # rounded as in torch: 1999 − 1994 leaves few digits
        adaptive = length > 5
        if adaptive is False:
            return 1.0, False
        square = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length) * unbias
        return (torch.where(adaptive, square, 1.0) if isinstance(adaptive, Tensor) else square) ** 0.5, adaptive

    def _root(self, square: Tensor, adaptive: Tensor | bool, out: Tensor) -> Tensor:
        """√v + ε where adaptive, else 1; written into `out`."""
        if adaptive is False:
            return out.fill_(1.0)
        root = torch.sqrt(square, out=out).add_(cast(self.eps, square))
        return root.masked_fill_(~adaptive, 1.0) if isinstance(adaptive, Tensor) else root
