"""What `attach` was given: which schedule drives which key of which group, bound to its run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ..errors import OptionError, ScheduleError
from ..schedules import Bound, Schedule, as_schedule
from ..schedules.units import Clock, as_count

__all__ = ["Absolute", "Driven", "Given", "Keep", "Scheduled", "absolute", "differences", "understand"]

Keep: TypeAlias = Literal["fraction", "value", "schedule"]


@dataclass(frozen=True)
class Absolute:
    """A schedule whose values are written as they are; what `absolute` makes."""

    schedule: Schedule

    def __repr__(self) -> str:
        return f"absolute({self.schedule!r})"


Function: TypeAlias = Callable[[int], float]
One: TypeAlias = Schedule | Function | Absolute | None
Scheduled: TypeAlias = One | Mapping[str, One]


def absolute(schedule: Schedule | Function | None) -> Absolute:
    """The schedule's values themselves, where `attach` would multiply the value that it finds.

    Raises:
        ScheduleError: no schedule and no function.

    >>> from etascope.schedules import linear
    >>> absolute(linear(start=0.85, to=0.95))
    absolute(linear(start=0.85, to=0.95))
    """
    return Absolute(as_schedule(schedule))


@dataclass(frozen=True)
class Driven:
    """What drives one key: a bound schedule, and whether its values are multipliers or the values themselves."""

    bound: Bound
    absolute: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a function the name alone."""
        return {"absolute": self.absolute, "bound": self.bound.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Driven:
        """What `to_json` wrote.

        Raises:
            ScheduleError: it cannot be read, as a function cannot.
            ValueError: it is of another form.
        """
        if set(data) != {"absolute", "bound"} or not isinstance(data["absolute"], bool):
            raise ValueError(f"{dict(data)!r} does not say what drives a key")
        if not isinstance(bound := Schedule.from_json(data["bound"]), Bound):
            raise ValueError(f"{bound!r} is not bound")
        return Driven(bound, data["absolute"])

    def __repr__(self) -> str:
        return f"absolute({self.bound!r})" if self.absolute else repr(self.bound)


@dataclass(frozen=True)
class Given:
    """Which schedule drives which key: those of all groups, and per group what overrides or adds to them."""

    general: Mapping[str, Driven]
    groups: Mapping[int, Mapping[str, Driven]] = field(default_factory=dict)

    def of(self, group: int) -> dict[str, Driven]:
        """What drives the keys of one group."""
        return {**self.general, **self.groups.get(group, {})}

    def mapped(self, change: Callable[[str, Driven], Driven]) -> Given:
        """The same with every part changed."""
        general = {key: change(key, driven) for key, driven in self.general.items()}
        groups = {i: {key: change(key, d) for key, d in keys.items()} for i, keys in self.groups.items()}
        return Given(general, groups)

    def extended(self, at: int, horizon: int, keep: Keep, rewarm: int) -> Given:
        """The same for a longer run, from step `at` on; the lr alone is warmed up again."""
        known: dict[tuple[int, int], Bound] = {}  # what was one bound stays one

        def change(key: str, driven: Driven) -> Driven:
            warm = rewarm if key == "lr" else 0
            if (id(driven.bound), warm) not in known:
                known[id(driven.bound), warm] = driven.bound.extend(at, horizon, keep=keep, rewarm=warm)
            return Driven(known[id(driven.bound), warm], driven.absolute)

        return self.mapped(change)

    @property
    def horizon(self) -> int:
        """The longest horizon of its schedules."""
        every = [*self.general.values(), *(d for keys in self.groups.values() for d in keys.values())]
        return max(driven.bound.horizon for driven in every)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "schedules": {key: driven.to_json() for key, driven in self.general.items()},
            "groups": {str(i): {key: d.to_json() for key, d in keys.items()} for i, keys in self.groups.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any], known: Given) -> Given:
        """What `to_json` wrote; parts that `known` has too are taken from there, its functions among them.

        Raises:
            ScheduleError: a schedule cannot be read.
            ValueError: it is of another form.
        """

        def part(data: Any, twin: Driven | None) -> Driven:
            return twin if twin is not None and twin.to_json() == data else Driven.from_json(data)

        general = {key: part(d, known.general.get(key)) for key, d in data["schedules"].items()}
        groups = {
            int(i): {key: part(d, known.groups.get(int(i), {}).get(key)) for key, d in keys.items()}
            for i, keys in data["groups"].items()
        }
        return Given(general, groups)


