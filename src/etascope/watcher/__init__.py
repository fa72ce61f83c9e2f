"""Signals -> checks -> decisions: pure, on numbers alone, and the same again from a log. No torch.

`Controller` is the middle of it; `eta.watch` (the room `watching`) feeds it from a live training.
"""

from .controller import Controller
from .log import Log, LogReader, LogWriter, read_log
from .policies import Policy, early_stop, follow, hypergradient, pearce_hall, policies_of, rewind
from .policies.text import policy_from
from .replay import controller_of, replay
from .run import LayerProbe, Probe, Run
from .why import Why, why

__all__ = [
    "Controller",
    "LayerProbe",
    "Log",
    "LogReader",
    "LogWriter",
    "Policy",
    "Probe",
    "Run",
    "Why",
    "controller_of",
    "early_stop",
    "follow",
    "hypergradient",
    "pearce_hall",
    "policies_of",
    "policy_from",
    "read_log",
    "replay",
    "rewind",
    "why",
]
