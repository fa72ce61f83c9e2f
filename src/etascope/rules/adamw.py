"""AdamW."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .adam import Adam
from .base import Number, shrink_

__all__ = ["AdamW"]


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: θ = (1 − ηλ)θ, then Adam with λ = 0.

    Args:
        betas: (β₁, β₂); default (0.9, 0.999).
        eps: ε; default 1e-8.
        weight_decay: λ; default 0.01.
        amsgrad: never let v fall; default False.
        maximize: ascend; default False.

    Source: `torch.optim.AdamW`; Loshchilov & Hutter, https://arxiv.org/abs/1711.05101.
    """

    weight_decay: Number = 0.01

    def decay_(self, params_LP: Tensor, grads_LP: Tensor, lr: Tensor) -> None:
        """Weight decay, in place: on the parameters, times the learning rate."""
        shrink_(params_LP, lr, self.weight_decay)
