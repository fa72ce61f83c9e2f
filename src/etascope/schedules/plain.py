"""Schedules as plain data: what `to_json` and `from_json` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ScheduleError

if TYPE_CHECKING:
    from .base import Schedule

__all__ = ["DEEPEST", "from_plain", "to_plain"]

DEEPEST = 50  # schedules within schedules


def to_plain(value: Any) -> Any:
    """A schedule as {"kind": ..., field: ...}, a tuple as a list, all else as it is."""
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value.to_plain() if hasattr(value, "to_plain") else value


def from_plain(data: Any, kinds: Mapping[str, type[Schedule]], depth: int = 0) -> Schedule:
    """The schedule of {"kind": ..., field: ...}; absent fields have their defaults."""
    if depth > DEEPEST:
        raise ScheduleError("The data holds schedules within schedules within schedules.", "Write it with fewer.")
    kinds = {kind: cls for kind, cls in kinds.items() if is_dataclass(cls)}  # the others are abstract
    kind = data.get("kind") if isinstance(data, Mapping) else data
    if not isinstance(data, Mapping) or not isinstance(kind, str) or kind not in kinds:
        raise ScheduleError(f"{kind!r} is no kind of schedule.", f"Known kinds: {', '.join(sorted(kinds))}.")
    if kind == "foreign":
        raise ScheduleError(
            f"The schedule is the function {data.get('name')}, which JSON does not hold.",
            "Build it in Python: as_schedule(function).",
        )
    cls = kinds[kind]
    known = {f.name: f.default is MISSING for f in fields(cls)}  # type: ignore[arg-type]  # see above
    given: dict[str, Any] = {key: value for key, value in data.items() if key != "kind"}
    absent = [name for name, needed in known.items() if needed and name not in given]
    if wrong := absent or sorted(map(str, given.keys() - known.keys())):
        raise ScheduleError(
            f"A {kind} {'lacks' if absent else 'has no field'} {', '.join(wrong)}.",
            f"Its fields are {', '.join(known)}.",
        )
    if "parts" in given and not (isinstance(given["parts"], list | tuple) and given["parts"]):
        raise ScheduleError(f"The parts of {kind!r} are {given['parts']!r}.", "Give a list of schedules.")
    for name, value in given.items():
        if name in ("schedule", "before"):
            given[name] = from_plain(value, kinds, depth + 1)
        elif isinstance(value, list | tuple):
            given[name] = tuple(from_plain(item, kinds, depth + 1) if name == "parts" else item for item in value)
    return cls(**given)
