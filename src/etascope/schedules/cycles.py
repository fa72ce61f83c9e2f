"""Phases that come back: restarts, triangles, one cycle, a wave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .base import Shape
from .drops import NUDGE
from .layout import Floats
from .shapes import above_zero, one_of, some_time
from .units import Clock, Length

__all__ = ["exp_range", "one_cycle", "restarts", "triangular", "wave"]


@dataclass(frozen=True, repr=False)
class restarts(Shape):
    """Cosine annealing with warm restarts: cycle i falls from start · peak_factorⁱ to `to` in period · growthⁱ steps.

    In a cycle with the peak s and the progress q it is s · c + to · (1 − c), where c = (1 + cos πq) / 2. A restart
    that would fall on the phase's end is left out. Where the cycles begin is summed up exactly, not asked of a
    logarithm, so that every restart is at its peak.

    Use it for an answer at several horizons in one run, or for snapshots to average, one at the end of each cycle.

    Args:
        period: length of the first cycle: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        growth: how many times longer each cycle is than the one before, at least 1; default 1. Need not be whole.
        peak_factor: how many times higher each peak is than the one before; default 1.
        start: the multiplier at the first peak; default 1.
        to: the multiplier at which a cycle ends; default 0.
        cycles: instead of `period`: how many whole cycles fill the phase, at least 1.
        length: steps, "5%", "2ep"; None (default) takes the rest.
        above_to: whether peak_factor is for the height above `to`, so that the peaks are to + (start − to) ·
            peak_factorⁱ, as Keras has them; default False: for the peak itself.

    Raises:
        ScheduleError: neither or both of `period` and `cycles`; `growth` is below 1.

    Source: Loshchilov & Hutter, SGDR, https://arxiv.org/abs/1608.03983.

    >>> restarts(1, growth=2, start=0.5).bind(100)(range(9)).round(6)
    array([0.5 , 0.5 , 0.25 , 0.5 , 0.426777, 0.25 , 0.073223, 0.5 , 0.48097 ])
    """

    period: Length | None = None
    growth: float = 1.0
    peak_factor: float = 1.0
    start: float = 1.0
    to: float = 0.0
    cycles: int | None = None
    length: Length | None = None
    above_to: bool = False

    jumps = True

    def __post_init__(self) -> None:
        super().__post_init__()
        some_time(self, "period")
        if (self.period is None) == (self.cycles is None):
            has = "neither" if self.cycles is None else "both"
            raise ScheduleError(
                f"restarts needs a period or a number of cycles, and has {has}.",
                "Write restarts('10ep') or restarts(cycles=4).",
            )
        if self.growth < 1:
            raise ScheduleError(f"restarts(growth=...) is {self.growth:g}.", "Give at least 1: cycles never shrink.")
        if self.cycles == 0:
            raise ScheduleError("restarts(cycles=...) is 0.", "Give at least 1, or use constant().")

    def _cycle(self, u: Floats, n: int, clock: Clock) -> tuple[NDArray[np.int64], Floats]:
        """Which cycle, and the progress in it."""
        first = self._first(n, clock)
        if self.growth == 1:
            last = max(int(np.ceil(n / first - NUDGE)) - 1, 0) if n else 0
            i = np.clip(np.floor(u / first + NUDGE), 0, last)
            return i.astype(np.int64), np.clip((u - i * first) / first, 0, 1)
        begins, size = [0.0], first
        while begins[-1] + size < n - NUDGE:
            begins.append(begins[-1] + size)
            size *= self.growth
        i = np.clip(np.searchsorted(begins, u + NUDGE, side="right") - 1, 0, None)
        return i, np.clip((u - np.array(begins)[i]) / (first * self.growth**i), 0, 1)

    def _first(self, n: int, clock: Clock) -> float:
        if self.period is not None:
            return float(clock.steps(self.period))
        assert self.cycles is not None
        parts = self.cycles if self.growth == 1 else (self.growth**self.cycles - 1) / (self.growth - 1)
        return max(n, 1) / parts

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if n == 0:
            return np.full_like(u, self.to)
        i, q = self._cycle(u, n, clock)
        c = (1 + np.cos(np.pi * q)) / 2
        return self._peak(i) * c + self.to * (1 - c)

    def _peak(self, i: NDArray[np.int64]) -> Floats | float:
        """The height from which cycle i falls."""
        if self.peak_factor == 1:
            return self.start
        floor = self.to if self.above_to else 0.0
        peaks: Floats = floor + (self.start - floor) * self.peak_factor ** i.astype(np.float64)
        return peaks

    def words(self, u: float, n: int, clock: Clock) -> str:
        i, q = self._cycle(np.array([u]), n, clock)
        peak = float(np.broadcast_to(self._peak(i), 1)[0])
        return f"cycle {i[0] + 1}, {peak:.6g} · c + {self.to:g} · (1 − c) with c = (1 + cos(π · {q[0]:.6g})) / 2"


class _Triangle(Shape):
    """What triangular and exp_range share: the height h(u) of a triangle wave, 0 … 1."""

    period: Length
    rise: float

    def __post_init__(self) -> None:
        super().__post_init__()
        some_time(self, "period")
        if not 0 <= self.rise <= 1:
            raise ScheduleError(
                f"{self.kind}(rise=...) is {self.rise:g}.", "Give the part of a cycle that rises, 0 to 1."
            )

    def _height(self, u: Floats, clock: Clock) -> tuple[NDArray[np.int64], Floats]:
        """Which cycle, and the height of the triangle there."""
        period = float(clock.steps(self.period))
        i = np.floor(u / period + NUDGE)
        q = np.clip((u - i * period) / period, 0, 1)
        with np.errstate(over="ignore"):  # a rise of almost nothing
            return i.astype(np.int64), self._triangle(q)

    def _triangle(self, q: Floats) -> Floats:
        up = q / self.rise if self.rise else np.full_like(q, np.inf)
        down = (1 - q) / (1 - self.rise) if self.rise < 1 else np.full_like(q, np.inf)
        return np.minimum(np.minimum(up, down), 1)


@dataclass(frozen=True, repr=False)
class triangular(_Triangle):
    """Cyclical: up from `low` to the peak and down again: low + (1 − low) · peak_factorⁱ · h(u) in cycle i.

    h is a triangle wave between 0 and 1. peak_factor=0.5 is the policy called triangular2: each cycle half as high
    above `low`.

    Use it where no single lr is trusted: every cycle passes through the whole range.

    Args:
        period: one cycle, up and down: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        low: the multiplier in the valleys; default 0.1.
        peak_factor: how many times higher above `low` each peak is than the one before; default 1.
        rise: the part of a cycle that rises, 0 to 1; default 0.5.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `period` is 0, or `rise` is outside 0 … 1.

    Source: Smith, https://arxiv.org/abs/1506.01186; torch's CyclicLR.

    >>> triangular(4, low=0.2).bind(100)([0, 1, 2, 3, 4, 6])
    array([0.2, 0.6, 1. , 0.6, 0.2, 1. ])
    """

    period: Length
    low: float = 0.1
    peak_factor: float = 1.0
    rise: float = 0.5
    length: Length | None = None

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        i, height = self._height(u, clock)
        return self.low + (1 - self.low) * height * (1 if self.peak_factor == 1 else self.peak_factor**i)

    def words(self, u: float, n: int, clock: Clock) -> str:
        i, height = self._height(np.array([u]), clock)
        factor = "" if self.peak_factor == 1 else f" · {self.peak_factor:g}^{i[0]}"
        return f"cycle {i[0] + 1}, {self.low:g} + {1 - self.low:g}{factor} · {height[0]:.6g}"


@dataclass(frozen=True, repr=False)
class exp_range(_Triangle):
    """Cyclical with peaks that fall at every step: low + (1 − low) · factorᵘ · h(u), h a triangle wave 0 … 1.

    Use it like triangular, where the range should close slowly.

    Args:
        period: one cycle, up and down: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        factor: what every step multiplies the height by, above 0; default 0.9999. u counts from the phase's beginning.
        low: the multiplier in the valleys; default 0.1.
        rise: the part of a cycle that rises, 0 to 1; default 0.5.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `period` is 0, `factor` is not above 0, or `rise` is outside 0 … 1.

    Source: Smith, https://arxiv.org/abs/1506.01186; torch's CyclicLR(mode="exp_range").

    >>> exp_range(8, factor=0.9).bind(100)([0, 1, 2, 3, 4, 8]).round(5)
    array([0.1 , 0.3025 , 0.4645 , 0.59208, 0.69049, 0.1 ])
    """

    period: Length
    factor: float = 0.9999
    low: float = 0.1
    rise: float = 0.5
    length: Length | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "factor")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return self.low + (1 - self.low) * self._height(u, clock)[1] * self.factor**u

    def words(self, u: float, n: int, clock: Clock) -> str:
        i, height = self._height(np.array([u]), clock)
        return f"cycle {i[0] + 1}, {self.low:g} + {1 - self.low:g} · {self.factor:g}^{u:.10g} · {height[0]:.6g}"


@dataclass(frozen=True, repr=False)
class one_cycle(Shape):
    """Up from `start` to the peak, then down to `to`, far below: s · (1 − w) + e · w between s and e.

    w = (1 − cos πq) / 2 by cosine, q by line, with q the progress between the two.

    Use it for short runs at a high lr (super-convergence); its warmup is inside it.

    Args:
        peak_at: when the peak is reached: steps, "30%" (default; of the whole horizon), "2ep".
        start: the multiplier at u = 0; default 1/25.
        to: the multiplier at u = n; default 4e-6.
        by: "cosine" (default) or "linear".
        three_phase: whether it falls back to `start` first, as fast as it rose, and then to `to`; default False.
        at_last: whether `to` is reached at the last step of the phase, and the peak one step before `peak_at`, as
            torch does; default False: `to` is reached one step after the last, as in every other shape.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: the peak is beyond the phase's end.

    Source: Smith & Topin, https://arxiv.org/abs/1708.07120; torch's OneCycleLR, fastai's fit_one_cycle.

    >>> one_cycle().bind(10)([0, 3, 10]).round(6)
    array([4.e-02, 1.e+00, 4.e-06])
    >>> one_cycle(at_last=True).bind(10)([0, 1, 2, 3, 9]).round(6)
    array([4.00000e-02, 5.20000e-01, 1.00000e+00, 9.50485e-01, 4.00000e-06])
    """

    peak_at: Length = "30%"
    start: float = 1 / 25
    to: float = 4e-6
    by: str = "cosine"
    three_phase: bool = False
    at_last: bool = False
    length: Length | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.by, ("cosine", "linear"), "one_cycle(by=...)")

    def _knots(self, n: int, clock: Clock) -> tuple[list[float], list[float]]:
        """When which multiplier is met, from u = 0 on."""
        peak = float(clock.steps(self.peak_at))
        legs = 2 if self.three_phase else 1
        if legs * peak > n:
            raise ScheduleError(
                f"The peak of {self!r} is at step {peak:g}{', and its way down as long,' if legs == 2 else ''} "
                f"of a phase of {n} steps.",
                f"Give peak_at as a part of the horizon, at most '{100 // legs}%', or fewer steps.",
            )
        early = 1 if self.at_last else 0
        times, values = [0.0, peak - early], [self.start, 1.0]
        if self.three_phase:
            times, values = [*times, 2 * (peak - early)], [*values, self.start]
        return [*times, n - early], [*values, self.to]

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if n == 0:
            return np.full_like(u, self.to)
        i, q, values = self._between(u, n, clock)
        w = q if self.by == "linear" else (1 - np.cos(np.pi * q)) / 2
        return values[i] * (1 - w) + values[i + 1] * w

    def _between(self, u: Floats, n: int, clock: Clock) -> tuple[NDArray[np.intp], Floats, Floats]:
        knots, values = map(np.array, self._knots(n, clock))
        i = np.clip(np.searchsorted(knots[1:-1], u, side="left"), 0, len(knots) - 2)
        gap = knots[i + 1] - knots[i]
        return i, np.clip(np.where(gap != 0, (u - knots[i]) / np.where(gap != 0, gap, 1), 1), 0, 1), values

    def words(self, u: float, n: int, clock: Clock) -> str:
        if n == 0:
            return f"arrived at {self.to:g}"
        i, q, values = self._between(np.array([u]), n, clock)
        s, e = values[i[0]], values[i[0] + 1]
        w = f"{q[0]:.6g}" if self.by == "linear" else f"(1 − cos(π · {q[0]:.6g})) / 2"
        return f"{'up' if e > s else 'down'}, {s:g} · (1 − w) + {e:g} · w with w = {w}"


@dataclass(frozen=True, repr=False)
class wave(Shape):
    """A cosine that does not end: start · c + to · (1 − c), where c = (1 + cos 2π(phase + turns · u / every)) / 2.

    With turns = 0.5 it falls to `to` in `every` steps and rises again after them: what torch's CosineAnnealingLR
    does past T_max, and Hugging Face's cosine past the end of training.

    Use it to reproduce those; `lint` warns of the rise.

    Args:
        every: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        start: the multiplier at the crest, which is at u = 0 unless there is a `phase`; default 1.
        to: the multiplier half a turn later; default 0.
        turns: waves per `every`; default 0.5.
        phase: the part of a wave that is over at u = 0; default 0. A cosine over n steps that is entered after its
            first m is wave(n, phase=m / (2 · n), length=n − m).
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `every` is 0.

    Source: torch's CosineAnnealingLR.

    >>> wave(5, start=0.5).bind(100)([0, 1, 5, 10]).round(6)
    array([0.5 , 0.452254, 0. , 0.5 ])
    """

    every: Length
    start: float = 1.0
    to: float = 0.0
    turns: float = 0.5
    length: Length | None = None
    phase: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        some_time(self, "every")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        angle = np.pi * (2 * self.turns) * (u / float(clock.steps(self.every))) + np.pi * (2 * self.phase)
        c = (1 + np.cos(angle)) / 2
        return self.start * c + self.to * (1 - c)

    def words(self, u: float, n: int, clock: Clock) -> str:
        angle = f"π · {2 * self.turns:g} · {u:.10g}/{float(clock.steps(self.every)):g}"
        angle += f" + π · {2 * self.phase:g}" if self.phase else ""
        return f"{self.start:g} · c + {self.to:g} · (1 − c) with c = (1 + cos({angle})) / 2"
