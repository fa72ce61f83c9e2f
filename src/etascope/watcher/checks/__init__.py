"""The checks, one file and one code each; a new one is added to `CHECKS`."""

from __future__ import annotations

from .base import AlarmCheck, Check, Event, NoteCheck, Said, View
from .eta001_non_finite import NonFinite
from .eta002_diverging import Diverging
from .eta003_spike import Spike
from .eta004_plateau import Plateau
from .eta005_edge import Edge
from .eta006_too_slow import TooSlow
from .eta007_overfitting import Overfitting
from .eta008_updates import Updates
from .eta009_collapsed import Collapsed
from .eta010_warmup import Warmup
from .eta011_schedule import ScheduleFits
from .eta012_not_the_lr import NotTheLr
from .eta013_changed import Changed

__all__ = ["CHECKS", "AlarmCheck", "Check", "Event", "NoteCheck", "Said", "View"]

CHECKS: tuple[Check, ...] = (
    NonFinite(), Diverging(), Spike(), Plateau(), Edge(), TooSlow(), Overfitting(), Updates(), Collapsed(), Warmup(),
    ScheduleFits(), NotTheLr(), Changed(),
)  # fmt: skip
