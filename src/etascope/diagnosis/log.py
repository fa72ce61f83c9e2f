"""What every reader makes of a log: columns, each with its own steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["EMPTY", "FloatArray", "Probe", "RunLog", "Series"]

FloatArray = NDArray[np.float64]


class Series(NamedTuple):
    """A column of a log: ascending steps, and a value at each; values that are no finite numbers are NaN or inf."""

    steps: FloatArray
    values: FloatArray

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]]) -> Series:
        """The series of (step, value) points, sorted by step; of several at one step the last stands."""
        kept = dict(points)
        steps = np.array(sorted(kept), float)
        return cls(steps, np.array([kept[s] for s in steps], float))

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def finite(self) -> Series:
        """The points whose value is a finite number."""
        good = np.isfinite(self.values)
        return Series(self.steps[good], self.values[good])


EMPTY = Series(np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Probe:
    """What was sampled at one step: of each layer, by name, its `update_ratio`, `effective_lr` and `sign`."""

    step: float
    layers: Mapping[str, Mapping[str, float]]
    sharpness: float | None = None
    bound: float | None = None
    noise_scale: float | None = None


@dataclass(frozen=True)
class RunLog:
    """One run's log.

    Attributes:
        loss: training losses.
        lr: learning rates; empty where the log has none.
        val: validation losses; empty where the log has none.
        grad: the gradient's norms; empty where the log has none.
        probes: what was sampled of each layer, ascending in step.
        optimizer: in words, as "SGD(momentum=0.9)"; empty where it is unknown.
        horizon: steps of the complete run; None where the log does not say.
        columns: what each column was read from, by what it is.
        notes: what could not be read, or was read in a way that the reader should know.
        source: the file or folder, or the kind of record.
    """

    loss: Series
    lr: Series = EMPTY
    val: Series = EMPTY
    grad: Series = EMPTY
    probes: tuple[Probe, ...] = ()
    optimizer: str = ""
    horizon: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""

    @property
    def span(self) -> tuple[float, float]:
        """The first and the last step of the log.

        Not the horizon: a run that is still going is judged as if it ended here, and one that broke off diverged.
        """
        steps = [s.steps for s in (self.loss, self.val) if len(s)]
        return min(float(s[0]) for s in steps), max(float(s[-1]) for s in steps)
