"""The algebra: what a schedule is, `>>` (then), `*` (times), `bind`, `rescale`, text and JSON.

    Schedule             a frozen value
    ├── Shape            one phase: a few fields and a formula (shapes.py, drops.py, cycles.py, jitter.py)
    ├── Foreign          somebody's own function of the step (foreign.py)
    ├── Then             phases one after the other
    ├── Times            factors at the same time
    ├── Bound            a schedule laid out on a horizon
    └── Extended         a bound schedule whose run was made longer on the way (extend.py)

Time is continuous inside: u is the time since a phase began and n its length, both in steps, 0 ≤ u ≤ n.
A phase *arrives* at its value for u → n. Past the end that value stays, and `hold` goes on with it.
"""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .layout import AtOnce, Floats, Laid, Neighbour, Phase, Stretched, in_sequence
from .plain import from_plain, to_plain
from .units import CHECKS, Clock, as_count, as_epoch, as_number

if TYPE_CHECKING:
    from ..records import Finding
    from ..reports import Plot
    from .linting import Remark

__all__ = ["Bound", "Schedule", "Shape", "Then", "Times"]

Ints: TypeAlias = NDArray[np.integer[Any]] | Sequence[int]

SCHEMA = 1
_BLOCK = 1 << 14


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

    def least(self, clock: Clock) -> Fraction:
        """The exact length that it needs: that of what is not open in it."""
        return self.steps(clock) or Fraction(0)

    @abstractmethod
    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
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
        try:
            t = np.asarray(step)
        except ValueError:
            t = np.asarray("ragged")
        if t.size and (t.dtype.kind not in "iu" or t.min() < 0):
            raise ScheduleError(f"{step!r} is no step.", "Steps are whole numbers, from 0 on.")
        curve = self._run().curve
        if t.size <= _BLOCK:
            values = curve(np.atleast_1d(t.astype(np.float64)))
            return values if t.ndim else float(values[0])
        flat, out = t.ravel(), np.empty(t.size)
        for i in range(0, t.size, _BLOCK):  # what a formula makes on its way stays in the processor's cache
            out[i : i + _BLOCK] = curve(flat[i : i + _BLOCK].astype(np.float64))
        return out.reshape(t.shape)

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

    @staticmethod
    def parse(text: str) -> Schedule:
        """The schedule that a text says: what `repr` writes; lengths need no quotes (5%, 2ep).

        Safe for config files and command lines: nothing is evaluated.

        Raises:
            ScheduleError: what is wrong, its column, and the nearest known word.

        >>> Schedule.parse("warmup(5%) >> cosine(to=1/10)")
        warmup('5%') >> cosine(to=0.1)
        """
        from .grammar import parse
        from .names import NAMES

        return parse(text, NAMES)

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
        if schema != SCHEMA or isinstance(schema, bool):
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
    """One phase with a formula. A new shape is a frozen dataclass (`repr=False`) with `formula` and `words`.

    Fields are checked by their annotation: `Length`, `Lengths`, `float`, `Numbers`, `int`, `bool`; None passes
    where the annotation has it. `length=None` is open. The class is its own constructor, and its name its kind
    in text and JSON.
    """

    length: int | str | None
    jumps: ClassVar[bool] = False  # whether jumps within it are what it is for

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        for f in fields(self):  # type: ignore[arg-type]
            kind = f.type.removesuffix(" | None")
            if kind in CHECKS and ((value := getattr(self, f.name)) is not None or kind == f.type):
                object.__setattr__(self, f.name, CHECKS[kind](value, f"{self.kind}({f.name}=...)"))

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        """The multiplier at 0 ≤ u ≤ n in a phase of n steps; at u = n, also for n = 0, what it arrives at."""
        raise NotImplementedError  # a shape that depends on its neighbour has a `lay_out` of its own

    def words(self, u: float, n: int, clock: Clock) -> str:
        """The formula with its numbers at u, for `explain`."""
        raise NotImplementedError

    @property
    def is_open(self) -> bool:
        return self.length is None

    @property
    def is_relative(self) -> bool:
        return self.is_open or any(isinstance(length, str) for length in self._lengths())

    def _lengths(self) -> Iterator[Any]:
        """What it holds in steps, "%" or "ep"."""
        for f in fields(self):  # type: ignore[arg-type]
            if f.type.startswith("Length"):
                value = getattr(self, f.name)
                yield from value if isinstance(value, tuple) else (value,)

    def steps(self, clock: Clock) -> Fraction | None:
        return None if self.length is None else clock.steps(self.length)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        with np.errstate(all="ignore"):
            ends = self.formula(np.array([0.0, n]), n, clock)  # what is missing shows now, not at a step
        if not np.isfinite(ends).all():
            raise ScheduleError(
                f"{self!r} goes from {ends[0]:.3g} to {ends[1]:.3g} in {n:,} steps, which is no lr.",
                "Give it fewer steps, or values that stay within a float's range.",
            )
        return Phase(self, n, lambda u: self.formula(u, n, clock), lambda u: self.words(u, n, clock))

    def __repr__(self) -> str:
        """The constructor's call: the first argument by position, others by name, defaults left out."""
        (_, first, default), *others = ((k, list(v) if isinstance(v, tuple) else v, d) for k, v, d in self._fields())
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

    def least(self, clock: Clock) -> Fraction:
        return sum((part.least(clock) for part in self.parts), Fraction(0))

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
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
        object.__setattr__(self, "scale", as_number(scale, "the product of the factors"))
        object.__setattr__(self, "parts", sum(nested, ()))

    def steps(self, clock: Clock) -> Fraction | None:
        lengths = [part.steps(clock) for part in self.parts]
        return None if None in lengths else max(n for n in lengths if n is not None)

    def least(self, clock: Clock) -> Fraction:
        return max(part.least(clock) for part in self.parts)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        return AtOnce(n, self.scale, tuple(in_sequence((part,), clock, n, before) for part in self.parts))

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
        needed = self.schedule.least(Clock(self.full, self.steps_per_epoch))
        rounded = isinstance(self.steps_per_epoch, float)  # then epochs may end between two steps, the last one too
        if needed > self.full + rounded:
            raise ScheduleError(
                f"{self.schedule!r} takes {float(needed):g} steps, and the horizon gives it {self.full}.",
                f"Shorten a phase, write its length as a part ('10%'), or bind to {math.ceil(needed)} steps.",
            )
        if self.schedule.kind in ("bound", "extended") and needed != self.full:
            raise ScheduleError(
                f"{self.schedule!r} is already bound, to {needed} steps.",
                f"Keep its shape with .rescale({self.full}).",
            )
        _ = self._layout

    @cached_property
    def _layout(self) -> Laid:
        return in_sequence((self.schedule,), Clock(self.full, self.steps_per_epoch), self.full)

    def __reduce__(self) -> tuple[type[Bound], tuple[Schedule, int, float | None, int]]:
        """Pickle what was written; the layout is built again."""
        return Bound, (self.schedule, self.horizon, self.steps_per_epoch, self.full)

    def curve(self, t: Floats) -> Floats:
        """The multiplier at real-valued steps t ≥ 0."""
        return self._layout(t if self.full == self.horizon else t * self.full / self.horizon)

    @property
    def laid(self) -> Laid:
        """The phases where they lie on this run."""
        return Stretched(self.horizon, self._layout, self.full, self.horizon)

    def _run(self) -> Bound:
        return self

    def bind(self, horizon: int, steps_per_epoch: float | None = None) -> Bound:
        """Itself, where it is bound to just that.

        Raises:
            ScheduleError: it is bound to something else.
        """
        if horizon == self.horizon and steps_per_epoch in (None, self.steps_per_epoch):
            return self
        epochs = "" if self.steps_per_epoch is None else f" of {self.steps_per_epoch} an epoch"
        anew = f"{horizon}" if steps_per_epoch is None else f"{horizon}, steps_per_epoch={steps_per_epoch}"
        raise ScheduleError(
            f"The schedule is already bound, to {self.horizon} steps{epochs}.",
            f"Keep its shape with .rescale({horizon}), or lay it out anew with .schedule.bind({anew}).",
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

    def extend(self, at: int, horizon: int, keep: str = "fraction", rewarm: int = 0) -> Bound:
        """The schedule of a run that is made longer (or shorter) at step `at`; up to there it is this one.

        With T the old horizon, H the new one, a = `at`, m this curve, M the schedule laid out on H anew, it goes on as

            keep="fraction"   m(a + (t − a) · (T − a) / (H − a)): what was left of the run, stretched
            keep="value"      m(a) · M(t) / M(a): the longer run's, scaled to go on from the present value
            keep="schedule"   M(t): as if the run had been so from the beginning; may jump

        and for the first `rewarm` steps times (t − a + 1) / (rewarm + 1), a warmup from near 0. Where this one was
        rescaled, M is rescaled by as much.

        Raises:
            ScheduleError: the horizon is not beyond `at`; nothing is left to stretch; the present value cannot be kept,
                since one of the two is 0, or the rest would rise above both peaks (as in a warmup that got longer).

        >>> from etascope.schedules import linear
        >>> linear().bind(100).extend(at=50, horizon=150)([49, 50, 100, 149])
        array([0.51 , 0.5  , 0.25 , 0.005])
        """
        from .extend import Extended

        return Bound(Extended(self, at, horizon, keep, rewarm), horizon, self.steps_per_epoch, horizon)

    def explain(self, step: int, lr: float | None = None) -> str:
        """One sentence: which phase, which formula with its numbers, which factors.

        Args:
            step: from 0 on.
            lr: the peak lr; default None: multiples of the peak.

        >>> from etascope.schedules import linear, warmup
        >>> (warmup("5%") >> linear()).bind(100).explain(24)
        'Step 24 of 100 has 0.8 of the peak lr: phase 2 of 2, linear(), 19 of 95 steps in: 1 · (1 − p) + 0 · p with
        p = 19/95.'
        """
        value = self(step)
        if not isinstance(value, float):
            raise ScheduleError(f"{step!r} is no step.", "Ask for one step at a time.")
        lr, where = None if lr is None else as_number(lr, "lr"), self.laid.say(float(step))
        if step >= self.horizon:
            where = f"past the end, where the last value stays; {where}"
        times = f"{value:.6g} of the peak lr" if lr is None else f"the lr {value * lr:.6g} ({value:.6g} · {lr:.6g})"
        return f"Step {step:,} of {self.horizon:,} has {times}: {where}."

    def lint(
        self, run: int | None = None, lr: float | None = None, finding: Finding | None = None, jump: float = 10.0
    ) -> tuple[Remark, ...]:
        """What is probably not meant; empty if nothing is seen.

        Args:
            run: steps that the training really has; default: the horizon.
            lr: the peak lr; default: that of `finding`.
            finding: with an edge, from which on training diverges.
            jump: the factor from one step to the next that is remarked on, unless a shape is for jumping.

        >>> from etascope.schedules import wave
        >>> print(*wave(50).bind(80).lint())
        rebound: It is at its lowest, 0, at step 50, and rises again: the run ends at 0.624. End the run there, or
        write ... >> hold() after 50 steps.
        """
        from .linting import lint

        return lint(self, run, lr, finding, jump)

    def plot(self, lr: float | None = None) -> Plot:
        """The curve: a picture in a notebook, characters in a terminal (`print`), `.save(path)` for an SVG file.

        Args:
            lr: the peak lr; default None: multiples of the peak.
        """
        lr = None if lr is None else as_number(lr, "lr")
        if _plot_hook is None:
            importlib.import_module("..reports", __package__)  # which registers itself
        assert _plot_hook is not None
        return _plot_hook(self, lr)

    @cached_property
    def decays(self) -> bool:
        """Whether the last multiplier is below half the largest, in the full run (also after `rescale`)."""
        values = self.rescale(self.full).multipliers()
        return bool(values[-1] < values.max() / 2)

    def steps(self, clock: Clock) -> Fraction:
        return Fraction(self.horizon)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        return Stretched(n, self._layout, self.full, self.horizon)

    def __repr__(self) -> str:
        if self.schedule.kind == "extended" and self.full == self.schedule.steps(Clock(self.full)):
            return repr(self.schedule) + ("" if self.horizon == self.full else f".rescale({self.horizon})")
        inner = f"({self.schedule!r})" if isinstance(self.schedule, _Compound) else repr(self.schedule)
        epochs = "" if self.steps_per_epoch is None else f", steps_per_epoch={self.steps_per_epoch}"
        rescaled = "" if self.horizon == self.full else f".rescale({self.horizon})"
        return f"{inner}.bind({self.full}{epochs}){rescaled}"


_plot_hook: Callable[[Bound, float | None], Plot] | None = None


def plot_with(hook: Callable[[Bound, float | None], Plot]) -> None:
    """Teach bound schedules to draw themselves; called by what can draw, which this room does not know."""
    global _plot_hook
    _plot_hook = hook
