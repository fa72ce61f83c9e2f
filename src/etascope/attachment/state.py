"""The saved state of a handle: plain data in, checked value out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._json import decode_fields
from ..errors import RecordError

__all__ = ["KIND", "SCHEMA", "Extension", "SavedFactor", "SavedGiven", "State", "read_state"]

KIND, SCHEMA = "etascope.attach", 1


@dataclass(frozen=True)
class Extension:
    """One call of `extend`, at a step."""

    at: int
    horizon: int
    keep: str
    rewarm: int


@dataclass(frozen=True)
class SavedGiven:
    """What attach was given: schedules per key, what groups override, and the explicit peaks of the lr if any."""

    schedules: Mapping[str, Mapping[str, Any]]
    groups: Mapping[str, Mapping[str, Mapping[str, Any]]]
    lr: tuple[float, ...] | None


@dataclass(frozen=True)
class SavedFactor:
    """A metric-driven factor and its state."""

    factor: Mapping[str, Any]
    state: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """A handle as it was saved.

    `given` and the `extensions` since are its configuration: they are replayed, so that functions, which no file
    holds, come from the program that loads. `peaks` has for each group the value at attach of each key, and none
    for groups that are left alone.
    """

    kind: str
    schema: int
    step: int
    scale: float
    given: SavedGiven
    extensions: tuple[Extension, ...]
    peaks: tuple[Mapping[str, float], ...]
    factors: tuple[SavedFactor, ...]


def read_state(data: Any) -> State:
    """A checked state; the data are not changed and not kept.

    Raises:
        RecordError: it is not what `Handle.state_dict` wrote, or a newer etascope wrote it.
    """
    if not isinstance(data, Mapping) or data.get("kind") != KIND:
        raise RecordError(f"This is no state of etascope's attach: {_words(data)}.", _move(data))
    schema = data.get("schema")
    if schema != SCHEMA:
        raise RecordError(
            f"The state has schema {schema!r}, and this etascope reads schema {SCHEMA}.",
            "A newer etascope wrote it: pip install -U etascope.",
        )
    try:
        state: State = decode_fields(State, data, "")
        if state.step < 0 or not (math.isfinite(state.scale) and state.scale >= 0):
            raise ValueError(f"step is {state.step} and scale {state.scale}")
        for i, keys in [("", state.given.schedules), *state.given.groups.items()]:
            if i and not (i.isdecimal() and int(i) < len(state.peaks)):
                raise ValueError(f"given.groups has {i!r}")
            for key, driven in keys.items():
                bound = driven.get("bound") if isinstance(driven, Mapping) else None
                if not isinstance(bound, Mapping) or not isinstance(driven.get("absolute"), bool):
                    raise ValueError(f"given does not say what drives {key}")
        if not state.given.schedules:
            raise ValueError("given.schedules is empty")
    except ValueError as error:
        raise RecordError(f"The state is damaged: {error}.", "Load another checkpoint.") from None
    return state


def _words(data: Any) -> str:
    if not isinstance(data, Mapping):
        return f"it is a {type(data).__name__}"
    return f"it has {', '.join(sorted(map(str, data))[:6]) or 'nothing'}"


def _move(data: Any) -> str:
    if isinstance(data, Mapping) and "param_groups" in data:
        return "That is the optimizer's state: give it to optimizer.load_state_dict."
    if isinstance(data, Mapping) and ("last_epoch" in data or "_last_lr" in data):
        return (
            "That is a torch scheduler's state. To go on from it, attach with its peaks as lr= and set "
            f"handle.step = {data.get('last_epoch', '...')}."
        )
    return "Give what handle.state_dict() returned."
