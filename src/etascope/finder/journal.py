"""The journal of a run folder: what was asked, what trained, and every unit of work as soon as it is done.

    {"schema": "etascope.journal/1", "verb": "find", "asked": {…}, "facts": {…}, "engine": {…}, "budget": 1.0, …}
    {"rung": 0, "steps": 17, "settings": [[seed, lr], …], "curves": […], "eval_s": 0.1, "wall_s": 1.2}
    {"ended": 4}
    …                         and "options": [{…}, …] beside the settings, where they differ in more than seed and lr

A line counts when its newline is on the disk. A killed process leaves at most one torn line, which the next one cuts
off; and since every decision of a race follows from the lines before it, the race goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._json import decode, encode
from ..engines.base import Setting, Trained
from ..errors import RecordError
from ..records import Curve, Engine
from ..storage import unwritable

__all__ = ["Head", "Journal"]

Key = tuple[int, int, tuple[tuple[int, float], ...], tuple[str, ...]]
SCHEMA = "etascope.journal/1"
MARK = b'{"schema": "etascope.journal/'  # how a journal begins
NOTHING = Trained((), 0.0)
OTHER = "Ask for the same to continue it, or choose another --out (out=)."


@dataclass(frozen=True)
class Head:
    """The journal's first line: what a continued run must agree with, and what it takes over.

    Args:
        verb: "find" or "sweep".
        asked: everything that decides the result; a continued run must ask the same.
        facts: what the task says of itself; that of a continued run must say the same.
        engine: what trains.
        budget: in complete runs (a budget in minutes, as it was turned into runs).
        trial_steps: training steps that went into choosing the engine.
        step_s: seconds of one step of one setting, as measured for a budget in time; else 0.
    """

    verb: str
    asked: Mapping[str, Any]
    facts: Mapping[str, Any]
    engine: Engine
    budget: float
    trial_steps: int
    step_s: float = 0.0


@dataclass(frozen=True)
class Unit:
    """Any other line: settings that were trained together, and what came of them."""

    rung: int
    steps: int
    settings: tuple[tuple[int, float], ...]
    curves: tuple[Curve, ...]
    eval_s: float
    wall_s: float
    options: tuple[dict[str, Any], ...] = ()  # of each setting; empty where there are none

    @property
    def key(self) -> Key:
        """What tells it from other units."""
        return self.rung, self.steps, self.settings, tuple(json.dumps(o, sort_keys=True) for o in self.options)


class Journal:
    """A journal in a run folder, which is read at once and written from `begin` on; or one in memory only.

    Args:
        folder: the run folder; None keeps nothing.

    Raises:
        RecordError: the folder cannot be used, or holds a damaged or foreign journal.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / "journal.jsonl"
        self.head: Head | None = None
        self.ended: int | None = None  # rungs of a race that was over: a budget in time has no more for it
        self.wall_s = 0.0  # of the units that earlier processes trained
        self._done: dict[Key, Trained] = {}
        if self.path is not None and self.path.exists():
            self._open(self.path)

    def _open(self, path: Path) -> None:
        try:
            data = path.read_bytes()
            if not data.startswith(MARK[: len(data)]):
                raise RecordError(
                    f"{path} is not a journal of etascope.", "Move it away, or choose another --out (out=)."
                )
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        except OSError as error:
            raise unwritable(path, error, out=True) from error
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._read(json.loads(line), number)
            except (ValueError, RecursionError) as error:
                raise RecordError(
                    f"{path} is damaged in line {number}: {error}",
                    "Cut the file off before that line to keep what stands above it, or choose another --out (out=).",
                ) from error

    def _read(self, line: Any, number: int) -> None:
        if "ended" in line:
            self.ended = decode(int, line["ended"], "ended")
        elif number > 1:
            unit: Unit = decode(Unit, line, "")
            self._done[unit.key] = Trained(unit.curves, unit.eval_s)
            self.wall_s += unit.wall_s
        elif (schema := line.get("schema")) != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, not {SCHEMA!r}")
        else:
            self.head = decode(Head, line, "")

    def begin(self, head: Head) -> None:
        """Write the head, unless one stands there already.

        Raises:
            RecordError: it cannot be written.
        """
        if self.head is None:
            self.head = head
            self._append({"schema": SCHEMA} | encode(head))

    def must_agree(self, said: Mapping[str, Any]) -> None:
        """Refuse to continue what was asked differently, or a task that has changed.

        Raises:
            RecordError: a value is not the one that the head has under its key.
        """
        if self.head is None:
            return
        theirs = {"verb": self.head.verb, **self.head.asked, **self.head.facts}
        for key, mine in encode(said).items():
            if not _agree(theirs.get(key), mine, close=key in self.head.facts):
                raise RecordError(
                    f"{self.path} belongs to another run: its {key} is {theirs.get(key)!r}, and this one's {mine!r}",
                    OTHER,
                )

    def find(self, rung: int, steps: int, settings: Sequence[Setting]) -> Trained | None:
        """What an earlier process trained of just this unit."""
        return self._done.get(_unit(rung, steps, settings).key)

    def steps_of(self, rung: int) -> int | None:
        """The steps that an earlier process gave to this rung; None if it had not come to it."""
        return next((steps for number, steps, _, _ in self._done if number == rung), None)

    def add(self, rung: int, steps: int, settings: Sequence[Setting], trained: Trained, wall_s: float) -> None:
        """Write one finished unit."""
        line = encode(_unit(rung, steps, settings, trained, wall_s))
        self._append(line if line["options"] else {key: value for key, value in line.items() if key != "options"})

    def end(self, rungs: int) -> None:
        """Write that the race is over, unless it stands there already."""
        if self.ended is None:
            self.ended = rungs
            self._append({"ended": rungs})

    def _append(self, line: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        data = json.dumps(line, allow_nan=False).encode() + b"\n"
        before = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("ab") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
        except OSError as error:
            if self.path.exists():
                os.truncate(self.path, before)
            raise unwritable(self.path, error, out=True) from error


def _unit(rung: int, steps: int, settings: Sequence[Setting], trained: Trained = NOTHING, wall_s: float = 0.0) -> Unit:
    options = tuple(s.written() for s in settings) if any(s.options for s in settings) else ()
    plain = tuple((s.seed, s.lr) for s in settings)
    return Unit(rung, steps, plain, trained.curves, trained.eval_s, wall_s, options)


def _agree(theirs: Any, mine: Any, *, close: bool) -> bool:
    """Whether two values are the same; measured ones, as a loss at init, may differ by rounding (threads, devices)."""
    if close and isinstance(theirs, float) and isinstance(mine, float):
        return math.isclose(theirs, mine, rel_tol=1e-6)
    return bool(theirs == mine)
