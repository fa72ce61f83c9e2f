"""The algebra: what a schedule is, `>>` (then), `*` (times), `bind`, `rescale`, JSON.

    Schedule             a frozen value
    ├── Shape            one phase: a few fields and a formula (shapes.py)
    ├── Foreign          somebody's own function of the step (foreign.py)
    ├── Then             phases one after the other
    ├── Times            factors at the same time
    └── Bound            a schedule laid out on a horizon

Time is continuous inside: u is the time since a phase began and n its length, both in steps, 0 ≤ u ≤ n.
A phase *arrives* at its value for u → n. Past the end that value stays, and `hold` goes on with it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .layout import Curve, Floats, Neighbour, in_sequence
from .plain import from_plain, to_plain
from .units import Clock, as_count, as_epoch, as_length, as_number

__all__ = ["Bound", "Schedule", "Shape", "Then", "Times"]

Ints: TypeAlias = NDArray[np.integer[Any]] | Sequence[int]

SCHEMA = 1


class Schedule(ABC):
    """A multiplier of the peak lr as a function of the step: a frozen, hashable, picklable value.

    `a >> b` runs a, then b; `a * b` and `0.5 * a` multiply at every step. Both are associative.
    Equality is of what was written: `0.5 * constant() != constant(value=0.5)`.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Schedule]]] = {}
    __array_ufunc__ = None  # so that np.float64(0.5) * schedule asks the schedule, not NumPy

    def __init_subclass__(cls) -> None:
        """Enter the class under its name, for `from_json`."""
        cls.kind = cls.__name__.lower()
        Schedule._kinds[cls.kind] = cls

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it has no length of its own and takes the rest of the horizon."""

    @property
    @abstractmethod
    def is_relative(self) -> bool:
        """Whether its values depend on a horizon, or on the length of an epoch, that it does not know."""

    @abstractmethod
    def steps(self, clock: Clock) -> Fraction | None:
        """Its exact length; None if open."""

    @abstractmethod
    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        """Its curve over n steps, clamped past them; `before` is what a `hold` goes on with."""

    @overload
    def __call__(self, step: int | np.integer[Any]) -> float: ...
    @overload
    def __call__(self, step: Ints) -> Floats: ...
    def __call__(self, step: int | np.integer[Any] | Ints) -> float | Floats:
        """The multiplier at `step`: int to float, array to float64 array; clamped past the end.

        Raises:
            ScheduleError: the schedule is relative and not bound; a step is below 0 or not whole.
        """
        t = np.asarray(step)
        if t.size and (t.dtype.kind not in "iu" or t.min() < 0):
            raise ScheduleError(f"{step!r} is no step.", "Steps are whole numbers, from 0 on.")
        values = self._run().curve(np.atleast_1d(t.astype(np.float64)))
        return values if t.ndim else float(values[0])

    def _run(self) -> Bound:
        """What answers a call: the schedule bound to its own length."""
        if self.is_relative:
            raise ScheduleError(
                f"{self!r} depends on the horizon, so it has no value at a step yet.",
                f"Bind it first: ({self!r}).bind(horizon=2000{self._epochs}).",
            )
        return self.bind(max(1, math.ceil(self.steps(Clock(1)) or 1)))

    @property
    def _epochs(self) -> str:
        """The other argument of `bind`, for errors, where a length is in epochs."""
        return ", steps_per_epoch=500" if "ep'" in repr(self) else ""

    def __rshift__(self, other: Schedule) -> Schedule:
        """This schedule, then `other`."""
        return Then((self, other)) if isinstance(other, Schedule) else NotImplemented

    def __mul__(self, other: Schedule | float) -> Schedule:
        """This schedule times another, or times a number."""
        if isinstance(other, Schedule):
            return Times(1.0, (self, other))
        if not isinstance(other, int | float | np.number):
            return NotImplemented
        product = Times(as_number(other, "the factor"), (self,))
        return product.parts[0] if product.scale == 1 and len(product.parts) == 1 else product

    __rmul__ = __mul__

    def bind(self, horizon: int, steps_per_epoch: float | None = None) -> Bound:
        """Lay the phases out on a run, which makes the schedule callable.

        Where phases meet, the exact sum of lengths is rounded to whole steps (half up). A phase rounded to
        nothing takes no step, and still arrives at its value. Phases shorter than the horizon clamp.

        Args:
            horizon: steps of the complete run, at least 1.
            steps_per_epoch: steps of one epoch, whole or not; needed only where a length is in "ep".

        Raises:
            ScheduleError: the phases are longer than the horizon, or "ep" without `steps_per_epoch`.

        >>> from etascope.schedules import linear, warmup
        >>> (warmup("5%") >> linear()).bind(horizon=30)([0, 1, 2, 16])
        array([0.33333333, 0.66666667, 1.        , 0.5       ])
        """
        return Bound(self, horizon, steps_per_epoch, horizon)

    def rescale(self, horizon: int) -> Bound:
        """A bound schedule over another horizon; see `Bound.rescale`.

        Raises:
            ScheduleError: the schedule is not bound.
        """
        raise ScheduleError(
            f"{self!r} is not bound to a horizon, so there is nothing to rescale.",
            f"Bind it first: ({self!r}).bind(horizon=2000{self._epochs}).rescale({horizon}).",
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data with a schema number, which `Schedule.from_json` reads."""
        return {"schema": SCHEMA, **self.to_plain()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Schedule:
        """The schedule that `to_json` wrote.

        Raises:
            ScheduleError: another schema, an unknown kind or field, a bad value, a function.

        >>> Schedule.from_json({"schema": 1, "kind": "linear", "to": 0.1})
        linear(to=0.1)
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if schema != SCHEMA:
            raise ScheduleError(
                f"This is no schedule of schema {SCHEMA} (found {schema!r}).",
                "Give what Schedule.to_json() returned; a newer schema needs a newer etascope.",
            )
        return from_plain({key: value for key, value in data.items() if key != "schema"}, Schedule._kinds)

    def to_plain(self) -> dict[str, Any]:
        """Its kind and its fields."""
        return {"kind": self.kind} | {name: to_plain(value) for name, value, _ in self._fields()}

    def _fields(self) -> list[tuple[str, Any, Any]]:
        """(name, value, default) of each field."""
        return [(f.name, getattr(self, f.name), f.default) for f in fields(self)]  # type: ignore[arg-type]


class Shape(Schedule):
    """One phase with a formula. A new shape is a frozen dataclass (`repr=False`) with a `formula`.

    Fields annotated `Length` are checked as lengths, all others as finite numbers; None passes where the
    annotation has it; `length=None` is open. The class is its own constructor, and its name its kind in JSON.
    """

    length: int | str | None

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        for f in fields(self):  # type: ignore[arg-type]
            if (value := getattr(self, f.name)) is not None or "None" not in f.type:
                check = as_length if "Length" in f.type else as_number
                object.__setattr__(self, f.name, check(value, f"{self.kind}({f.name}=...)"))

    @abstractmethod
    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        """The multiplier at 0 ≤ u ≤ n in a phase of n steps; at u = n, also for n = 0, what it arrives at."""

    @property
    def is_open(self) -> bool:
        return self.length is None

    @property
    def is_relative(self) -> bool:
        return self.is_open or any(isinstance(value, str) for _, value, _ in self._fields())

    def steps(self, clock: Clock) -> Fraction | None:
        return None if self.length is None else clock.steps(self.length)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        return lambda u: self.formula(np.minimum(u, n), n, clock)

    def __repr__(self) -> str:
        """The constructor's call: the first argument by position, others by name, defaults left out."""
        (_, first, default), *others = self._fields()
        shown = [] if first == default else [repr(first)]
        return f"{self.kind}({', '.join(shown + [f'{k}={v!r}' for k, v, default in others if v != default])})"


class _Compound(Schedule):
    parts: tuple[Schedule, ...]

    @property
    def is_open(self) -> bool:
        return any(part.is_open for part in self.parts)

    @property
    def is_relative(self) -> bool:
        return any(part.is_relative for part in self.parts)


@dataclass(frozen=True, repr=False)
class Then(_Compound):
    """Phases one after the other: what `>>` makes. At most one is open, and takes the rest.

    Raises:
        ScheduleError: two phases are open.
    """

    parts: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        """Flatten, so that `>>` is associative."""
        nested = (part.parts if isinstance(part, Then) else (part,) for part in self.parts)
        object.__setattr__(self, "parts", sum(nested, ()))
        if len(open_ := [part for part in self.parts if part.is_open]) > 1:
            raise ScheduleError(
                f"{open_[0]!r} and {open_[1]!r} are both without a length, and only one can take the rest.",
                f"Give one of them a length, such as {open_[0].kind}('30%').",
            )

    def steps(self, clock: Clock) -> Fraction | None:
        lengths = [part.steps(clock) for part in self.parts]
        return None if None in lengths else sum((n for n in lengths if n is not None), Fraction(0))

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        return in_sequence(self.parts, clock, n, before)

    def __repr__(self) -> str:
        return " >> ".join(map(repr, self.parts))


@dataclass(frozen=True, repr=False)
class Times(_Compound):
    """Factors at the same time: what `*` makes. Open if a factor is, else as long as the longest."""

    scale: float
    parts: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        """Flatten, and gather the numbers, so that `*` is associative."""
        inner = [part for part in self.parts if isinstance(part, Times)]
        scale = math.prod((part.scale for part in inner), start=as_number(self.scale, "the factor"))
        nested = (part.parts if isinstance(part, Times) else (part,) for part in self.parts)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "parts", sum(nested, ()))

    def steps(self, clock: Clock) -> Fraction | None:
        lengths = [part.steps(clock) for part in self.parts]
        return None if None in lengths else max(n for n in lengths if n is not None)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        curves = [in_sequence((part,), clock, n, before) for part in self.parts]
        return lambda u: math.prod((curve(u) for curve in curves), start=np.full_like(u, self.scale))

    def __repr__(self) -> str:
        number = [repr(self.scale)] if self.scale != 1 else []
        return " * ".join(number + [f"({p!r})" if isinstance(p, Then) else repr(p) for p in self.parts])


