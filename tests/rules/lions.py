"""Lion as its packages write it, and classes that only bear its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lion(Optimizer):
    """The reference: https://arxiv.org/abs/2302.06675, program 1."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                g = -p.grad if group["maximize"] else p.grad
                m = state.setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                self.move(p, beta1 * m + (1 - beta1) * g, group)
                m.mul_(beta2).add_(g, alpha=1 - beta2)

    def move(self, p: Tensor, blend: Tensor, group: dict[str, Any]) -> None:
        p.add_(torch.sign(blend), alpha=-group["lr"])


def variant(move: Callable[[Lion, Tensor, Tensor, dict[str, Any]], None]) -> type[Optimizer]:
    """A class of the same name that moves parameters in another way."""
    return type("Lion", (Lion,), {"move": move})


def cautious(self: Lion, p: Tensor, blend: Tensor, group: dict[str, Any]) -> None:
    mask = (blend * p.grad > 0).to(p)
    p.add_(torch.sign(blend) * mask / mask.mean().clamp(min=1e-3), alpha=-group["lr"])


def smooth(self: Lion, p: Tensor, blend: Tensor, group: dict[str, Any]) -> None:
    p.add_(torch.tanh(1e3 * blend), alpha=-group["lr"])


def matrices_twice(self: Lion, p: Tensor, blend: Tensor, group: dict[str, Any]) -> None:
    p.add_(torch.sign(blend), alpha=-group["lr"] * (2 if p.dim() == 2 else 1))


def raising(self: Lion, p: Tensor, blend: Tensor, group: dict[str, Any]) -> None:
    raise RuntimeError("triton is not installed")
