"""What `docs/lanes.md` says of modules: each is refused as it stands there, and taken as it is to be written."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_tasks import CPU, small_task
from small_tasks import Square as ReadySquare
from torch import Tensor, nn
from torch.nn import functional as F

from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal


class Within(nn.Module):
    def __init__(self, change: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.change = nn.Linear(5, 5), nn.Linear(5, 3), change
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.change(self, self.first(x)))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def replaced(m: Any, x: Tensor) -> Tensor:
    m.count = m.count + 1
    return x


def in_place(m: Any, x: Tensor) -> Tensor:
    m.count.add_(1)
    return x


def written(into: Tensor, x: Tensor) -> Tensor:
    into[:, 0] = x[:, 0]
    return x + into


REFUSED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "item": lambda m, x: x / x.abs().max().item(),
    "float": lambda m, x: x / float(x.detach().abs().max()),
    "tolist": lambda m, x: x * len(x.tolist()),
    "numpy": lambda m, x: x * float(x.detach().numpy().mean()),
    "branch": lambda m, x: x if x.sum() > 0 else -x,
    "selection": lambda m, x: x + x[x > 0].sum(),
    "replaced buffer": replaced,
    "zeros": lambda m, x: written(torch.zeros(x.shape), x),
    "function": lambda m, x: Square.apply(x),
    "checkpoint": lambda m, x: torch.utils.checkpoint.checkpoint(torch.tanh, x, use_reentrant=False),
}
TAKEN: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "item": lambda m, x: x / x.abs().max().detach(),
    "branch": lambda m, x: torch.where(x.sum() > 0, x, -x),
    "selection": lambda m, x: x + (x * (x > 0)).sum(),
    "buffer in place": in_place,
    "zeros": lambda m, x: written(x.new_zeros(x.shape), x),
    "function": lambda m, x: ReadySquare.apply(x),
    "drawn once": lambda m, x: x * (1 + random.random()),
    "drawn for each": lambda m, x: torch.where(torch.rand(()) < 0.5, x, -x),
    "functional dropout": lambda m, x: F.dropout(x, 0.1, m.training),
    "training": lambda m, x: 2 * x if m.training else x,
}


def reason(change: Callable[[Any, Tensor], Tensor]) -> str | None:
    return refusal(Prepared(small_task(model=lambda: Within(change)), CPU), 0)


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    assert reason(REFUSED[what]) is not None


@pytest.mark.parametrize("what", TAKEN)
def test_taken(what: str) -> None:
    assert reason(TAKEN[what]) is None
