"""etascope: which learning rate, and why. By habit `import etascope as eta`: η is the learning rate.

The whole public API is this page. Names are loaded on first use, so that `import etascope` is quick and
`etascope.schedules`, `etascope.records` and `etascope.reports` never load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import (
    EngineError,
    EtascopeError,
    Interrupted,
    NoAnswer,
    OptionError,
    RecordError,
    ScheduleError,
    TaskError,
)

if TYPE_CHECKING:
    from .attachment import Handle, absolute, attach
    from .diagnosis import diagnose
    from .finder import Plan, Progress, find, plan, sweep
    from .records import (
        Curve,
        Decision,
        Diagnosis,
        Evidence,
        Finding,
        Lane,
        Note,
        Predicted,
        RangeTest,
        Rung,
        Sweep,
        Unanswered,
        Verdict,
        Waypoint,
        load,
    )
    from .reports import Plot, answer, plot, report, text
    from .schedules import (
        Schedule,
        constant,
        cosine,
        exp_range,
        exponential,
        hold,
        inverse_sqrt,
        inverse_time,
        linear,
        one_cycle,
        polynomial,
        restarts,
        sqrt_cooldown,
        step_decay,
        triangular,
        warmup,
    )
    from .schedules.factors import greedy, plateau
    from .task import Task, resumed
    from .watcher import Log, early_stop, follow, hypergradient, pearce_hall, read_log, rewind
    from .watching import Watch, watch

__all__ = [
    # the task, and the verbs
    "Task",
    "resumed",
    "find",
    "plan",
    "sweep",
    "diagnose",
    # showing a record
    "answer",
    "plot",
    "report",
    "text",
    # records
    "Curve",
    "Decision",
    "Diagnosis",
    "Evidence",
    "Finding",
    "Lane",
    "Note",
    "Plan",
    "Plot",
    "Predicted",
    "Progress",
    "RangeTest",
    "Rung",
    "Sweep",
    "Unanswered",
    "Verdict",
    "Waypoint",
    "load",
    # schedules
    "Schedule",
    "constant",
    "cosine",
    "exp_range",
    "exponential",
    "hold",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "one_cycle",
    "polynomial",
    "restarts",
    "sqrt_cooldown",
    "step_decay",
    "triangular",
    "warmup",
    # a schedule on an optimizer
    "Handle",
    "absolute",
    "attach",
    "greedy",
    "plateau",
    # a run that is looked after
    "Log",
    "Watch",
    "early_stop",
    "follow",
    "hypergradient",
    "pearce_hall",
    "read_log",
    "rewind",
    "watch",
    # errors
    "EngineError",
    "EtascopeError",
    "Interrupted",
    "NoAnswer",
    "OptionError",
    "RecordError",
    "ScheduleError",
    "TaskError",
]

_HOMES = {
    "attachment": ("Handle", "absolute", "attach"),
    "diagnosis": ("diagnose",),
    "finder": ("Plan", "Progress", "find", "plan", "sweep"),
    "records": (
        "Curve", "Decision", "Diagnosis", "Evidence", "Finding", "Lane", "Note", "Predicted", "RangeTest", "Rung",
        "Sweep", "Unanswered", "Verdict", "Waypoint", "load",
    ),
    "reports": ("Plot", "answer", "plot", "report", "text"),
    "schedules": (
        "Schedule", "constant", "cosine", "exp_range", "exponential", "hold", "inverse_sqrt", "inverse_time", "linear",
        "one_cycle", "polynomial", "restarts", "sqrt_cooldown", "step_decay", "triangular", "warmup",
    ),
    "schedules.factors": ("greedy", "plateau"),
    "task": ("Task", "resumed"),
    "watcher": ("Log", "early_stop", "follow", "hypergradient", "pearce_hall", "read_log", "rewind"),
    "watching": ("Watch", "watch"),
}  # fmt: skip
_HOME = {name: room for room, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "integrations":
        return importlib.import_module(".integrations", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOME[name] in ("finder", "records"):
        importlib.import_module(".reports", __name__)  # so that print(record) shows the answer
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
