"""Lengths and the clock that turns them into steps: an int is steps, "5%" of the horizon, "2ep" epochs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, SupportsFloat, TypeAlias

import numpy as np

from ..errors import ScheduleError

__all__ = ["CHECKS", "Clock", "Length", "Lengths", "Numbers", "as_count", "as_epoch", "as_length", "as_number"]

Length: TypeAlias = int | str
Lengths: TypeAlias = tuple[Length, ...]
Numbers: TypeAlias = tuple[float, ...]

MOST = 2**62  # steps are read as int64
_LENGTH = re.compile(r"(\d+\.?\d*|\.\d+)(%|ep)", re.ASCII)


def as_length(value: object, where: str) -> Length:
    """A checked length: an int ≥ 0, or "N%" with N ≤ 100, or "Nep". `where` names the argument in errors."""
    if isinstance(value, float | np.floating):
        part = f"{100 * float(value):g}%" if 0 < value <= 1 else "5%"
        steps = round(float(value)) if math.isfinite(value) and value >= 1 else 100
        raise ScheduleError(
            f"{where} is {float(value)!r}, and a float is a value, never a length.",
            f"Write an int for steps ({steps}), or a string for a part of the horizon ({part!r}).",
        )
    if isinstance(value, str):
        match = _LENGTH.fullmatch(text := value.replace(" ", ""))
        if match is None:
            raise ScheduleError(
                f"{where} is {value!r}, which has no unit that etascope knows.",
                "Write an int for steps (500), '5%' for a part of the horizon, or '2ep' for epochs.",
            )
        if match[2] == "%" and Fraction(match[1]) > 100:
            raise ScheduleError(f"{where} is {value!r}, more than the whole horizon.", "Write at most '100%'.")
        return text
    return as_count(value, where, least=0)


def as_count(value: object, where: str, least: int) -> int:
    """A checked whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ScheduleError(f"{where} is {value!r}.", f"Give a whole number of at least {least}.")
    if value > MOST:
        raise ScheduleError(f"{where} is above 2^62.", "Give a smaller whole number.")
    return int(value)


def as_number(value: object, where: str) -> float:
    """A checked finite float."""
    if isinstance(value, bool | str | complex | np.complexfloating) or not isinstance(value, SupportsFloat):
        raise ScheduleError(f"{where} is {value!r}, which is not a number.", "Give a finite number such as 0.1.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise ScheduleError(f"{where} is {value!r}, not one number.", "Give a finite number such as 0.1.") from None
    if not math.isfinite(number):
        raise ScheduleError(f"{where} is {number}.", "Give a finite number such as 0.1.")
    return number


def _as_flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ScheduleError(f"{where} is {value!r}.", "Give True or False.")
    return value


def _each(check: Callable[[object, str], Any]) -> Callable[[object, str], tuple[Any, ...]]:
    def checked(value: object, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple | np.ndarray):
            raise ScheduleError(f"{where} is {value!r}.", "Give a list.")
        return tuple(check(item, f"{where[:-4]}[{i}]...)") for i, item in enumerate(value))

    return checked


CHECKS: dict[str, Callable[[object, str], Any]] = {
    "Length": as_length,
    "Lengths": _each(as_length),
    "float": as_number,
    "Numbers": _each(as_number),
    "int": lambda value, where: as_count(value, where, least=0),
    "bool": _as_flag,
}  # how a field is checked, by its annotation


def as_epoch(value: object) -> float:
    """Checked steps of an epoch: an int where they are whole."""
    if (steps := as_number(value, "steps_per_epoch")) <= 0:
        raise ScheduleError(f"steps_per_epoch is {value!r}.", "Give the optimizer steps of one epoch, above 0.")
    return int(steps) if steps.is_integer() else steps


@dataclass(frozen=True)
class Clock:
    """What relative lengths are measured by.

    Args:
        horizon: steps of the complete run.
        steps_per_epoch: steps of one pass over the training data, not always whole; needed for "ep" alone.
    """

    horizon: int
    steps_per_epoch: float | None = None

    def steps(self, length: Length) -> Fraction:
        """`length` in steps, exactly (1.5 stays 1.5; only phase boundaries are rounded).

        Raises:
            ScheduleError: "ep" without `steps_per_epoch`.
        """
        if isinstance(length, int):
            return Fraction(length)
        if length.endswith("%"):
            return Fraction(length[:-1]) / 100 * self.horizon
        if self.steps_per_epoch is None:
            raise ScheduleError(
                f"The length {length!r} is in epochs, and nothing says how long an epoch is.",
                f"Write .bind(horizon={self.horizon}, steps_per_epoch=...).",
            )
        return Fraction(length[:-2]) * Fraction(self.steps_per_epoch)
