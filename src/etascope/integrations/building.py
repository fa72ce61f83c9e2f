"""What importers build schedules with: checked numbers, phases that may be empty, the first steps of a schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..errors import ScheduleError
from ..schedules import (
    Bound,
    Foreign,
    Schedule,
    Shape,
    Then,
    Times,
    constant,
    cosine,
    exponential,
    hold,
    linear,
    polynomial,
    step_decay,
    warmup,
    wave,
)
from ..schedules.units import Clock, as_number

__all__ = ["chain", "fall", "first", "fixed", "flat", "half_cosine", "in_order", "peak", "power_law", "rise", "whole"]

_CLOCK = Clock(1)  # imported lengths are in steps, so any clock will do


def whole(value: object, where: str, least: int | None = None) -> int:
    """A whole number of steps, 5.0 too.

    Raises:
        ScheduleError: it is not whole, and the original then changes between two steps; or it is below `least`.
    """
    number = as_number(value, where)
    if number != int(number):
        raise ScheduleError(
            f"{where} is {number:g}, and steps are whole numbers: phases would end between two.",
            f"Round it, in the original too: {where}={round(number)}.",
        )
    if least is not None and number < least:
        raise ScheduleError(
            f"{where} is {number:g}, and steps are whole numbers, here from {least} on.",
            f"Give {where}={least}, to the original too.",
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


def fixed(schedule: Schedule) -> int:
    """The steps that a schedule in steps takes at least: the sum of its lengths, an open one counting 0."""
    return math.ceil(schedule.least(_CLOCK))


def first(schedule: Schedule, n: int) -> Schedule:
    """The first n ≥ 1 steps of a schedule in steps; its length is n where the schedule is open or longer."""
    if isinstance(schedule, Then):
        parts: list[Schedule] = []
        for part in schedule.parts:
            if left := n - sum(fixed(p) for p in parts):
                parts.append(first(part, left))
        return chain(*parts)
    if isinstance(schedule, Times):
        return Times(schedule.scale, tuple(first(part, n) for part in schedule.parts))
    if isinstance(schedule, Foreign):
        return schedule.bind(n)
    if isinstance(schedule, Shape) and schedule.is_open:
        return _with_length(schedule, n)
    if fixed(schedule) <= n:
        return schedule
    if isinstance(schedule, linear | warmup):
        return linear(n, start=schedule(0), to=schedule(n))
    if isinstance(schedule, constant | hold):
        return _with_length(schedule, n)
    # Nothing cuts the end off a phase whose formula knows its length, but a run may be ended at its last step.
    if isinstance(schedule, Shape):
        schedule = _with_length(schedule, None).bind(fixed(schedule))
    assert isinstance(schedule, Bound)
    return schedule.extend(at=n - 1, horizon=n)


def _with_length(shape: Any, length: int | None) -> Schedule:
    changed: Schedule = replace(shape, length=length)
    return changed
