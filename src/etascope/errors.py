"""Everything etascope raises, on one tree.

    Exception
    └── EtascopeError            the cause, and the next move
        ├── OptionError          an argument or option that cannot be used          (exit code 2)
        ├── TaskError            a task that cannot be used                         (exit code 2)
        ├── ScheduleError        a schedule that cannot be built, bound or called   (exit code 2)
        ├── EngineError          the asked engine cannot train this task            (exit code 2)
        ├── RecordError          a record that cannot be read or written            (exit code 2)
        └── NoAnswer             no answer can honestly be given; holds the record  (exit code 3)
    KeyboardInterrupt
    └── Interrupted              Ctrl-C during a race; holds the best finding so far (exit code 130)

Each message says what is wrong first and what to do next; `next_move` holds the second part alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .records import Finding, Sweep, Unanswered

__all__ = [
    "EngineError",
    "EtascopeError",
    "Interrupted",
    "NoAnswer",
    "OptionError",
    "RecordError",
    "ScheduleError",
    "TaskError",
]


class EtascopeError(Exception):
    """The root of all errors that etascope raises on purpose.

    Args:
        cause: what is wrong, naming the thing.
        next_move: what the reader can do about it.
    """

    exit_code = 2

    def __init__(self, cause: str, next_move: str = "") -> None:
        super().__init__(cause if not next_move else f"{cause}\n{next_move}")
        self.cause = cause
        self.next_move = next_move


class OptionError(EtascopeError, ValueError):
    """An argument or command-line option that cannot be used."""


class TaskError(EtascopeError):
    """A task that cannot be used: its model, loss, data or optimizer raised, or returned the wrong thing."""


class ScheduleError(EtascopeError, ValueError):
    """A schedule that cannot be built, bound or called."""


class EngineError(EtascopeError):
    """The engine that was asked for cannot train this task; names the module and the reason."""


class RecordError(EtascopeError):
    """A record or journal that cannot be read or written."""


class NoAnswer(EtascopeError):
    """No answer can honestly be given. `record` is the evidence, written where one was asked for.

    It is an `Unanswered`, or a `Sweep` in which everything diverged.
    """

    exit_code = 3

    def __init__(self, cause: str, next_move: str = "", *, record: Sweep | Unanswered | None = None) -> None:
        super().__init__(cause, next_move)
        self.record = record


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a race. `finding` is the best answer so far, or None before the first rung was over."""

    exit_code = 130

    def __init__(self, finding: Finding | None = None) -> None:
        super().__init__("interrupted")
        self.finding = finding
