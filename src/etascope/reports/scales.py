"""Scales: a value to a place on the page, and the ticks worth labelling."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Scale", "loss_scale", "lr_scale"]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map from `lo..hi` to the pixels `start..end`.

    >>> Scale(0.0, 10.0, 100.0, 200.0)(2.5)
    125.0
    >>> Scale(1e-3, 1e-1, 0.0, 100.0, log=True).ticks()
    [0.001, 0.01, 0.1]
    """

    lo: float
    hi: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; far outside values stop one whole length beyond the ends."""
        length = self.end - self.start
        if self.log:
            part = math.log(value / self.lo) / math.log(self.hi / self.lo) if value > 0 else -1.0
        else:
            part = (value - self.lo) / (self.hi - self.lo)
        return self.start + length * min(2.0, max(-1.0, part))

    def holds(self, value: float) -> bool:
        """Whether the value lies within the ends."""
        slack = 1e-9 * (self.hi - self.lo)
        return self.lo - slack <= value <= self.hi + slack

    def ticks(self, count: int = 5, gap: float = 14) -> list[float]:
        """Round values within the ends: decades (with 2 and 5 where there are few), or multiples of 1, 2, 5.

        Args:
            count: about how many on a linear scale.
            gap: pixels between two ticks, at the least.
        """
        kept: list[float] = []
        for value in self._candidates(count):
            if not kept or abs(self(value) - self(kept[-1])) >= gap:
                kept.append(value)
        return kept

    def _candidates(self, count: int) -> list[float]:
        if not self.log:
            return self._round_steps(count)
        first, last = math.floor(math.log10(self.lo)), math.ceil(math.log10(self.hi))
        decades = [float(f"1e{e}") for e in range(first, last + 1) if self.holds(float(f"1e{e}"))]
        if len(decades) > count + 3:
            stride = math.ceil(len(decades) / (count + 1))
            decades = [d for d in decades if round(math.log10(d)) % stride == 0]
        if len(decades) > 2:
            return decades
        fine = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
        fine = [v for v in fine if self.holds(v)]
        return fine if len(fine) > 1 else self._round_steps(3)

    def _round_steps(self, count: int) -> list[float]:
        raw = (self.hi - self.lo) / max(count, 1)
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def lr_scale(lrs: Iterable[float], start: float, end: float) -> Scale:
    """A log scale with a little air at both ends; a single lr gets a decade around it."""
    values = [v for v in lrs if math.isfinite(v) and v > 0] or [1e-3]
    lo, hi = min(values), max(values)
    if hi / lo < 4:
        lo, hi = lo / 3, hi * 3
    air = (hi / lo) ** 0.035
    return Scale(lo / air, hi * air, start, end, log=True)


def loss_scale(values: Iterable[float], start: float, end: float, cap: float | None = None, steep: float = 30) -> Scale:
    """A scale for losses, logarithmic where they span more than a factor of `steep`.

    Args:
        values: what should be seen; what is not finite is left out.
        start: pixel of the low end.
        end: pixel of the high end.
        cap: a value above which nothing needs to be seen (the loss at init), where it is known; without it
            outliers far above the bulk are left out.
        steep: the factor from which the scale is logarithmic.
    """
    known = sorted(v for v in values if math.isfinite(v))
    if cap is not None:
        known = [min(v, cap) for v in known] or [cap]
    elif len(known) > 4:
        low, bulk = known[0], known[(len(known) * 3) // 4]
        known = [v for v in known if v <= low + 4 * (bulk - low) + 1e-12 * abs(low)]
    known = known or [0.0, 1.0]
    lo, hi = known[0], known[-1]
    if hi - lo <= 1e-9 * max(abs(lo), abs(hi)):
        pad = abs(lo) * 0.1 or 0.5
        return Scale(lo - pad, hi + pad, start, end)
    if lo > 0 and hi / lo > steep:
        air = (hi / lo) ** 0.06
        return Scale(lo / air, hi * air, start, end, log=True)
    pad = (hi - lo) * 0.06
    return Scale(lo - pad, hi + pad, start, end)
