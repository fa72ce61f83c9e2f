"""The journal of a run folder: what was asked, what trained, and every unit of work as soon as it is done.

    {"schema": "etascope.journal/1", "verb": "find", "asked": {…}, "engine": {…}, "budget": 1.0, "trial_steps": 27}
    {"rung": 0, "steps": 17, "settings": [[seed, lr], …], "curves": […], "eval_s": 0.1, "wall_s": 1.2}
    …

A line counts when its newline is on the disk. A killed process leaves at most one torn line, which the next one cuts
off; and since every decision of a race follows from the lines before it, the race goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..engines.base import Setting, Trained
from ..errors import RecordError
from ..records import Curve, Engine
from ..storage import unwritable

__all__ = ["Head", "Journal"]

SCHEMA = "etascope.journal/1"
Key = tuple[int, int, tuple[Setting, ...]]


@dataclass(frozen=True)
class Head:
    """The journal's first line: what a continued run must agree with, and what it takes over.

    Args:
        verb: "find" or "sweep".
        asked: everything that decides the result; a continued run must ask the same.
        engine: what trains.
        budget: in complete runs (a budget in minutes, as it was turned into runs).
        trial_steps: training steps that went into choosing the engine.
    """

    verb: str
    asked: Mapping[str, Any]
    engine: Engine
    budget: float
    trial_steps: int


class Journal:
    """A journal in a run folder, or one that lives in memory only (`folder=None`).

    Args:
        folder: the run folder; made if need be.

    Raises:
        RecordError: the folder cannot be written, or holds a damaged or foreign journal.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self.path = None if folder is None else Path(folder) / "journal.jsonl"
        self.head: Head | None = None
        self.wall_s = 0.0  # of the units that earlier processes trained
        self._done: dict[Key, Trained] = {}
        if self.path is not None:
            self._open(self.path)

    def _open(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                os.truncate(path, len(whole))
        except OSError as error:
            raise unwritable(path, error) from error
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self._read(json.loads(line), number)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise RecordError(
                    f"{path} is damaged in line {number}: {type(error).__name__}: {error}",
                    "Cut the file off before that line to keep what stands above it, or choose another --out (out=).",
                ) from error

    def _read(self, line: dict[str, Any], number: int) -> None:
        if number == 1:
            if line.get("schema") != SCHEMA:
                raise ValueError(f"its schema is {line.get('schema')!r}, not {SCHEMA!r}")
            head = {k: v for k, v in line.items() if k != "schema"}
            self.head = Head(**(head | {"engine": Engine(**head["engine"])}))
            return
        settings = tuple(Setting(int(seed), float(lr)) for seed, lr in line["settings"])
        curves = tuple(Curve.from_json(c) for c in line["curves"])
        self._done[line["rung"], line["steps"], settings] = Trained(curves, line["eval_s"])
        self.wall_s += line["wall_s"]

    def begin(self, head: Head) -> Head:
        """Write the head, or return the one that stands there already.

        Raises:
            RecordError: the journal is that of another find or sweep.
        """
        if self.head is None:
            self.head = head
            self._append({"schema": SCHEMA} | asdict(head))
        return self.head

    def must_agree(self, verb: str, asked: Mapping[str, Any]) -> None:
        """Refuse to continue what was asked differently."""
        if self.head is None:
            return
        theirs = {"verb": self.head.verb, **self.head.asked}
        for key, mine in {"verb": verb, **json.loads(json.dumps(asked))}.items():
            if theirs.get(key) != mine:
                raise RecordError(
                    f"{self.path} belongs to another run: its {key} is {theirs.get(key)!r}, and this one's {mine!r}",
                    "Ask for the same to continue it, or choose another --out (out=).",
                )

    def find(self, rung: int, steps: int, settings: Sequence[Setting]) -> Trained | None:
        """What an earlier process trained of just this unit."""
        return self._done.get((rung, steps, tuple(settings)))

    def add(self, rung: int, steps: int, settings: Sequence[Setting], trained: Trained, wall_s: float) -> None:
        """Write one finished unit."""
        self._append(
            {
                "rung": rung,
                "steps": steps,
                "settings": [[s.seed, s.lr] for s in settings],
                "curves": [c.to_json() for c in trained.curves],
                "eval_s": trained.eval_s,
                "wall_s": wall_s,
            }
        )

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
            raise unwritable(self.path, error) from error
