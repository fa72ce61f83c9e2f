"""Engines: settings in, curves out. One protocol (`base.Engine`), four members, and the choice between them."""

from .base import Engine, Facts, Options, Setting, Trained
from .blame import place, said, user_code
from .callable import About, TrainingFunction
from .choose import Chosen, as_device, choose, rebuild_engine, start_ahead
from .data import rebuild
from .lanes import Lanes
from .loop import Loop
from .memory import memory
from .options import check_options
from .prepared import Prepared
from .randomness import derive, undisturbed
from .trials import WIDTH
from .workers import Ahead, Workers

__all__ = [
    "WIDTH",
    "About",
    "Ahead",
    "Chosen",
    "Engine",
    "Facts",
    "Lanes",
    "Loop",
    "Options",
    "Prepared",
    "Setting",
    "Trained",
    "TrainingFunction",
    "Workers",
    "as_device",
    "check_options",
    "choose",
    "derive",
    "memory",
    "place",
    "rebuild",
    "rebuild_engine",
    "said",
    "start_ahead",
    "undisturbed",
    "user_code",
]
