"""What an importer returns."""

from __future__ import annotations

from typing import NamedTuple

from ..schedules import Schedule

__all__ = ["Imported"]


class Imported(NamedTuple):
    """A schedule that was somebody else's: at step t the original has `lr * schedule(t)`.

    Attributes:
        schedule: the multiplier.
        lr: the peak lr that it multiplies.
    """

    schedule: Schedule
    lr: float
