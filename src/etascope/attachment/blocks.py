"""Multipliers ahead of time: what makes an update cost a look into a list."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..schedules import Bound, Foreign

__all__ = ["BLOCK", "MASK", "Blocks"]

# Blocks begin at multiples of this power of two, so that a resumed run reads step t from the very same array as an
# uninterrupted one.
BLOCK = 1024
MASK = BLOCK - 1
_NUMBERS = frozenset({int, np.float64, np.float32, np.int64, np.int32})


class Blocks:
    """The multipliers of bound schedules in one block of steps; step t is at `t & MASK` of each list.

    `asked` has those with a user's function inside: they are not computed ahead, but asked for each step as it comes.
    """

    def __init__(self) -> None:
        self.start = -1
        self.asked: list[tuple[Callable[[int], float], list[float]]] = []
        self._lists: dict[int, tuple[Bound, list[float]]] = {}

    def of(self, bound: Bound) -> list[float]:
        """The list of this schedule, the same object at all times."""
        if id(bound) not in self._lists:
            values = [math.nan] * BLOCK
            self._lists[id(bound)] = bound, values
            if _has_function(bound.to_json()):
                self.asked.append((_ask(bound), values))
            else:
                self.start = -1  # to be filled
        return self._lists[id(bound)][1]

    def fill(self, step: int) -> None:
        """Compute the block of this step, if it is not the one that is there."""
        if (start := step & ~MASK) == self.start:
            return
        self.start = start
        steps = np.arange(start, start + BLOCK)
        asked = {id(values) for _, values in self.asked}
        for bound, values in self._lists.values():
            if id(values) not in asked:
                values[:] = bound(steps).tolist()


def _has_function(data: Any) -> bool:
    if isinstance(data, Mapping):
        return data.get("kind") == Foreign.kind or any(map(_has_function, data.values()))
    return isinstance(data, list | tuple) and any(map(_has_function, data))


def _ask(bound: Bound) -> Callable[[int], float]:
    """One step's multiplier; a function that stands alone is called without the way through arrays."""
    if not isinstance(bound.schedule, Foreign) or bound.full != bound.horizon:
        return bound
    fn, last = bound.schedule.fn, bound.horizon - 1

    def ask(step: int) -> float:
        try:
            value = fn(step if step < last else last)
        except Exception:
            return bound(step)  # which says what is wrong
        if type(value) is not float:
            if type(value) not in _NUMBERS:
                return bound(step)
            value = float(value)
        return value if -math.inf < value < math.inf else bound(step)

    return ask
