"""The log of a watched run: written as it goes, a line at a time, and read back. Its format stands in `records.run`."""

from __future__ import annotations

import contextlib
import glob
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import RecordError
from ..records.run import SCHEMA, Decision, Note, exact
from ..storage import unwritable, write_atomically

__all__ = ["Log", "LogReader", "LogWriter", "Observed", "log_of", "read_log"]

BLOCK = 64  # observations a line
PATIENCE = 2.0  # seconds after which a block is written though it is not full, for who reads along


class Observed(NamedTuple):
    """One observation as it was logged."""

    seen: int
    step: int
    loss: float
    lr: float
    grad: float | None


@dataclass
class Log:
    """A run's log.

    Attributes:
        lines: its lines as plain data, the header first.
        damaged: what could not be read of it, in words; empty where all was.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    damaged: str = ""

    @property
    def header(self) -> dict[str, Any]:
        """What was known of the run before its first step."""
        return self.lines[0]

    def of(self, kind: str) -> Iterator[dict[str, Any]]:
        """The lines of a kind."""
        return (line for line in self.lines if line["kind"] == kind)

    @property
    def notes(self) -> list[Note]:
        """What the checks noted."""
        return [Note.from_json(line) for line in self.of("note")]

    @property
    def decisions(self) -> list[Decision]:
        """What was decided."""
        return [Decision.from_json(line) for line in self.of("decision")]

    def observations(self) -> Iterator[Observed]:
        """Every observation, in order."""
        for line in self.of("steps"):
            yield from observations_of(line)

    def to_text(self) -> str:
        """The log as JSONL."""
        return "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.lines)


def observations_of(line: Mapping[str, Any]) -> Iterator[Observed]:
    """The observations in a line of kind "steps"."""
    grads = {int(i): float(norm) for i, norm in line.get("grad", ())}
    for i, (loss, lr) in enumerate(zip(line["loss"], line["lr"], strict=True)):
        yield Observed(line["seen"] + i, line["step"] + i, float(loss), float(lr), grads.get(i))


def read_log(path: str | os.PathLike[str]) -> Log:
    """Read the log of a watched run. A last line that was cut off is passed over, and said so.

    Raises:
        RecordError: the file is missing, is no such log, or is damaged elsewhere than at its end.
    """
    path = Path(path)
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}", "Check the path.") from error
    log = Log()
    for i, text in enumerate(texts):
        try:
            line = json.loads(text)
            _check(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if i and i == len(texts) - 1:
                log.damaged = f"the last line of {path.name} was cut off and is passed over"
                break
            if i == 0:
                break
            raise RecordError(f"line {i + 1} of {path} is damaged: {error}", "Take that line out.") from error
        log.lines.append(line)
    if not log.lines or log.header.get("schema") != SCHEMA:
        raise _no_log(path, log.lines[0].get("schema") if log.lines else None)
    return log


class LogReader:
    """Reads a log that is still being written, each time what was added since the last.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file, self._offset, self._rest, self._number = -1, 0, b"", 0

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The lines that are new and whole, and whether they are the first of a file that was begun anew.

        A resumed run writes its log anew, without what it had logged after its checkpoint.

        Raises:
            RecordError: the file is missing, is no log of a watched run, or a whole line of it is damaged.
        """
        lines: list[dict[str, Any]] = []
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                anew = found.st_ino != self._file or found.st_size < self._offset
                if anew:
                    self._file, self._offset, self._rest, self._number = found.st_ino, 0, b"", 0
                file.seek(self._offset)
                added = file.read()
        except OSError as error:
            raise RecordError(f"cannot read {self.path}: {error.strerror or error}", "Check the path.") from error
        self._offset += len(added)
        *whole, self._rest = (self._rest + added).split(b"\n")
        for text in whole:
            self._number += 1
            try:
                line = json.loads(text)
                _check(line)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                if self._number == 1:
                    raise _no_log(self.path, None) from error
                raise RecordError(f"line {self._number} of {self.path} is damaged: {error}", "Take it out.") from error
            if self._number == 1 and line.get("schema") != SCHEMA:
                raise _no_log(self.path, line.get("schema"))
            lines.append(line)
        return lines, anew


def _no_log(path: Path, found: object) -> RecordError:
    return RecordError(
        f"{path} is no log of a watched run (its first line has the schema {found!r}, not {SCHEMA!r})",
        f"Give the file that eta.watch wrote; other logs are read by `etascope diagnose {path}`.",
    )


def log_of(path: str | os.PathLike[str], run: str) -> Path | None:
    """The file of a run's log: at that path, or where it lies since another run's log took its place. None: nowhere."""
    path = Path(path)
    asides = path.parent.glob(f"{glob.escape(path.stem)}.*{glob.escape(path.suffix)}")
    for candidate in (path, *sorted(asides)):
        with contextlib.suppress(OSError, ValueError, AttributeError), candidate.open("rb") as file:
            if json.loads(file.readline()).get("run") == run:
                return candidate
    return None


def _set_aside(path: Path) -> None:
    asides = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in itertools.count(1))
    aside = next(aside for aside in asides if not aside.exists())
    try:
        path.rename(aside)
    except OSError as error:
        raise unwritable(path, error) from error


def _check(line: Any) -> None:
    if not isinstance(line, dict) or not isinstance(line.get("kind"), str):
        raise ValueError("it is no object with a kind")
    if line["kind"] == "steps":
        for _ in observations_of(line):
            pass


class LogWriter:
    """Writes a log as the run goes; observations in blocks, all else at once.

    Args:
        path: the file; None keeps the log in memory.
        header: what is known of the run.
        sinks: each is shown every line, as plain data, after it was written.

    A file that is there already is moved aside (run.jsonl to run.1.jsonl), unless `go_on` has been asked for.

    A file that can no longer be written (a full disk) is left as it is: `fault` says why, and what comes after is kept
    in memory alone, since a training is not to end for its log.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        header: Mapping[str, Any],
        sinks: Iterable[Callable[[dict[str, Any]], object]] = (),
    ) -> None:
        self.path = None if path is None else Path(path).absolute()
        self._run = str(header.get("run", ""))
        self._memory = Log()
        self.fault: RecordError | None = None
        self._sinks = list(sinks)
        self._file: BufferedWriter | None = None
        self._seen = self._step = 0
        self._written = time.monotonic()
        self.count = 0  # lines
        self._loss: list[float] = []
        self._lr: list[float] = []
        self._lrs: list[list[float]] = []
        self._grad: list[tuple[int, float]] = []
        if self.path is not None:
            if self.path.exists():
                _set_aside(self.path)
            self._open("wb")
        self.write("header", {"schema": SCHEMA, **header})

    @classmethod
    def go_on(
        cls, path: str | os.PathLike[str], lines: int, sinks: Iterable[Callable[[dict[str, Any]], object]] = ()
    ) -> LogWriter:
        """A writer that goes on with a log that is there, after its first `lines` lines; later ones are cut off.

        Raises:
            RecordError: there is none, or it is damaged elsewhere than at its end.
        """
        kept = Log(read_log(path).lines[:lines])
        writer = cls.__new__(cls)
        writer.path, writer._memory, writer.fault, writer._sinks = Path(path).absolute(), Log(), None, list(sinks)
        writer._run = str(kept.header.get("run", ""))
        writer._file, writer._written, writer.count = None, time.monotonic(), len(kept.lines)
        writer._seen = writer._step = 0
        writer._loss, writer._lr, writer._lrs, writer._grad = [], [], [], []
        write_atomically(path, kept.to_text())
        writer._open("ab")
        return writer

    @property
    def log(self) -> Log:
        """What was logged so far, observations of the last block included."""
        self.flush()
        if self.path is None:
            return self._memory
        path = log_of(self.path, self._run) if self._run else self.path
        if path is None:
            raise RecordError(
                f"the log of this run is no longer at {self.path}", "Do not move it while the run goes on."
            )
        there = read_log(path)
        return Log(there.lines + self._memory.lines, there.damaged)

    def observe(
        self, seen: int, step: int, loss: float, lr: float, grad: float | None = None, lrs: list[float] | None = None
    ) -> None:
        """One observation; `lrs` are those of the further param groups, where they are not all `lr`."""
        i = len(self._loss)
        if i and (i >= BLOCK or step != self._step + i or seen != self._seen + i or (lrs is None) == bool(self._lrs)):
            self.flush()
            i = 0
        if not i:
            self._seen, self._step = seen, step
        self._loss.append(loss)
        self._lr.append(lr)
        if lrs is not None:
            self._lrs.append(lrs)
        if grad is not None:
            self._grad.append((i, grad))
        if self._file is not None and time.monotonic() - self._written > PATIENCE:
            self.flush()

    def write(self, kind: str, data: Mapping[str, Any]) -> None:
        """Anything else, after the observations before it."""
        self.flush()
        self._line({"kind": kind, **data})

    def flush(self) -> None:
        """Write what there is of a block."""
        if not self._loss:
            return
        line: dict[str, Any] = {"kind": "steps", "seen": self._seen, "step": self._step}
        line["loss"], line["lr"] = self._loss, self._lr
        if self._lrs:
            line["lrs"] = self._lrs
        if self._grad:
            line["grad"] = self._grad
        self._loss, self._lr, self._lrs, self._grad = [], [], [], []
        self._written = time.monotonic()
        self._line(line)

    def close(self) -> None:
        """Write what is left, and close the file."""
        self.flush()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._broken(error)
            self._file = None

    def _line(self, line: dict[str, Any]) -> None:
        self.count += 1
        if self._file is None:
            self._memory.lines.append(exact(line))
        else:
            self._put(line)
        if not self._sinks:
            return
        line = exact(line)
        for sink in list(self._sinks):
            try:
                sink(line)
            except Exception as error:  # somebody else's code; the training is not to end for it
                self._sinks.remove(sink)
                warnings.warn(f"{sink!r} failed, and is shown nothing more of this run: {error!r}", stacklevel=4)

    def _open(self, mode: str) -> None:
        assert self.path is not None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._file is not None:
                self._file.close()
            self._file = self.path.open(mode)  # type: ignore[assignment]
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _put(self, line: dict[str, Any]) -> None:
        assert self._file is not None
        try:
            text = json.dumps(line, allow_nan=False)
        except ValueError:  # there are nan or inf in it, which is seldom
            text = json.dumps(exact(line), allow_nan=False)
        try:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            self._broken(error)
            self._memory.lines.append(exact(line))

    def _broken(self, error: OSError) -> None:
        assert self.path is not None
        self.fault, self._file = unwritable(self.path, error), None
