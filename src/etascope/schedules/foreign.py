"""Somebody's own function as a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np

from ..errors import ScheduleError
from .base import Schedule
from .layout import Floats, Laid, Neighbour, Phase
from .shapes import constant
from .units import Clock, as_number

__all__ = ["Foreign", "as_schedule"]


@dataclass(frozen=True, repr=False)
class Foreign(Schedule):
    """A function from a step (an int, at most n − 1) to a multiplier; open length; read at ⌊u⌋.

    Its JSON is its name alone, and cannot be read back. The name is the same in every process: that of the function,
    of a partial with its arguments, of an object's class with its fields where it is a dataclass.
    """

    fn: Callable[[int], float]

    is_open = True
    is_relative = True

    def steps(self, clock: Clock) -> None:
        return None

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        def curve(u: Floats) -> Floats:
            at = np.minimum(np.floor(u), max(n - 1, 0)).astype(np.int64).ravel().tolist()
            return np.array([self._value(t) for t in at], dtype=np.float64).reshape(u.shape)

        return Phase(self, n, curve, lambda u: f"the function's value at {math.floor(min(u, max(n - 1, 0)))}")

    def _value(self, t: int) -> float:
        try:
            value = self.fn(t)
        except Exception as error:
            raise ScheduleError(
                f"{self!r} raised {type(error).__name__} at step {t}: {error}.",
                "Mend the function: it is asked for any step from 0 to the horizon - 1.",
            ) from error
        return as_number(value, f"{self!r} at step {t}")

    def to_plain(self) -> dict[str, Any]:
        return {"kind": self.kind, "name": self._name}

    @property
    def _name(self) -> str:
        return _name(self.fn)

    def __repr__(self) -> str:
        return f"as_schedule({self._name})"


def _name(value: Any) -> str:
    """What to call a function or what is in it; never with an address, which another process does not have."""
    if (name := getattr(value, "__qualname__", None)) is not None:
        return str(name)
    if isinstance(value, partial):
        named = [f"{key}={_name(v)}" for key, v in value.keywords.items()]
        return f"partial({', '.join([_name(value.func), *map(_name, value.args), *named])})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_name(key)}: {_name(v)}' for key, v in value.items())}}}"
    if isinstance(value, list | tuple | set | frozenset):
        items = list(map(_name, value))
        return f"{type(value).__name__}({', '.join(items if isinstance(value, list | tuple) else sorted(items))})"
    if isinstance(value, str | bytes | bool | int | float | complex | Schedule | np.generic | None):
        return repr(value)
    kind = type(value).__qualname__
    if is_dataclass(value):
        return f"{kind}({', '.join(f'{f.name}={_name(getattr(value, f.name))}' for f in fields(value) if f.repr)})"
    return kind


def as_schedule(obj: Schedule | Callable[[int], float] | None) -> Schedule:
    """What a user gave, as a schedule: None is `constant()`, a schedule itself, a function a `Foreign`.

    Raises:
        ScheduleError: none of these.

    >>> as_schedule(None), as_schedule(lambda t: 0.5**t).bind(10)(2)
    (constant(), 0.25)
    """
    if obj is None:
        return constant()
    if isinstance(obj, Schedule):
        return obj
    if isinstance(obj, type):
        raise ScheduleError(f"{obj.__name__} is a class, not a schedule.", f"Call it: {obj.__name__}(...).")
    if not callable(obj):
        raise ScheduleError(
            f"{obj!r} is not a schedule.",
            "Give a schedule such as warmup('5%') >> cosine(), a function from step to multiplier, or None.",
        )
    return Foreign(obj)
