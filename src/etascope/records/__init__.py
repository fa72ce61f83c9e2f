"""What comes out of etascope: frozen, versioned records with a JSON round trip. No torch.

    evidence     what `find` and `sweep` trained, and their answers
    run          what `watch` saw of one run, and what it decided
    diagnosis    what `diagnose` says of one run's log
"""

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
