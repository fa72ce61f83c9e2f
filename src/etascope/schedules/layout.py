"""Phases on a run: exact lengths in, one curve out, which can also say where it is and why.

    Laid                 values at any time u ≥ 0, clamped past n; words for them
    ├── Phase            one formula
    ├── InSequence       one after the other
    ├── AtOnce           factors at the same time
    └── Stretched        another time axis

u is the time since the curve began, in steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .units import Clock

if TYPE_CHECKING:
    from .base import Schedule

__all__ = ["AtOnce", "Floats", "InSequence", "Laid", "Neighbour", "Phase", "Span", "Stretched", "in_sequence"]

Floats: TypeAlias = NDArray[np.float64]
Neighbour: TypeAlias = Callable[[], float]  # the value that a hold goes on with; asked only by a hold


def clear(u: float) -> str:
    """A time in steps: 2,500,000 or 4.375."""
    return f"{u:,.0f}" if u == int(u) else f"{u:,.2f}"


@dataclass(frozen=True)
class Span:
    """A phase on the run: `schedule` from step `start` on, for `n` steps (floats after a rescale)."""

    schedule: Schedule
    start: float
    n: float


class Laid(ABC):
    """A curve over n steps."""

    n: int

    @abstractmethod
    def __call__(self, u: Floats) -> Floats:
        """The multipliers at u ≥ 0; clamped past n."""

    @abstractmethod
    def say(self, u: float) -> str:
        """Where u is, and the formula there with its numbers."""

    @abstractmethod
    def spans(self) -> Iterator[Span]:
        """Its phases, in order; those of factors too."""

    def at(self, u: float) -> float:
        """The multiplier at one time."""
        return float(self(np.array([u], dtype=np.float64))[0])


@dataclass(frozen=True)
class Phase(Laid):
    """One formula.

    Args:
        schedule: what it came from.
        n: its steps.
        formula: multipliers at 0 ≤ u ≤ n.
        words: the formula with its numbers at u.
    """

    schedule: Schedule
    n: int
    formula: Callable[[Floats], Floats]
    words: Callable[[float], str]

    def __call__(self, u: Floats) -> Floats:
        return self.formula(np.minimum(u, self.n))

    def say(self, u: float) -> str:
        where = f"{clear(u)} of {self.n:,} steps in" if u <= self.n else f"past its end ({self.n:,} steps)"
        return f"{self.schedule!r}, {where}: {self.words(min(u, self.n))}"

    def spans(self) -> Iterator[Span]:
        yield Span(self.schedule, 0, self.n)


@dataclass(frozen=True)
class InSequence(Laid):
    """`parts` between `edges`, one edge more than parts."""

    n: int
    edges: tuple[int, ...]
    parts: tuple[Laid, ...]

    def __call__(self, u: Floats) -> Floats:
        # Most often all of u lies in one phase (a block of a long array, a single step): no masks then.
        if u.size == 0:
            return np.empty_like(u)
        first, last = self._part(float(u.min())), self._part(float(u.max()))
        if first == last:
            return self.parts[first](u - self.edges[first])
        out = np.empty_like(u)
        for i in range(first, last + 1):
            here = self.edges[i] <= u
            if i < last:
                here &= u < self.edges[i + 1]
            if here.any():
                out[here] = self.parts[i](u[here] - self.edges[i])
        return out

    def _part(self, u: float) -> int:
        """Which part holds u: the last one that has begun."""
        return min(sum(edge <= u for edge in self.edges[1:-1]), len(self.parts) - 1)

    def say(self, u: float) -> str:
        i = self._part(u)
        return f"phase {i + 1} of {len(self.parts)}, {self.parts[i].say(u - self.edges[i])}"

    def spans(self) -> Iterator[Span]:
        for part, start in zip(self.parts, self.edges, strict=False):
            for span in part.spans():
                yield Span(span.schedule, span.start + start, span.n)


@dataclass(frozen=True)
class AtOnce(Laid):
    """`scale` times the product of `parts`."""

    n: int
    scale: float
    parts: tuple[Laid, ...]

    def __call__(self, u: Floats) -> Floats:
        return math.prod((part(u) for part in self.parts), start=np.full_like(u, self.scale))

    def say(self, u: float) -> str:
        number = [f"{self.scale:g}"] if self.scale != 1 else []
        factors = [f"{part.at(u):.6g} [{part.say(u)}]" for part in self.parts]
        return " times ".join(number + factors)

    def spans(self) -> Iterator[Span]:
        for part in self.parts:
            yield from part.spans()


@dataclass(frozen=True)
class Stretched(Laid):
    """`inner`, a curve over `full` steps, read in continuous time over `horizon` steps; clamped past n."""

    n: int
    inner: Laid
    full: int
    horizon: int

    def __call__(self, u: Floats) -> Floats:
        return self.inner(self._time(np.minimum(u, self.n)))

    def _time(self, u: Any) -> Any:
        return u if self.full == self.horizon else u * self.full / self.horizon

    def say(self, u: float) -> str:
        if self.full == self.horizon:
            return self.inner.say(u)
        u = min(u, self.n)
        return (
            f"rescaled from {self.full:,} to {self.horizon:,} steps, so at {clear(self._time(u))}: "
            + self.inner.say(self._time(u))
        )

    def spans(self) -> Iterator[Span]:
        for span in self.inner.spans():
            yield Span(span.schedule, span.start * self.horizon / self.full, span.n * self.horizon / self.full)


def in_sequence(parts: Sequence[Schedule], clock: Clock, n: int, before: Neighbour | None = None) -> Laid:
    """The curve of `parts` one after the other in `n` steps.

    Args:
        parts: the phases; at most one is open, and takes what the others leave.
        clock: what relative lengths are measured by.
        n: steps to fill; phases that are shorter together clamp.
        before: the value arrived at before the first phase, if there was one.
    """
    lengths = [part.steps(clock) for part in parts]
    rest = n - sum((length for length in lengths if length is not None), Fraction(0))
    # Sums are rounded, not lengths: '50%' >> '50%' of 5 steps is 3 + 2, and an int keeps its length.
    ends = accumulate((max(rest, Fraction()) if length is None else length for length in lengths), initial=Fraction())
    edges = [min(math.floor(end + Fraction(1, 2)), n) for end in ends]
    sizes = [b - a for a, b in pairwise(edges)]

    firsts: dict[int, float] = {}

    def first(i: int) -> float:
        if i not in firsts:
            following = None if i + 1 == len(parts) else lambda: first(i + 1)
            firsts[i] = parts[i].lay_out(clock, sizes[i], following).at(0)
        return firsts[i]

    laid: list[Laid] = []
    for i, part in enumerate(parts):
        if i:
            before = lambda laid=laid[-1], size=sizes[i - 1]: laid.at(size)  # noqa: E731
        elif before is None and len(parts) > 1:
            before = lambda: first(1)  # noqa: E731  # a hold that comes first has the value of what follows
        laid.append(part.lay_out(clock, sizes[i], before))
    return laid[0] if len(laid) == 1 else InSequence(n, tuple(edges), tuple(laid))
