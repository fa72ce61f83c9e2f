"""Whole numbers, and the first steps of a schedule: what importers put sequences together with."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import replace
from functools import reduce
from typing import Any

from ..errors import ScheduleError
from ..schedules import Bound, Foreign, Schedule, Shape, Then, Times, constant, hold, linear, warmup
from ..schedules.units import Clock, as_number

__all__ = ["first", "fixed", "joined", "whole"]

_CLOCK = Clock(1)  # imported lengths are in steps, so any clock will do


def whole(value: Any, name: str, least: int = 0) -> int:
    """A whole number of steps; 100.0 is one too.

    Raises:
        ScheduleError: it is not whole, or below `least`.
    """
    if (number := as_number(value, name)) != int(number) or number < least:
        raise ScheduleError(
            f"{name} is {number:g}, and steps are whole numbers, here from {least} on.",
            f"Give {name}={max(round(number), least)}, to the original too.",
        )
    return int(number)


def fixed(schedule: Schedule) -> int:
    """The steps that a schedule in steps takes at least: the sum of its lengths, an open one counting 0."""
    if isinstance(schedule, Then):
        return sum(fixed(part) for part in schedule.parts)
    if isinstance(schedule, Times):
        return max((fixed(part) for part in schedule.parts), default=0)
    return int(schedule.steps(_CLOCK) or 0)


def first(schedule: Schedule, n: int) -> Schedule:
    """The first n ≥ 1 steps of a schedule in steps; its length is n where the schedule is open or longer."""
    if isinstance(schedule, Then):
        parts: list[Schedule] = []
        for part in schedule.parts:
            if left := n - sum(fixed(p) for p in parts):
                parts.append(first(part, left))
        return joined(parts)
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


def joined(phases: Iterable[Schedule]) -> Schedule:
    """One after the other: phase >> phase >> …."""
    return reduce(operator.rshift, phases)


def _with_length(shape: Any, length: int | None) -> Schedule:
    changed: Schedule = replace(shape, length=length)
    return changed
