"""What comes out of etascope: frozen, versioned records with a JSON round trip. No torch.

`evidence` is what `find` and `sweep` trained, and their answers; `run` is what `watch` saw of one run, and what it
decided; `diagnosis` is what `diagnose` says of one run's log.
"""

from .diagnosis import Diagnosis
from .evidence import (
    Curve,
    Engine,
    Evidence,
    Finding,
    Lane,
    Point,
    Predicted,
    RangeTest,
    Rung,
    StepSizes,
    Sweep,
    Unanswered,
    Verdict,
    Waypoint,
    load,
    show_with,
)
from .run import Decision, Note

__all__ = [
    "Curve",
    "Decision",
    "Diagnosis",
    "Engine",
    "Evidence",
    "Finding",
    "Lane",
    "Note",
    "Point",
    "Predicted",
    "RangeTest",
    "Rung",
    "StepSizes",
    "Sweep",
    "Unanswered",
    "Verdict",
    "Waypoint",
    "load",
    "show_with",
]
