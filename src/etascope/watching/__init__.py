"""A training looked after: `eta.watch` for loops of plain torch, and snapshots that a rewind goes back to, exactly."""

from .live import Watch
from .opening import watch
from .snapshots import Ring
from .subject import Subject

__all__ = ["Ring", "Subject", "Watch", "watch"]
