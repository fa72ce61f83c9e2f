"""What importers build schedules with: checked numbers, and phases that may be empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ..errors import ScheduleError
from ..schedules import Schedule, constant, cosine, exponential, linear, polynomial, step_decay, warmup, wave
from ..schedules.units import as_number

__all__ = ["chain", "fall", "flat", "half_cosine", "in_order", "peak", "power_law", "rise", "whole"]


def whole(value: object, where: str) -> int:
    """A whole number of steps, 5.0 too.

    Raises:
        ScheduleError: it is not whole, and the original then changes between two steps.
    """
    number = as_number(value, where)
    if number != int(number):
        raise ScheduleError(
            f"{where} is {number:g}, not a whole number of steps, and its phases end between two steps.",
            f"Round it: {where}={round(number)}.",
        )
    return int(number)


def peak(*values: float) -> float:
    """The size of the first value that is not 0; 1 if all are."""
    return next((abs(value) for value in values if value), 1.0)


def chain(*phases: Schedule | None) -> Schedule:
    """The phases that are there, one after the other."""
    first, *others = [phase for phase in phases if phase is not None]
    for phase in others:
        first = first >> phase
    return first


def flat(steps: int, value: float) -> Schedule | None:
    """A value for some steps; None if for none."""
    return constant(steps, value=value) if steps else None


def rise(steps: int, start: float, to: float) -> Schedule | None:
    """A line for some steps, called a warmup where it leads to the peak; None if for none."""
    if not steps:
        return None
    return warmup(steps, start=start) if to == 1 else linear(steps, start=start, to=to)


def half_cosine(steps: float, start: float, to: float, power: float = 1.0) -> Schedule:
    """A cosine that arrives after so many steps, whole or not, and stays."""
    if power != 1 or steps == int(steps):
        return cosine(whole(steps, "decay_steps"), start=start, to=to, power=power) >> constant(value=to)
    return wave(1, start=start, to=to, turns=0.5 / steps, length=math.ceil(steps)) >> constant(value=to)


def power_law(steps: int, start: float, to: float, power: float) -> Schedule:
    """A polynomial that arrives after so many steps."""
    return linear(steps, start=start, to=to) if power == 1 else polynomial(steps, start=start, to=to, power=power)


def fall(start: float, rate: float, every: float, staircase: bool, length: int | None = None) -> Schedule:
    """start · rate^(u / every), or with ⌊u / every⌋: rate above 0, or 0 and below for a staircase."""
    if staircase:
        return start * step_decay(whole(every, "the time between two drops"), factor=rate, length=length)
    if every == int(every):
        return start * exponential(length, factor=rate, every=int(every))
    return start * exponential(length, factor=rate ** (1 / every))


def in_order(times: Sequence[float], where: str) -> None:
    """Raise unless the times are from the first to the last."""
    if any(a > b for a, b in pairwise(times)):
        raise ScheduleError(f"{where} are {list(times)}, not in order.", "Give them from the first to the last.")
