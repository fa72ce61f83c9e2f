"""Whether optimizers from elsewhere step as a rule does: tried, since a name promises nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .base import State

__all__ = ["departure", "shadow"]

LRS = (0.1, 0.03, 0.3, 0.2, 0.05, 0.15, 0.01, 0.1, 0.02, 0.25)  # of the steps that are tried
SIDE = 3  # the longest side of a tensor that is tried


def shadow(opt: Optimizer) -> Optimizer:
    """The same optimizer over small tensors of its own: one for each number of dimensions in a param group."""
    twin: Optimizer = object.__new__(type(opt))
    # Not through copy, which leaves out what a class keeps beside its options. A scheduler's wrapper of `step` is
    # bound to `opt`, and stays with it.
    twin.__dict__.update({name: value for name, value in vars(opt).items() if name != "step"})
    twin.state = defaultdict(dict)
    twin.param_groups = [{**group, "params": _small(group["params"])} for group in opt.param_groups]
    return twin


def departure(shadows: Sequence[Optimizer], ratios_LG: Sequence[Sequence[float]], update: Any) -> str | None:
    """Where these optimizers, one per lane, and `update` part, over a few steps; None if they do not.

    What differs only later, or on larger tensors, cannot show here.

    Args:
        shadows: from `shadow`; they are stepped.
        ratios_LG: the lr of each lane's param groups / the lane's peak lr.
        update: the `Update` read from them.
    """
    generator = torch.Generator().manual_seed(0)
    tensors_L = [[p for group in opt.param_groups for p in group["params"]] for opt in shadows]
    params_LP = _flat(tensors_L)
    state: State = update.init(params_LP)
    for t, lr in enumerate(LRS):
        for opt, ratios in zip(shadows, ratios_LG, strict=True):
            for group, ratio in zip(opt.param_groups, ratios, strict=True):
                group["lr"] = lr * ratio
        for tensors in zip(*tensors_L, strict=True):
            shape = tensors[0].shape
            size = 10.0 ** torch.randint(-3, 3, shape, generator=generator)  # clipping inside would show
            gradient = torch.randn(shape, generator=generator, dtype=torch.float64) * size
            for tensor in tensors:
                tensor.grad = gradient.clone()
        grads_LP = _flat([[p.grad for p in tensors] for tensors in tensors_L])
        with torch.random.fork_rng(devices=[]):
            try:
                for opt in shadows:
                    opt.step()
            except Exception as error:
                return f"could not be tried on small tensors: {type(error).__name__}: {error}"
        lr_L1 = torch.full((len(shadows), 1), lr, dtype=torch.float64)
        params_LP, state = update(params_LP, grads_LP, state, lr_L1, t)
        truth_LP = _flat(tensors_L)
        if not torch.allclose(params_LP, truth_LP, rtol=1e-9, atol=1e-9):
            return f"does not step as the rule of that name does: they part at step {t}"
    return None


def _small(params: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {p.dim(): [min(side, SIDE) for side in p.shape] for p in params}
    return [torch.nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes.values()]


def _flat(tensors_L: Sequence[Sequence[Any]]) -> Tensor:
    return torch.stack([torch.cat([x.detach().flatten() for x in tensors]) for tensors in tensors_L])
