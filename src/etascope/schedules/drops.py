"""Phases that change at stated times: drops, and values between points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..errors import ScheduleError
from .base import Shape
from .layout import Floats
from .shapes import one_of, some_time
from .units import Clock, Length, Lengths, Numbers

__all__ = ["multistep", "piecewise", "step_decay"]

NUDGE = 1e-9  # in steps: u is rounded where it was rescaled


@dataclass(frozen=True, repr=False)
class step_decay(Shape):
    """A drop at regular times: factor^⌊u / every⌋; one that would fall on the phase's end is left out.

    Use it to repeat the classics of image classification ("divide by 10 every 30 epochs"); also called scheduled drop.

    Args:
        every: time between drops: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        factor: what each drop multiplies by; default 0.1.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `every` is 0.

    Source: torch's StepLR; He et al., https://arxiv.org/abs/1512.03385.

    >>> step_decay("50%").bind(4)([0, 1, 2, 3, 4])
    array([1. , 1. , 0.1, 0.1, 0.1])
    """

    every: Length
    factor: float = 0.1
    length: Length | None = None

    jumps = True

    def __post_init__(self) -> None:
        super().__post_init__()
        some_time(self, "every")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return self.factor ** self._drops(u, n, clock)

    def _drops(self, u: Floats, n: int, clock: Clock) -> Floats:
        every = clock.steps(self.every)
        drops = np.floor(u * every.denominator / every.numerator + NUDGE)
        return np.clip(drops, 0, max(math.ceil(n / every) - 1, 0))

    def words(self, u: float, n: int, clock: Clock) -> str:
        drops = self._drops(np.array([u]), n, clock)[0]
        return f"{self.factor:g}^⌊{u:.10g}/{float(clock.steps(self.every)):g}⌋ = {self.factor:g}^{drops:g}"


@dataclass(frozen=True, repr=False)
class multistep(Shape):
    """A drop at each of the given times: factor^(number of `at` that are ≤ u).

    A time that is given twice drops twice.

    Use it where a paper says at which epochs it dropped.

    Args:
        at: the times, from the beginning of the phase: each steps, "30%" (of the whole horizon) or "2ep".
        factor: what each drop multiplies by; default 0.1.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Source: torch's MultiStepLR.

    >>> multistep([3, "60%"]).bind(10)([0, 2, 3, 5, 6, 10])
    array([1.  , 1.  , 0.1 , 0.1 , 0.01, 0.01])
    """

    at: Lengths
    factor: float = 0.1
    length: Length | None = None

    jumps = True

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return self.factor ** self._drops(u, clock).astype(np.float64)

    def _drops(self, u: Floats, clock: Clock) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
        times = sorted(float(clock.steps(at)) for at in self.at)
        return np.searchsorted(times, u + NUDGE, side="right")

    def words(self, u: float, n: int, clock: Clock) -> str:
        drops = int(self._drops(np.array([u]), clock)[0])
        return f"{drops} of {len(self.at)} drops are past: {self.factor:g}^{drops}"


@dataclass(frozen=True, repr=False)
class piecewise(Shape):
    """Given values between given times: values[i] for at[i − 1] ≤ u < at[i]; or a line, a cosine from one to the next.

    `by="constant"` (default): values[0] until at[0], values[1] from then on, and so on. Otherwise values[0] is met
    at u = 0 and values[i + 1] at u = at[i]; the last one stays.

    Use it for a curve that has no name: a table of values.

    Args:
        at: times from the beginning of the phase, in order: each steps, "30%" (of the whole horizon) or "2ep".
        values: multipliers, one more than `at`.
        by: "constant" (default), "linear", "cosine": how to come from one value to the next.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: the numbers of `at` and `values` do not fit; a time is before the one in front of it.

    Source: Keras' PiecewiseConstantDecay (which changes one step later), optax's piecewise_interpolate_schedule.

    >>> piecewise([2, 4], [1, 0.5, 0.2]).bind(10)([0, 1, 2, 3, 4, 9])
    array([1. , 1. , 0.5, 0.5, 0.2, 0.2])
    >>> piecewise([2, 4], [0, 1, 0.5], by="linear").bind(10)([0, 1, 2, 3, 4, 9])
    array([0.  , 0.5 , 1.  , 0.75, 0.5 , 0.5 ])
    """

    at: Lengths
    values: Numbers
    by: str = "constant"
    length: Length | None = None

    jumps = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.by, ("constant", "linear", "cosine"), "piecewise(by=...)")
        if len(self.values) != len(self.at) + 1:
            raise ScheduleError(
                f"piecewise has {len(self.at)} times and {len(self.values)} values.",
                "Give one value more than times: piecewise([30, 60], [1, 0.1, 0.01]).",
            )
        for unit in ("", "%", "ep"):  # of two units only a horizon knows which comes first
            same = [at for at in self.at if str(at).lstrip("0123456789.") == unit]
            self._in_order([float(Clock(1, 1).steps(at)) for at in same])

    def _in_order(self, times: list[float]) -> list[float]:
        if any(a > b for a, b in pairwise(times)):
            raise ScheduleError(f"The times of {self!r} are not in order.", "Give them from the first to the last.")
        return times

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        times = self._in_order([float(clock.steps(at)) for at in self.at])
        values = np.array(self.values)
        i = np.searchsorted(times, u + NUDGE, side="right")
        if self.by == "constant" or not times:
            return values[i]
        knots, after = np.array([0.0, *times]), np.minimum(i + 1, len(times))
        gap = knots[after] - knots[i]
        p = np.clip(np.where(gap > 0, (u - knots[i]) / np.where(gap > 0, gap, 1), 1), 0, 1)
        if self.by == "cosine":
            p = (1 - np.cos(np.pi * p)) / 2
        out: Floats = values[i] * (1 - p) + values[after] * p
        return out

    def words(self, u: float, n: int, clock: Clock) -> str:
        times = [0.0, *(float(clock.steps(at)) for at in self.at)]
        i = int(np.searchsorted(times[1:], u + NUDGE, side="right"))
        if self.by == "constant" or i == len(self.at):
            return f"value {i + 1} of {len(self.values)}, {self.values[i]:g}"
        p = f"({u:.10g} − {times[i]:g}) / {times[i + 1] - times[i]:g}"
        w = p if self.by == "linear" else f"(1 − cos(π · {p})) / 2"
        return f"{self.values[i]:g} · (1 − w) + {self.values[i + 1]:g} · w with w = {w}"
