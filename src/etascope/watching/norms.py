"""The norm of a whole gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gradients", "norm_later", "norm_now"]


def gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The gradients that the optimizer would use; of a sparse one its values."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return [g.coalesce().values() if g.is_sparse else g for g in grads]


def norm_now(grads: Sequence[Tensor]) -> float | None:
    """The 2-norm of them all, as a number; waits for the device. None where there are none."""
    if not grads:
        return None
    total = 0.0
    for norm in torch._foreach_norm(grads):  # type: ignore[arg-type]
        value = norm.item()
        total += value * value  # a nan or inf stays one
    return math.sqrt(total) if total < math.inf else _by_the_largest(grads)


def _by_the_largest(grads: Sequence[Tensor]) -> float:
    """The norm where squares may have overflowed, as those of gradients that are still scaled do."""
    largest = [g.abs().max().item() for g in grads if g.numel()]
    if not all(map(math.isfinite, largest)):
        return math.nan if any(map(math.isnan, largest)) else math.inf
    most = max(largest)
    return most * math.sqrt(sum((g.double() / most).square().sum().item() for g in grads))


def norm_later(grads: Sequence[Tensor], device: torch.device) -> Tensor | None:
    """The 2-norm of them all, on that device; waits for nothing where they all are there. None where there are none."""
    if not grads:
        return None
    norms = torch._foreach_norm(grads)  # type: ignore[arg-type]
    whole: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(device, torch.float32) for norm in norms]))
    return whole
