"""Arguments as people give them, NumPy's numbers among them: checked, and made plain."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..engines import Setting
from ..errors import OptionError, ScheduleError
from ..schedules import Schedule, as_schedule
from ..task import Task
from .ladder import seconds_of
from .race import Range

__all__ = [
    "POINTS",
    "Budget",
    "budget_of",
    "grid_of",
    "lanes_of",
    "of_group",
    "optional_number",
    "positive",
    "range_of",
    "seeds_of",
    "whole",
]

POINTS = 25  # of a grid, where nothing else is said
NO_LANES = 'Give a list of dicts, each with an lr: [{"lr": 1e-3, "weight_decay": 0.1}, {"lr": 3e-3, "seed": 1}].'
NO_GRID = "Give a number of points, 2 or more, or the learning rates in a list: [1e-3, 1e-2]."


@dataclass(frozen=True)
class Budget:
    """What a race may cost: in complete runs, or in seconds where `runs` is None; `said` as it was given."""

    runs: float | None
    seconds: float | None = None
    said: float | str = 0.0


def budget_of(value: Any) -> Budget:
    """A number of complete runs, given as a number or as text, or a time such as "10min".

    >>> budget_of("0.5").runs, budget_of("10min").seconds
    (0.5, 600.0)
    """
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return Budget(None, seconds_of(value), value)
    runs = positive("budget", value, 'Give a number of complete runs, as 1.0, or a time, as "10min".')
    return Budget(runs, None, runs)


def of_group(task: Any, group: str | None) -> Any:
    """The task, asking for the lr of one of its param groups; as it is where `group` is None."""
    if group is None:
        return task
    if not isinstance(task, Task):
        raise OptionError("a training function has no param groups.", "Leave group= out, or give an etascope.Task.")
    return dataclasses.replace(task, group=group)


def range_of(lr_min: Any, lr_max: Any) -> Range:
    """The user's bounds of the learning rate; None where there is none."""
    low = None if lr_min is None else positive("lr_min", lr_min)
    high = None if lr_max is None else positive("lr_max", lr_max)
    if low is not None and high is not None and low >= high:
        raise OptionError(f"the range is reversed: lr_min={low:g} is not below lr_max={high:g}.", "Swap them.")
    return Range(low, high)


def grid_of(lrs: Any, lr_min: Any, lr_max: Any) -> list[float]:
    """The learning rates of a sweep, ascending: the ones given, or so many log-spaced points of the range."""
    if _is_count(lrs):
        if lrs < 2:
            raise OptionError(f"lrs is {lrs}.", NO_GRID)
        low = 1e-5 if lr_min is None else positive("lr_min", lr_min)
        high = 1e1 if lr_max is None else positive("lr_max", lr_max)
        range_of(low, high)
        return [float(f"{v:.6g}") for v in np.geomspace(low, high, int(lrs))]
    if lr_min is not None or lr_max is not None:
        raise OptionError("lrs lists the learning rates, and lr_min or lr_max is given too.", "Give one or the other.")
    grid = sorted({positive("an lr of lrs", lr) for lr in _several("lrs", lrs, NO_GRID)})
    if not grid:
        raise OptionError("lrs is empty.", NO_GRID)
    return grid


def seeds_of(seeds: Any) -> list[int]:
    """Different seeds, in the order given."""
    next_move = "Give one or more different whole numbers, as (0, 1, 2)."
    found = [whole("a seed of seeds", seed, 0) for seed in _several("seeds", seeds, next_move)]
    if not found or len(set(found)) < len(found):
        raise OptionError(f"seeds is {seeds!r}.", next_move)
    return found


def lanes_of(lanes: Any, seeds: Sequence[int]) -> list[Setting]:
    """The settings that lanes say, ascending; those that name no seed are trained once for each of `seeds`."""
    if isinstance(lanes, Mapping):
        raise OptionError("lanes is a dict.", NO_LANES)
    found: list[Setting] = []
    for i, lane in enumerate(_several("lanes", lanes, NO_LANES)):
        if not isinstance(lane, Mapping) or not all(isinstance(name, str) for name in lane):
            raise OptionError(f"lanes[{i}] is {lane!r}.", NO_LANES)
        if "lr" not in lane:
            raise OptionError(f"lanes[{i}] has no lr: {lane!r}.", NO_LANES)
        lr = positive(f"the lr of lanes[{i}]", lane["lr"])
        own = [whole(f"the seed of lanes[{i}]", lane["seed"], 0)] if "seed" in lane else seeds
        rest = sorted((name, value) for name, value in lane.items() if name not in ("lr", "seed"))
        options = tuple((name, _option(f"lanes[{i}]", name, value)) for name, value in rest)
        found += [Setting(seed, lr, options) for seed in own]
    if not found:
        raise OptionError("lanes is empty.", NO_LANES)
    written: dict[tuple[int, float, str], Setting] = {}
    for setting in found:
        same = setting.seed, setting.lr, repr(setting.written())
        if same in written:
            raise OptionError(
                f"two lanes are written the same: {setting}, seed {setting.seed}.",
                "Take one out; give different functions different names.",
            )
        written[same] = setting
    return sorted(found)


def _option(lane: str, name: str, value: Any) -> Any:
    """A value that can be hashed and written down: a number, a text, a tuple of such, or a schedule."""
    if name == "schedule":
        try:
            return Schedule.parse(value) if isinstance(value, str) else as_schedule(value)
        except ScheduleError as error:
            raise OptionError(f"{lane}: the schedule cannot be used: {error.cause}", error.next_move) from error
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, list | tuple):
        return tuple(_option(lane, name, v) for v in value)
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise OptionError(f"{lane}: {name} is {value!r}.", "Give a finite number, a text, or a tuple of such.")


def positive(what: str, value: Any, next_move: str = "Give a positive, finite number.") -> float:
    """A positive, finite number."""
    number = optional_number(what, value, next_move)
    if number is None or not number > 0:
        raise OptionError(f"{what} is {value!r}.", next_move)
    return number


def optional_number(what: str, value: Any, next_move: str = "Give a finite number.") -> float | None:
    """A finite number, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise OptionError(f"{what} is {value!r}.", next_move)
    return float(value)


def whole(what: str, value: Any, least: int) -> int:
    """A whole number from `least` on."""
    if not _is_count(value) or value < least:
        raise OptionError(f"{what} is {value!r}.", f"Give a whole number, {least} or more.")
    return int(value)


def _is_count(value: Any) -> bool:
    """Whether a value is a whole number; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _several(what: str, values: Any, next_move: str) -> Sequence[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise OptionError(f"{what} is {values!r}.", next_move)
    try:
        return list(values)
    except TypeError as error:  # an array of no dimension
        raise OptionError(f"{what} is {values!r}.", next_move) from error
