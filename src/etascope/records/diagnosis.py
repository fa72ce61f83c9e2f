"""What `diagnose` says of one run's log."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from .. import numbers as n
from .._json import decode_fields, encode
from ..errors import RecordError
from ..storage import write_atomically

__all__ = ["VERDICTS", "Diagnosis", "DiagnosisVerdict"]

DiagnosisVerdict = Literal["too low", "fine", "too high", "not the learning rate"]
VERDICTS: tuple[DiagnosisVerdict, ...] = ("too low", "fine", "too high", "not the learning rate")
SURE, LIKELY = 0.8, 0.5


@dataclass(frozen=True)
class Diagnosis:
    """Whether a run's lr was too high, too low or fine, or something else is wrong, from its log alone.

    Attributes:
        verdict: the most probable of the four. A run that diverged for its lr counts as "too high"; "fine" is an lr
            inside the zone: nothing is to be gained by another.
        probabilities: of all four verdicts; they sum to 1.
        evidence: sentences with numbers that speak for the verdict, the strongest first.
        next_move: what to do now.
        read: what each column was read from, by what it is: "loss", "lr", "val", "grad", "probes".
        steps: the first and the last step of the log.
        source: the file, folder or record that was read.
        notes: what could not be read, or makes the answer less sure.

    >>> said = Diagnosis("too low", {"too low": 0.9, "fine": 0.1, "too high": 0.0, "not the learning rate": 0.0},
    ...                  ("the loss was still falling at the end",), "Raise the lr 3 to 10 times.", {"loss": "loss"},
    ...                  (0, 99), "log.csv")
    >>> print(said)
    log.csv: the learning rate is too low (90%; fine 10%)
      - the loss was still falling at the end
    Next: Raise the lr 3 to 10 times.
    Read: loss, steps 0 to 99
    >>> Diagnosis.from_json(said.to_json()) == said
    True
    """

    schema: ClassVar[str] = "etascope.diagnosis/1"

    verdict: DiagnosisVerdict
    probabilities: dict[str, float] = field(hash=False)
    evidence: tuple[str, ...]
    next_move: str
    read: dict[str, str] = field(hash=False)
    steps: tuple[int, int]
    source: str = ""
    notes: tuple[str, ...] = ()

    @property
    def probability(self) -> float:
        """Of the verdict."""
        return self.probabilities[self.verdict]

    def to_json(self) -> dict[str, Any]:
        """Strict-JSON data; the keys are a contract."""
        return {"schema": self.schema} | {f.name: encode(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Diagnosis:
        """The inverse of `to_json`; `where` is what errors call it.

        Raises:
            RecordError: `data` is no diagnosis of this schema, or one of its values is of a wrong type.
        """
        if data.get("schema") != cls.schema:
            raise RecordError(
                f"this is not a {cls.schema!r} record, its schema is {data.get('schema')!r}",
                "Give what `etascope diagnose --json` wrote.",
            )
        try:
            read: Diagnosis = decode_fields(cls, data, where)
            if set(read.probabilities) != set(VERDICTS) or not math.isclose(
                sum(read.probabilities.values()), 1.0, abs_tol=1e-6
            ):
                raise ValueError(f"probabilities is {read.probabilities}, not of the four verdicts, with a sum of 1")
        except ValueError as error:
            raise RecordError(
                f"the {cls.schema!r} record is damaged: {error}", "Make it again: etascope diagnose PATH --json"
            ) from error
        return read

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record as strict JSON, atomically."""
        write_atomically(path, json.dumps(self.to_json(), allow_nan=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Diagnosis:
        """Read a record that `save` wrote.

        Raises:
            RecordError: the file is missing, damaged or of another kind.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror or error}", "Check the path.") from error
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path} is damaged, it is not JSON: {error}", "Make it again.") from error
        return cls.from_json(data if isinstance(data, dict) else {})

    def __str__(self) -> str:
        others = sorted(((p, v) for v, p in self.probabilities.items() if v != self.verdict), reverse=True)
        also = ", ".join(f"{v} {n.percent(p)}" for p, v in others if p >= 0.05)
        said = f"{self._said()} ({n.percent(self.probability)}{f'; {also}' if also else ''})"
        lines = [f"{self.source}: {said}" if self.source else said]
        lines += [f"  - {sentence}" for sentence in self.evidence]
        lines.append(f"Next: {self.next_move}")
        lines.append(f"Read: {', '.join(self.read)}, steps {self.steps[0]:,} to {self.steps[1]:,}")
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _said(self) -> str:
        how = "" if self.probability >= SURE else "probably " if self.probability >= LIKELY else "perhaps "
        if self.verdict == "not the learning rate":
            return f"it is {how}not the learning rate: something else is wrong"
        return f"the learning rate is {how}{self.verdict}"
