"""What a check is: one code, one thing to look for, what it says and what to do next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ..policies.base import Alarm
from ..run import Probe, Run
from ..signals import Block, Signals

__all__ = ["AlarmCheck", "Check", "Event", "NoteCheck", "Said", "View"]

Event = Literal["block", "validation", "probe", "data", "lr", "end"]


@dataclass(frozen=True)
class Said:
    """What a check has to say: a sentence with its numbers, and the next move."""

    said: str
    move: str
    numbers: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass
class View:
    """What checks look at; not theirs to change.

    Attributes:
        run: what is known of the run.
        signals: the running figures, with the blocks of the run so far.
        step: updates made.
        validations: (step, validation loss, running level of the training loss then).
        probes: (step, probe).
        skipped: observations whose update was left out.
        held: updates that were left out in a row because the data were out of line on a good model.
    """

    run: Run
    signals: Signals
    step: int = 0
    validations: list[tuple[int, float, float]] = field(default_factory=list)
    probes: list[tuple[int, Probe]] = field(default_factory=list)
    skipped: int = 0
    held: int = 0

    @property
    def blocks(self) -> list[Block]:
        """The run so far, in stretches."""
        return self.signals.blocks

    @property
    def share(self) -> float | None:
        """How much of the horizon is over; None where it is not known."""
        return self.step / self.run.horizon if self.run.horizon else None

    def last_probes(self, count: int) -> list[Probe]:
        """The last so many probes, or as many as there are."""
        return [probe for _, probe in self.probes[-count:]]


class Check(ABC):
    """One check. Its docstring is its page in the docs.

    Attributes:
        code: "ETA001" and so on.
        title: what it looks for.
    """

    code: ClassVar[str]
    title: ClassVar[str]

    def inapplicable(self, view: View) -> str:
        """Why it can say nothing of this run, so far; empty where it can."""
        return ""


class AlarmCheck(Check):
    """A check that makes a Decision."""

    @abstractmethod
    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        """The alarm that this observation raises."""


class NoteCheck(Check):
    """A check that makes notes, at most once a phase.

    Attributes:
        on: the events after which it looks.
        urgent: whether it looks at every block, and not at every fourth.
    """

    urgent: ClassVar[bool] = False
    on: ClassVar[frozenset[Event]]

    @abstractmethod
    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        """What there is to say; `about` is what the event brought."""