def understand(
    schedule: Scheduled,
    groups: Mapping[int, Scheduled],
    horizon: int | None,
    steps_per_epoch: float | None,
    size: int,
) -> Given:
    """The arguments of `attach`, checked and bound.

    Args:
        schedule: as in `attach`, as are groups, horizon and steps_per_epoch.
        groups: overrides per group.
        horizon: of the run.
        steps_per_epoch: of the run.
        size: how many groups the optimizer has.

    Raises:
        OptionError: an empty mapping, a key that is no name, no such group, a horizon that is missing.
        ScheduleError: a schedule cannot be bound.
    """
    general = _keys(schedule, "The schedule")
    if not isinstance(groups, Mapping):
        raise OptionError(f"groups is {groups!r}.", "Give a mapping from group to schedule, such as {1: 10 * s}.")
    for i in groups:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < size:
            raise OptionError(f"groups has {i!r}, and the optimizer has groups 0 to {size - 1}.", "Name one of them.")
    own = {i: _keys(groups[i], f"The schedule of group {i}") for i in groups}
    every = [one for keys in (general, *own.values()) for one in keys.values()]
    if horizon is None:
        known = {(b.horizon, b.steps_per_epoch) for one in every if isinstance(b := _bare(one), Bound)}
        if len(known) == 1:
            horizon, epoch = known.pop()
            steps_per_epoch = epoch if steps_per_epoch is None else steps_per_epoch
    else:
        horizon = as_count(horizon, "horizon", least=1)
    bounds: dict[int, Bound] = {}  # by identity: one schedule of many groups is evaluated once

    def bind(one: One) -> Driven:
        bare = _bare(one)
        if id(bare) not in bounds:
            bounds[id(bare)] = _bound(bare, horizon, steps_per_epoch)
        return Driven(bounds[id(bare)], isinstance(one, Absolute))

    bound = {key: bind(one) for key, one in general.items()}
    return Given(bound, {i: {key: bind(one) for key, one in keys.items()} for i, keys in own.items()})


def _keys(schedule: Scheduled, what: str) -> dict[str, Schedule | Absolute]:
    if not isinstance(schedule, Mapping):
        schedule = {"lr": schedule}
    if not schedule:
        raise OptionError(f"{what} is an empty mapping.", 'Give a schedule, or a mapping such as {"lr": cosine()}.')
    if wrong := [key for key in schedule if not isinstance(key, str) or key == "params"]:
        raise OptionError(f"{what} has {wrong[0]!r} as a key.", 'Keys are those of a param group, such as "lr".')
    return {key: one if isinstance(one, Absolute) else as_schedule(one) for key, one in schedule.items()}


def _bare(one: One) -> Schedule:
    return one.schedule if isinstance(one, Absolute) else as_schedule(one)


def _bound(schedule: Schedule, horizon: int | None, steps_per_epoch: float | None) -> Bound:
    if horizon is not None:
        return schedule.bind(horizon, steps_per_epoch)
    if isinstance(schedule, Bound):
        return schedule
    if schedule.is_relative:
        raise OptionError(
            f"{schedule!r} depends on the horizon, and attach was given none.",
            "Say how many optimizer updates the run has: attach(..., horizon=20_000).",
        )
    return schedule.bind(max(1, math.ceil(schedule.steps(Clock(1)) or 1)))


def differences(saved: Mapping[str, Any], given: Given) -> list[str]:
    """In words, what a saved run was given that is not what is given here."""
    here = given.to_json()
    found = _of_keys("", saved["schedules"], here["schedules"])
    for i in sorted({*saved["groups"], *here["groups"]}, key=int):
        found += _of_keys(f"group {i}'s ", saved["groups"].get(i, {}), here["groups"].get(i, {}))
    return list(dict.fromkeys(found))


def _of_keys(whose: str, saved: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    found = []
    for key in dict.fromkeys([*saved, *here]):
        if key not in saved or key not in here:
            there = "has a schedule here alone" if key in here else "has a schedule in the saved run alone"
            found.append(f"{whose}{key} {there}")
        elif saved[key] != here[key]:
            a, b = saved[key]["bound"], here[key]["bound"]
            named = [name for name in ("horizon", "steps_per_epoch") if a.get(name) != b.get(name)]
            found += [f"{name} is {a.get(name)} there and {b.get(name)} here" for name in named]
            if saved[key]["absolute"] != here[key]["absolute"] or a.get("schedule") != b.get("schedule") or not named:
                found.append(f"{whose}{key} is {_words(saved[key])} there and {_words(here[key])} here")
    return found


def _words(data: Mapping[str, Any]) -> str:
    inner = data["bound"].get("schedule", data["bound"])
    try:
        schema = data["bound"].get("schema")
        text = repr(Schedule.from_json({**inner, "schema": schema}))
    except (ScheduleError, TypeError):
        text = f"the function {inner['name']}" if inner.get("kind") == "foreign" else f"a {inner.get('kind')}"
    return f"absolute({text})" if data["absolute"] else text
