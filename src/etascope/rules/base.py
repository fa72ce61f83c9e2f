"""Update rules over lanes: many trainings updated as one.

Shapes stand in the names: L lanes, P parameters of one lane (all its tensors, flattened and joined).
A hyperparameter is a float, or a tensor that broadcasts to LP: (L, 1) differs between lanes, (1, P) between
param groups, (L, P) both. Such tensors are kept in float64, and cast where they meet parameters: so 1 − β is
taken before the cast, which in float32 would lose four digits of 1 − 0.999.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

__all__ = ["Number", "Rule", "State", "add_", "average_square_", "cast", "descend_", "is_zero", "over_", "shrink_"]

Number: TypeAlias = float | Tensor
State: TypeAlias = dict[str, Tensor]  # each of shape LP, or L1 where it is one number a lane


class Rule(ABC):
    """How one step changes parameters: a frozen dataclass of hyperparameters, named as in torch.optim.

    Every operation is elementwise over LP, so that no lane can reach another one.

    Attributes:
        of_step_size: what of the state the step size of a parameter depends on, each with its name in the state of
            the torch optimizer; empty where all parameters have the same, up to their group's lr.
    """

    of_step_size: ClassVar[Mapping[str, str]] = MappingProxyType({})

    @abstractmethod
    def init(self, params_LP: Tensor) -> State:
        """The state before the first update."""

    @abstractmethod
    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        """One update.

        Parameters, gradients and state are *donated*: they may be overwritten. Use what is returned.

        Args:
            params_LP: the parameters, not requiring grad.
            grads_LP: their gradients.
            state: what `init` or the update before this one returned.
            lr: the learning rates of this step, broadcastable to LP.
            t: the number of updates done before this one.

        Returns:
            The new parameters and the new state.
        """

    @abstractmethod
    def effective_lr(self, state: State, lr: Tensor, t: int) -> Tensor:
        """The step size of each parameter in an update: what multiplied its gradient there.

        With momentum, what multiplied the first moment, corrected for bias where the rule does so. Weight decay
        apart from the gradient is no part of it.

        Args:
            state: what that update returned; left as it is.
            lr: the learning rates that it took.
            t: the number of updates done before it.

        Returns:
            Step sizes, of shape LP, or broadcastable to it where they do not depend on the parameter.
        """


def cast(x: Number, like: Tensor) -> Number:
    """x, of the dtype and on the device of `like` where it is a tensor."""
    return x.to(like) if isinstance(x, Tensor) else x


def add_(x: Tensor, y: Tensor, scale: Number) -> Tensor:
    """x += scale · y."""
    return x.addcmul_(y, scale.to(x)) if isinstance(scale, Tensor) else x.add_(y, alpha=scale)


def average_square_(x: Tensor, y: Tensor, keep: Number) -> Tensor:
    """x = keep · x + (1 − keep) · y²."""
    if isinstance(keep, Tensor):
        return x.mul_(keep.to(x)).addcmul_(y * (1 - keep).to(y), y)
    return x.mul_(keep).addcmul_(y, y, value=1 - keep)


def descend_(params: Tensor, direction: Tensor, lr: Tensor) -> Tensor:
    """params −= lr · direction."""
    return params.addcmul_(direction, lr.to(params), value=-1)


def shrink_(params: Tensor, lr: Tensor, weight_decay: Number) -> Tensor:
    """Decoupled weight decay: params = (1 − lr · weight_decay) · params."""
    return params.mul_(cast(1 - lr * weight_decay, params))


def over_(scale: Tensor, x: Tensor) -> Tensor:
    """x = scale / x."""
    return torch.div(scale.to(x), x, out=x)


def is_zero(x: Number) -> bool:
    """Whether x is the float 0 (a tensor is used as it is)."""
    return not isinstance(x, Tensor) and x == 0
