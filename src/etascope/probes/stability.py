"""How large η·λ may be before an update rule is unstable on a quadratic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

__all__ = ["bound"]

Group = dict[str, Any]


def bound(optimizer: torch.optim.Optimizer) -> float | None:
    """The largest stable η·λ: beyond it, a step along curvature λ at lr η overshoots by ever more.

    Each is where the linear recursion on the loss λθ²/2, without noise, has a root of modulus 1, which is −1:

        SGD                     2
        with momentum β         2(1 + β) / (1 − dampening)              heavy ball
        with Nesterov's         2(1 + β) / (1 + 2β)
        Adam, AdamW             (2 + 2β₁) / (1 − β₁), 38 for β₁ = 0.9   λ of the preconditioned Hessian
        RMSprop, with momentum  2, 2(1 + β)                             of the preconditioned Hessian
        Adagrad                 2                                       of the preconditioned Hessian

    The preconditioned Hessian is P⁻¹H with P = diag(√v + ε), v being the rule's present second moments (for Adam
    without its bias), held fixed. Weight decay in the gradient adds to λ; decoupled decay is left out.

    Returns:
        The bound; the smallest of the param groups' where they differ; None for other rules, and ascent.

    Source: SGD and both momenta: Cohen et al. 2021, arXiv 2103.00065; Adam, and RMSprop as its β₁ = 0: Cohen et al.
    2022, arXiv 2207.14484. Dampening and RMSprop's momentum follow by scaling the gradient in the heavy ball; Adagrad
    is plain descent on the preconditioned loss. Each is tested against torch's own steps just below and above.

    >>> net = torch.nn.Linear(1, 1)
    >>> bound(torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)), bound(torch.optim.Adam(net.parameters()))
    (3.8, 38.0)
    """
    of = _BOUNDS.get(type(optimizer))
    if of is None or not optimizer.param_groups or any(group.get("maximize") for group in optimizer.param_groups):
        return None
    return min(round(of(group), 12) for group in optimizer.param_groups)


def _sgd(group: Group) -> float:
    beta = float(group["momentum"])
    if group["nesterov"]:
        return 2 * (1 + beta) / (1 + 2 * beta)
    return 2 * (1 + beta) / (1 - float(group["dampening"])) if beta else 2.0


def _adam(group: Group) -> float:
    beta = float(group["betas"][0])
    return (2 + 2 * beta) / (1 - beta)


def _rmsprop(group: Group) -> float:
    return 2 * (1 + float(group["momentum"]))


def _adagrad(group: Group) -> float:
    return 2.0


_BOUNDS: dict[type, Callable[[Group], float]] = {
    torch.optim.SGD: _sgd,
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adam,
    torch.optim.RMSprop: _rmsprop,
    torch.optim.Adagrad: _adagrad,
}
