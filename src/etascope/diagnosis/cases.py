"""The cases that the model learns from: one line for each run whose verdict is known, and its features.

`cases.csv` is written by `benchmarks/diagnose.py --fit` from the logs of runs whose verdict the dense truth of their
task gives. A run stands there twice: as it was logged at every step, and thinned to some points, as epochs or a
trainer that logs now and then leave it.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ..records.diagnosis import VERDICTS
from .features import names
from .log import FloatArray

__all__ = ["Cases", "cases", "temperatures"]

HEAD = ("task", "kind", "points", "verdict", "above_low", "above_high")


@dataclass(frozen=True)
class Cases:
    """Runs with known verdicts; C cases, F features.

    Attributes:
        tasks: each case's task.
        kinds: of its fault; "" where there is none.
        points: "every" step, or "few".
        verdicts_C: the index of each case's verdict in `VERDICTS`.
        places_C2: decades that its lr lies above the zone's low border and above its high one; NaN where that does not
            tell what it is: under a fault, or where the run diverged.
        features_CF: in the order of `features.names()`; NaN where a log does not allow one.
    """

    tasks: tuple[str, ...]
    kinds: tuple[str, ...]
    points: tuple[str, ...]
    verdicts_C: NDArray[np.int64]
    places_C2: FloatArray
    features_CF: FloatArray

    def of(self, points: str) -> Cases:
        """Those of one way of logging."""
        return self.where(np.array([said == points for said in self.points]))

    def where(self, wanted_C: NDArray[np.bool_]) -> Cases:
        """Some of them."""
        rows = np.flatnonzero(wanted_C)
        return Cases(
            tasks=tuple(self.tasks[i] for i in rows),
            kinds=tuple(self.kinds[i] for i in rows),
            points=tuple(self.points[i] for i in rows),
            verdicts_C=self.verdicts_C[rows],
            places_C2=self.places_C2[rows],
            features_CF=self.features_CF[rows],
        )

    def to_csv(self) -> str:
        """The table as text: three digits a number, nothing for NaN."""
        lines = [",".join((*HEAD, *names()))]
        for i, row in enumerate(np.hstack([self.places_C2, self.features_CF])):
            head = self.tasks[i], self.kinds[i], self.points[i], VERDICTS[self.verdicts_C[i]]
            lines.append(",".join((*head, *("" if math.isnan(v) else f"{v:.3g}" for v in row))))
        return "\n".join(lines) + "\n"

    @classmethod
    def from_csv(cls, lines: Sequence[str]) -> Cases:
        """The inverse of `to_csv`, to three digits; features are put into the order of `names()`."""
        head, *rows = csv.reader(lines)
        names_of: list[str] = list(VERDICTS)
        places = [head.index(name) for name in (*HEAD[-2:], *names())]
        numbers = np.array([[float(row[i]) if row[i] else math.nan for i in places] for row in rows])
        return cls(
            tasks=tuple(row[0] for row in rows),
            kinds=tuple(row[1] for row in rows),
            points=tuple(row[2] for row in rows),
            verdicts_C=np.array([names_of.index(row[3]) for row in rows]),
            places_C2=numbers[:, :2],
            features_CF=numbers[:, 2:],
        )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def cases() -> Cases:
    """The shipped table."""
    return Cases.from_csv(_text("cases.csv").splitlines())


@cache
def temperatures() -> dict[str, float]:
    """How much too sure or unsure the model is, by the columns of a log; see `model`."""
    read: dict[str, float] = json.loads(_text("temperatures.json"))["temperatures"]
    return read