@dataclass(frozen=True, repr=False)
class Bound(Schedule):
    """A schedule laid out on a horizon: what `bind` and `rescale` make.

    At step t it has the value of the layout at time t · full / horizon.

    Args:
        schedule: what was bound.
        horizon: steps of this run.
        steps_per_epoch: steps of one epoch of the full run.
        full: the horizon that the phases were laid out on; another one than `horizon` after `rescale`.
    """

    schedule: Schedule
    horizon: int
    steps_per_epoch: float | None
    full: int

    is_open = False
    is_relative = False

    def __post_init__(self) -> None:
        """Check, and lay out, so that every error comes here and not at a step."""
        for name in ("horizon", "full"):
            object.__setattr__(self, name, as_count(getattr(self, name), name, least=1))
        if self.steps_per_epoch is not None:
            object.__setattr__(self, "steps_per_epoch", as_epoch(self.steps_per_epoch))
        _ = self._layout

    @cached_property
    def _layout(self) -> Curve:
        rounded = isinstance(self.steps_per_epoch, float)  # then epochs may end between two steps, the last one too
        return in_sequence((self.schedule,), Clock(self.full, self.steps_per_epoch), self.full, slack=int(rounded))

    def __reduce__(self) -> tuple[type[Bound], tuple[Schedule, int, float | None, int]]:
        """Pickle what was written; the layout is built again."""
        return Bound, (self.schedule, self.horizon, self.steps_per_epoch, self.full)

    def curve(self, t: Floats) -> Floats:
        """The multiplier at real-valued steps t ≥ 0."""
        return self._layout(t if self.full == self.horizon else t * self.full / self.horizon)

    def _run(self) -> Bound:
        return self

    def bind(self, horizon: int, steps_per_epoch: float | None = None) -> Bound:
        """Itself, where it is bound to just that.

        Raises:
            ScheduleError: it is bound to something else.
        """
        if (horizon, steps_per_epoch or self.steps_per_epoch) == (self.horizon, self.steps_per_epoch):
            return self
        raise ScheduleError(
            f"The schedule is already bound, to {self.horizon} steps.",
            f"Keep its shape with .rescale({horizon}), or lay it out anew with .schedule.bind({horizon}).",
        )

    def rescale(self, horizon: int) -> Bound:
        """The same curve over `horizon` steps, read in continuous time: a short run is a complete run.

        >>> from etascope.schedules import linear, warmup
        >>> b = (warmup(20) >> linear()).bind(100)
        >>> b.rescale(10)([0, 1, 2, 6, 10]).round(3)
        array([0.048, 0.524, 1.   , 0.5  , 0.   ])
        >>> b.rescale(10).rescale(100) == b
        True
        """
        return Bound(self.schedule, horizon, self.steps_per_epoch, self.full)

    def multipliers(self, steps: Ints | None = None) -> Floats:
        """The multipliers of the whole run, steps 0 … horizon − 1; or those at `steps`."""
        return self(np.arange(self.horizon) if steps is None else steps)

    @cached_property
    def decays(self) -> bool:
        """Whether the last multiplier is below half the largest, in the full run (also after `rescale`)."""
        values = self.rescale(self.full).multipliers()
        return bool(values[-1] < values.max() / 2)

    def steps(self, clock: Clock) -> Fraction:
        return Fraction(self.horizon)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        return lambda u: self.curve(np.minimum(u, n))

    def __repr__(self) -> str:
        inner = f"({self.schedule!r})" if isinstance(self.schedule, _Compound) else repr(self.schedule)
        epochs = "" if self.steps_per_epoch is None else f", steps_per_epoch={self.steps_per_epoch}"
        rescaled = "" if self.horizon == self.full else f".rescale({self.horizon})"
        return f"{inner}.bind({self.full}{epochs}){rescaled}"
