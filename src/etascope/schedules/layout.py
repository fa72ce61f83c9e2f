"""Phases on a run: exact lengths in, one curve out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .units import Clock

if TYPE_CHECKING:
    from .base import Schedule

__all__ = ["Curve", "Floats", "Neighbour", "in_sequence"]

Floats: TypeAlias = NDArray[np.float64]
Curve: TypeAlias = Callable[[Floats], Floats]  # u -> multiplier, at any u ≥ 0; clamps at its own end
Neighbour: TypeAlias = Callable[[], float]  # the value that a hold goes on with; asked only by a hold


def in_sequence(
    parts: Sequence[Schedule], clock: Clock, n: int, before: Neighbour | None = None, *, slack: int = 1
) -> Curve:
    """The curve of `parts` one after the other in `n` steps.

    Args:
        parts: the phases; at most one is open, and takes what the others leave.
        clock: what relative lengths are measured by.
        n: steps to fill; phases that are shorter together clamp.
        before: the value arrived at before the first phase, if there was one.
        slack: by how much the phases may be longer than n: 1 where n was rounded from what they take.

    Raises:
        ScheduleError: the phases are longer than n.
    """
    lengths = [part.steps(clock) for part in parts]
    rest = n - sum((length for length in lengths if length is not None), Fraction(0))
    if rest < -slack:
        raise ScheduleError(
            f"{' >> '.join(map(repr, parts))} takes {float(n - rest):g} steps, and the horizon gives it {n}.",
            f"Shorten a phase, write its length as a part ('10%'), or bind to {math.ceil(n - rest)} steps.",
        )
    # Sums are rounded, not lengths: '50%' >> '50%' of 5 steps is 3 + 2, and an int keeps its length.
    ends = accumulate((max(rest, Fraction()) if length is None else length for length in lengths), initial=Fraction())
    edges = [min(math.floor(end + Fraction(1, 2)), n) for end in ends]
    sizes = [b - a for a, b in pairwise(edges)]

    def first(i: int) -> float:
        following = None if i + 1 == len(parts) else lambda: first(i + 1)
        return _at(parts[i].lay_out(clock, sizes[i], following), 0)

    curves: list[Curve] = []
    for i, part in enumerate(parts):
        if i:
            curve, size = curves[-1], sizes[i - 1]
            before = lambda curve=curve, size=size: _at(curve, size)  # noqa: E731
        elif before is None and len(parts) > 1:
            before = lambda: first(1)  # noqa: E731  # a hold that comes first has the value of what follows
        curves.append(part.lay_out(clock, sizes[i], before))
    if len(curves) == 1:
        return curves[0]

    def curve_of_all(u: Floats) -> Floats:
        out = np.empty_like(u)
        for curve, a, b in zip(curves, edges[:-1], [*edges[1:-1], math.inf], strict=True):
            here = (a <= u) & (u < b)
            if here.any():
                out[here] = curve(u[here] - a)
        return out

    return curve_of_all


def _at(curve: Curve, u: float) -> float:
    return float(curve(np.array([u], dtype=np.float64))[0])
