"""Loss scales in fp16, one for each lane."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LaneScaler"]


class LaneScaler:
    """The loss scale of each lane in fp16: torch's `GradScaler`, once for every lane.

    It halves where a gradient overflows, and doubles after 2000 updates in a row without.
    """

    def __init__(self, n_lanes: int, device: torch.device) -> None:
        like = torch.amp.GradScaler(device.type)
        self._growth, self._interval = like.get_growth_factor(), like.get_growth_interval()
        self._backoff = like.get_backoff_factor()
        self.scale_L = torch.full((n_lanes,), like.get_scale(), device=device)
        self._good_L = torch.zeros(n_lanes, dtype=torch.int64, device=device)

    def of(self, lanes: Tensor | None) -> Tensor:
        """The scales of all or some lanes."""
        return self.scale_L if lanes is None else self.scale_L[lanes]

    def unscaled(self, grads_LP: Tensor, lanes: Tensor | None) -> Tensor:
        """Gradients of the loss, from those of the scaled loss."""
        return grads_LP * self.of(lanes).double().reciprocal().to(grads_LP.dtype)[:, None]

    def halve(self, lanes: Tensor) -> None:
        """These lanes overflowed."""
        self.scale_L[lanes] *= self._backoff
        self._good_L[lanes] = 0

    def grow(self) -> None:
        """Every lane has its update."""
        self._good_L += 1
        due_L = self._good_L == self._interval
        self.scale_L = torch.where(due_L, self.scale_L * self._growth, self.scale_L)
        self._good_L.masked_fill_(due_L, 0)
