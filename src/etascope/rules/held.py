"""What torch's own optimizers hold of the step size of each parameter, as the state of a rule."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from .base import State
from .reader import RULES, UnknownRule, Update, read

__all__ = ["adaptive", "held"]


def adaptive(optimizer: torch.optim.Optimizer, lr: float) -> Update | None:
    """The update that this optimizer, not stepped yet, would do at peak `lr`; None unless its step sizes differ.

    That is: unless it is one of torch's, its step size depends on the parameter, and no lazy module has yet to make
    its tensors.

    >>> w = torch.nn.Parameter(torch.zeros(3))
    >>> adaptive(torch.optim.Adam([w], lr=0.1), 0.1)
    Update(rule=Adam(...), lr_scale=1.0)
    >>> adaptive(torch.optim.SGD([w], lr=0.1), 0.1) is None
    True
    """
    rule = RULES.get(type(optimizer))
    if rule is None or not rule.of_step_size or any(map(is_lazy, _params(optimizer))):
        return None
    try:
        return read([optimizer], [lr])
    except UnknownRule:
        return None


def held(optimizer: torch.optim.Optimizer) -> State:
    """What the step sizes of its last update depend on, each of shape 1P; P as in `read`.

    A parameter that never had a gradient has no state in torch: it is 0 then, as in a rule.
    """
    return {
        name: torch.cat([_flat(optimizer.state.get(p, {}).get(theirs), p) for p in _params(optimizer)])[None]
        for name, theirs in RULES[type(optimizer)].of_step_size.items()
    }


def _params(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _flat(value: Tensor | None, p: Tensor) -> Tensor:
    return (torch.zeros_like(p) if value is None else value).detach().flatten()
