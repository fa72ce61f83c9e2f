"""Batches of lanes that see different data: one for each stream, joined where their shapes agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .data import map_tensors, tensors

__all__ = ["Apart", "filled", "finite", "is_alike"]


class Apart:
    """One batch for each of a stack's streams of data."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = tuple(batches)

    def joined(self) -> tuple[Any, list[Tensor]] | None:
        """One of the batches, and the tensors of all, stacked; None where shapes, or what is no tensor, differ."""
        template, leaves = self.batches[0], [tensors(batch) for batch in self.batches]
        kinds = [[(t.shape, t.dtype) for t in own] for own in leaves]
        if any(kind != kinds[0] for kind in kinds) or not all(is_alike(template, b) for b in self.batches[1:]):
            return None
        return template, [torch.stack(same) for same in zip(*leaves, strict=True)]


def filled(template: Any, leaves: Sequence[Tensor]) -> Any:
    """A batch like the template with other tensors, in order."""
    left = iter(leaves)
    return map_tensors(template, lambda _: next(left))


def finite(batch: Any) -> Any:
    """A batch with zeros where it holds NaN or infinity."""
    if isinstance(batch, Apart):
        return Apart([finite(own) for own in batch.batches])
    return map_tensors(batch, lambda t: t.nan_to_num(0.0, 0.0, 0.0) if t.is_floating_point() else t)


def is_alike(a: Any, b: Any) -> bool:
    """Whether two batches are the same but for their tensors."""
    try:
        return bool(_bare(a) == _bare(b))
    except Exception:  # whatever a foreign object makes of ==
        return False


def _bare(batch: Any) -> Any:
    return map_tensors(batch, lambda _: None)  # type: ignore[arg-type, return-value]
