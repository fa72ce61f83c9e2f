"""Numbers on their way from a device: what was copied without waiting, and is looked at once it has come."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Late", "Queue"]


@dataclass(frozen=True)
class Late:
    """One observation whose loss and gradient norm are on their way.

    Attributes:
        step: updates made before it.
        lr: of the first param group, as its update was made with.
        lrs: of the others, where they differ.
        measured: whether the gradient's norm is among what comes.
        host: loss and norm, once they are there.
        event: of a GPU: what tells that they are.
    """

    step: int
    lr: float
    lrs: list[float] | None
    measured: bool
    host: Tensor
    event: Any

    @classmethod
    def of(cls, step: int, lr: float, lrs: list[float] | None, loss: Tensor, norm: Tensor | None) -> Late:
        """Send them on their way."""
        loss = loss.detach()
        kind = torch.float32 if loss.device.type == "mps" else torch.float64
        value = loss.reshape(()).to(kind)
        there = torch.stack([value, value if norm is None else norm.to(kind)])
        if loss.device.type != "cuda":
            return cls(step, lr, lrs, norm is not None, there.cpu(), None)
        host = torch.empty(2, dtype=kind, pin_memory=True)
        host.copy_(there, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(loss.device))
        return cls(step, lr, lrs, norm is not None, host, event)

    def take(self) -> tuple[float, float | None]:
        """Loss and norm; waits for them if need be."""
        if self.event is not None:
            self.event.synchronize()
        loss, norm = self.host.tolist()
        return loss, norm if self.measured else None


class Queue:
    """Observations on their way; none stays for longer than `lag` others.

    Args:
        lag: how many may be on their way after an observation, at least 1.
    """

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self._waiting: deque[Late] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, late: Late) -> None:
        """One more."""
        self._waiting.append(late)

    def next(self, at_once: bool) -> Late | None:
        """The oldest one if it is due: too many wait behind it, or all are wanted at once."""
        if self._waiting and (at_once or len(self._waiting) > self.lag):
            return self._waiting.popleft()
        return None

    def clear(self) -> None:
        """Forget those on their way: their weights are gone."""
        self._waiting.clear()
