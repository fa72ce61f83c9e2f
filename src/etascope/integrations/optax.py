"""optax's schedules as etascope's, without optax; and etascope's as functions that JAX can trace."""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from ..errors import ScheduleError
from ..schedules import Bound, Schedule, constant, piecewise
from ..schedules.units import as_number
from .building import chain, fall, first, flat, half_cosine, peak, power_law, rise, whole
from .imported import Imported

__all__ = ["from_optax", "to_optax"]

_FAR = 10**9  # steps; no run is as long


def from_optax(constructor: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Imported:
    """The schedule that an optax constructor makes of these arguments; what optax returns is a closure, unreadable.

    It clamps where optax does. A phase keeps its steps, so bind to at least as many as the original has.
    optax computes in float32 unless JAX's x64 is on, and XLA divides by reciprocals: compiled, a staircase of 49 steps
    falls one step late. This one has the formula's values, in float64.

    Args:
        constructor: its name, or itself: "cosine_decay_schedule", optax.cosine_decay_schedule. For join_schedules
            the schedules are what `from_optax` returned.
        args: as for the constructor.
        kwargs: as for the constructor.

    Raises:
        ScheduleError: an unknown constructor, or a finished schedule; arguments that do not fit it or that it refuses;
            phases that end between two steps; a negative decay_rate.

    Source: optax 0.2.8, optax/schedules.

    >>> from_optax("warmup_cosine_decay_schedule", init_value=0.0, peak_value=1e-3, warmup_steps=100, decay_steps=1000)
    Imported(schedule=warmup(100, start=0.0) >> cosine(900) >> constant(value=0.0), lr=0.001)
    """
    name = constructor if isinstance(constructor, str) else getattr(constructor, "__qualname__", repr(constructor))
    name = name.removeprefix("optax.").removeprefix("schedules.")
    module = getattr(constructor, "__module__", "optax")
    theirs = isinstance(constructor, str) or module.partition(".")[0] == "optax"
    if theirs and (made_by := name.partition(".<locals>")[0]) != name:
        raise ScheduleError(
            f"The schedule that {made_by} returned is a closure, and its arguments cannot be read.",
            f"Give the constructor and its arguments: from_optax('{made_by}', ...).",
        )
    if name not in _CONSTRUCTORS or not theirs:
        near = difflib.get_close_matches(name, _CONSTRUCTORS, n=1, cutoff=0.5)
        raise ScheduleError(
            f"{name!r} is no constructor of schedules in optax.",
            (f"Did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(_CONSTRUCTORS)}.",
        )
    make = _CONSTRUCTORS[name]
    try:
        inspect.signature(make).bind(*args, **kwargs)
    except TypeError as error:
        raise ScheduleError(f"{name}: {error}.", f"Its arguments are {inspect.signature(make)}.") from None
    return make(*args, **kwargs)


def to_optax(bound: Bound, lr: float = 1.0) -> Callable[[Any], Any]:
    """A schedule for optax: count → lr · bound(count), to be traced by jit, vmap and scan.

    It is a table, so it is exact for every shape: horizon + 1 numbers in the memory of JAX's default device, 4 bytes
    each (8 with x64): 0.4 MB for 100,000 steps. Counts past the end have the value past the end, counts below 0 the
    first. It has no gradient by the count.

    Args:
        bound: a bound schedule.
        lr: the peak; default 1: the multiplier alone.

    Raises:
        ScheduleError: the schedule is not bound; JAX is not installed.
    """
    table = _table(bound, lr)
    try:
        jnp: Any = importlib.import_module("jax.numpy")
    except ImportError:
        raise ScheduleError("JAX is not installed, and to_optax needs it.", "pip install optax jax") from None
    values = jnp.asarray(table)

    def schedule(count: Any) -> Any:
        return jnp.take(values, jnp.clip(jnp.asarray(count), 0, bound.horizon).astype(int))

    return schedule


def _table(bound: Bound, lr: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The lrs of all steps of the run, and the one past its end."""
    if not isinstance(bound, Bound):
        raise ScheduleError(f"{bound!r} is not bound to a horizon.", "Give (...).bind(horizon=2000).")
    return as_number(lr, "lr") * bound(np.arange(bound.horizon + 1))


# ------------------------------------------------------------------------------ optax's constructors, by their names
# Each has the arguments of optax's; values in multiples of the peak lr.


def _constant_schedule(value: Any) -> Imported:
    value = as_number(value, "value")
    lr = peak(value)
    return Imported(constant(value=value / lr), lr)


def _polynomial_schedule(
    init_value: Any, end_value: Any, power: Any, transition_steps: Any, transition_begin: Any = 0
) -> Imported:
    start, to, power = (
        as_number(v, n) for v, n in ((init_value, "init_value"), (end_value, "end_value"), (power, "power"))
    )
    lr = max(abs(start), abs(to)) or 1.0
    steps, begin = whole(transition_steps, "transition_steps"), whole(transition_begin, "transition_begin")
    start, to = start / lr, to / lr
    if steps <= 0 or power == 0:
        return Imported(constant(value=start), lr)
    line = rise(steps, start, to) if power == 1 else power_law(steps, start, to, power)
    return Imported(chain(flat(max(begin, 0), start), line, constant(value=to)), lr)


def _linear_schedule(init_value: Any, end_value: Any, transition_steps: Any, transition_begin: Any = 0) -> Imported:
    return _polynomial_schedule(init_value, end_value, 1, transition_steps, transition_begin)


def _cosine_decay_schedule(init_value: Any, decay_steps: Any, alpha: Any = 0.0, exponent: Any = 1.0) -> Imported:
    start, alpha = as_number(init_value, "init_value"), as_number(alpha, "alpha")
    lr = peak(start)
    return Imported(_cosine(start / lr, as_number(decay_steps, "decay_steps"), alpha, exponent), lr)


def _cosine(start: float, steps: float, alpha: float, exponent: Any) -> Schedule:
    if steps <= 0:
        raise ScheduleError(f"The cosine has {steps:g} steps, which optax refuses too.", "Give it more than 0.")
    if (power := as_number(exponent, "exponent")) == 0:
        return constant(value=start)
    return half_cosine(steps, start, start * alpha, power)


def _exponential_decay(
    init_value: Any,
    transition_steps: Any,
    decay_rate: Any,
    transition_begin: Any = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Imported:
    start = as_number(init_value, "init_value")
    lr = peak(start)
    end = None if end_value is None else as_number(end_value, "end_value") / lr
    return Imported(_exponential(start / lr, transition_steps, decay_rate, transition_begin, staircase, end), lr)


def _exponential(start: float, steps: Any, rate: Any, begin: Any, staircase: Any, end: float | None) -> Schedule:
    every, rate, before = (
        as_number(steps, "transition_steps"),
        as_number(rate, "decay_rate"),
        whole(begin, "transition_begin"),
    )
    if every <= 0 or rate == 0:
        return constant(value=start)
    if rate < 0:
        raise ScheduleError(f"decay_rate is {rate:g}: the value changes its sign, or is NaN.", "Give one above 0.")
    flat_first = flat(max(before, 0), start)
    if end is None or rate == 1:
        tail = fall(start, rate, every, bool(staircase)) if rate != 1 else constant(value=start)
        return chain(flat_first, tail) if end is None else constant(value=min(start, end))
    if start < 0:
        raise ScheduleError(
            "An init_value below 0 with an end_value is held at end_value until it passes it.",
            "Import it without the sign, and multiply: -1 * imported.schedule.",
        )
    if start == 0 or (end >= start) == (rate < 1):
        return constant(value=max(start, end) if rate < 1 else min(start, end))
    # Where it meets the end it has the end's value up to rounding, so that one step more or less changes nothing.
    drops = math.log(end / start) / math.log(rate) if end > 0 else math.inf
    if drops * every > _FAR:
        return chain(flat_first, fall(start, rate, every, bool(staircase)))
    length = math.ceil(drops - 1e-9) * whole(every, "transition_steps") if staircase else math.ceil(drops * every)
    return chain(flat_first, fall(start, rate, every, bool(staircase), length), constant(value=end))


def _piecewise_constant_schedule(init_value: Any, boundaries_and_scales: Mapping[Any, Any] | None = None) -> Imported:
    times, values = _scaled(init_value, boundaries_and_scales)
    lr = max(map(abs, values)) or 1.0
    at = tuple(max(math.ceil(t), 0) for t in times)
    return Imported(piecewise(at, tuple(v / lr for v in values)) if at else constant(value=values[0] / lr), lr)


def _piecewise_interpolate_schedule(
    interpolate_type: str, init_value: Any, boundaries_and_scales: Mapping[Any, Any] | None = None
) -> Imported:
    if interpolate_type not in ("linear", "cosine"):
        raise ScheduleError(f"interpolate_type is {interpolate_type!r}.", "Give 'linear' or 'cosine'.")
    times, values = _scaled(init_value, boundaries_and_scales)
    return _interpolated(interpolate_type, times, values, max(map(abs, values)) or 1.0)


def _interpolated(by: str, times: list[float], values: list[float], lr: float) -> Imported:
    at = tuple(whole(t, "a boundary") for t in times)
    if not at:
        return Imported(constant(value=values[0] / lr), lr)
    if at[0] < 0:
        raise ScheduleError(f"A boundary is {at[0]}, in front of the first step.", "Give boundaries from 0 on.")
    return Imported(piecewise(at, tuple(v / lr for v in values), by=by), lr)


def _scaled(init_value: Any, boundaries_and_scales: Mapping[Any, Any] | None) -> tuple[list[float], list[float]]:
    """The boundaries in order, and the values between them: each scale multiplies all that follows."""
    values, times = [as_number(init_value, "init_value")], []
    for time, scale in sorted((boundaries_and_scales or {}).items()):
        if (factor := as_number(scale, f"the scale at {time}")) < 0:
            raise ScheduleError(f"The scale at {time} is {factor:g}, which optax refuses too.", "Give 0 or more.")
        times.append(as_number(time, "a boundary"))
        values.append(values[-1] * factor)
    return times, values


def _linear_onecycle_schedule(
    transition_steps: Any,
    peak_value: Any,
    pct_start: Any = 0.3,
    pct_final: Any = 0.85,
    div_factor: Any = 25.0,
    final_div_factor: Any = 1e4,
) -> Imported:
    n, up, down = _steps_of_a_cycle(transition_steps), float(pct_start), float(pct_final)
    div, final = as_number(div_factor, "div_factor"), as_number(final_div_factor, "final_div_factor")
    # A dictionary, as in optax: of two boundaries at one step the later one alone counts.
    scales = {int(up * n): div, int(down * n): 1 / div, n: 1 / final}
    return _one_cycle("linear", peak_value, div, scales)


def _cosine_onecycle_schedule(
    transition_steps: Any, peak_value: Any, pct_start: Any = 0.3, div_factor: Any = 25.0, final_div_factor: Any = 1e4
) -> Imported:
    n, up = _steps_of_a_cycle(transition_steps), float(pct_start)
    div, final = as_number(div_factor, "div_factor"), as_number(final_div_factor, "final_div_factor")
    return _one_cycle("cosine", peak_value, div, {int(up * n): div, int(n): 1 / (div * final)})


def _steps_of_a_cycle(steps: Any) -> int:
    if (n := whole(steps, "transition_steps")) <= 0:
        raise ScheduleError(f"transition_steps is {n}, which optax refuses too.", "Give at least 1.")
    return n


def _one_cycle(by: str, peak_value: Any, div: float, scales: dict[int, float]) -> Imported:
    top = as_number(peak_value, "peak_value")
    return _interpolated(by, *_scaled(top / div, scales), peak(top))


def _warmup_constant_schedule(init_value: Any, peak_value: Any, warmup_steps: Any) -> Imported:
    # Without warmup steps optax stays at init_value, not at peak_value.
    return _linear_schedule(init_value, peak_value, warmup_steps)


def _warmup(init_value: Any, peak_value: Any, warmup_steps: Any) -> tuple[float, float, float, int]:
    """lr, the first multiplier, that after the warmup, the warmup's steps."""
    start, top = as_number(init_value, "init_value"), as_number(peak_value, "peak_value")
    if (n := whole(warmup_steps, "warmup_steps")) < 0:
        raise ScheduleError(f"warmup_steps is {n}.", "Give 0 or more.")
    lr = peak(top, start)
    return lr, start / lr, top / lr, n


def _warmup_cosine_decay_schedule(
    init_value: Any, peak_value: Any, warmup_steps: Any, decay_steps: Any, end_value: Any = 0.0, exponent: Any = 1.0
) -> Imported:
    lr, start, top, n = _warmup(init_value, peak_value, warmup_steps)
    alpha = as_number(end_value, "end_value") / lr / top if top else 0.0
    return Imported(
        chain(rise(n, start, top), _cosine(top, as_number(decay_steps, "decay_steps") - n, alpha, exponent)), lr
    )


def _warmup_exponential_decay_schedule(
    init_value: Any,
    peak_value: Any,
    warmup_steps: Any,
    transition_steps: Any,
    decay_rate: Any,
    transition_begin: Any = 0,
    staircase: bool = False,
    end_value: Any = None,
) -> Imported:
    lr, start, top, n = _warmup(init_value, peak_value, warmup_steps)
    end = None if end_value is None else as_number(end_value, "end_value") / lr
    return Imported(
        chain(rise(n, start, top), _exponential(top, transition_steps, decay_rate, transition_begin, staircase, end)),
        lr,
    )


def _sgdr_schedule(cosine_kwargs: Iterable[Mapping[str, Any]]) -> Imported:
    if not (all_kwargs := list(cosine_kwargs)):
        raise ScheduleError("sgdr_schedule has no cycle, which optax refuses too.", "Give at least one.")
    cycles = [from_optax("warmup_cosine_decay_schedule", **kwargs) for kwargs in all_kwargs]
    ends = accumulate(whole(kwargs["decay_steps"], "decay_steps") for kwargs in all_kwargs)
    return _join_schedules(cycles, list(ends)[:-1])


def _join_schedules(schedules: Sequence[Imported], boundaries: Sequence[Any]) -> Imported:
    schedules, times = list(schedules), [0, *(whole(b, "a boundary") for b in boundaries)]
    if not all(isinstance(s, Imported) for s in schedules) or len(schedules) != len(times):
        raise ScheduleError(
            f"join_schedules has {len(schedules)} schedules and {len(times) - 1} boundaries, or other schedules than "
            "those that from_optax returned.",
            "Give one boundary less than schedules, each from_optax(...); or join in etascope: a >> b.",
        )
    if any(a >= b for a, b in pairwise(times)):
        raise ScheduleError(f"The boundaries are {times[1:]}, not rising from 1 on.", "Give them in order.")
    lr = max(s.lr for s in schedules)
    phases = [s.lr / lr * first(s.schedule, b - a) for s, (a, b) in zip(schedules, pairwise(times), strict=False)]
    return Imported(chain(*phases, schedules[-1].lr / lr * schedules[-1].schedule), lr)


_CONSTRUCTORS: dict[str, Callable[..., Imported]] = {
    make.__name__.removeprefix("_"): make
    for make in (
        _constant_schedule,
        _linear_schedule,
        _polynomial_schedule,
        _cosine_decay_schedule,
        _exponential_decay,
        _piecewise_constant_schedule,
        _piecewise_interpolate_schedule,
        _linear_onecycle_schedule,
        _cosine_onecycle_schedule,
        _warmup_constant_schedule,
        _warmup_cosine_decay_schedule,
        _warmup_exponential_decay_schedule,
        _sgdr_schedule,
        _join_schedules,
    )
}
