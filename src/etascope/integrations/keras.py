"""Keras' schedules as etascope's, and etascope's as a Keras schedule that is saved with its model. Loads no keras."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import numpy as np

from ..errors import ScheduleError
from ..schedules import Bound, Schedule, constant, inverse_time, piecewise, restarts
from ..schedules.units import as_number
from .building import chain, fall, half_cosine, in_order, peak, power_law, rise, whole
from .imported import Imported

__all__ = ["from_keras", "register", "to_keras"]  # and EtascopeSchedule, once it is asked for

_CHECKED = 1 << 20  # up to this step restarts are looked up in Keras itself


def from_keras(schedule: Any) -> Imported:
    """A living Keras schedule's schedule, from its `get_config()`.

    It clamps where Keras does; a phase keeps its steps, so bind to at least as many as the original has. Keras
    computes in `floatx`, float32 by default; this one has the formula's values in float64. A restart of
    CosineDecayRestarts that Keras misses since its logarithm is rounded down (step 81,910 in float32, of
    first_decay_steps=10) is missed here too, up to step 2²⁰; beyond, it is where it should be.

    Args:
        schedule: a keras.optimizers.schedules object: ExponentialDecay, PiecewiseConstantDecay (which changes one
            step after its boundary), PolynomialDecay, InverseTimeDecay, CosineDecay, CosineDecayRestarts, or what
            `to_keras` made.

    Raises:
        ScheduleError: another class; PolynomialDecay(cycle=True); t_mul below 1; a phase that ends between two steps
            where the shape cannot; decay rates that are 0 or below; an initial_learning_rate that is an int.

    Source: Keras 3.15, keras/src/optimizers/schedules/learning_rate_schedule.py.
    """
    kind = type(schedule)
    name = kind.__name__ if kind.__module__.partition(".")[0] == "keras" else f"{kind.__module__}.{kind.__qualname__}"
    if name == f"{__name__}.EtascopeSchedule":
        return Imported(schedule.bound, schedule.lr)
    if name not in _IMPORTERS:
        raise ScheduleError(
            f"{name} is no schedule of Keras that etascope reads.",
            f"Known are {', '.join(_IMPORTERS)}. Give any other as a function of the step: as_schedule(function).",
        )
    config = schedule.get_config()
    if isinstance(start := config.get("initial_learning_rate"), int | np.integer):
        raise ScheduleError(
            f"initial_learning_rate is {start!r}, and Keras computes in its type: in whole numbers.",
            f"Write it as a float: {start}.0.",
        )
    return _IMPORTERS[name](schedule, config)


def to_keras(bound: Bound, lr: float = 1.0) -> Any:
    """A `keras.optimizers.schedules.LearningRateSchedule`: step → lr · bound(step), for `optimizer=Adam(to_keras(b))`.

    It is a table, so it is exact for every shape up to the rounding of `floatx`: horizon + 1 numbers, 0.4 MB for
    100,000 steps. Steps past the end have the value past the end. Its config holds the schedule's JSON and the lr, so
    a saved model brings it along; a process that loads one calls `register()` first, or
    `from etascope.integrations.keras import EtascopeSchedule`.

    Args:
        bound: a bound schedule; one that is a function of yours cannot be loaded again.
        lr: the peak; default 1: the multiplier alone.

    Raises:
        ScheduleError: the schedule is not bound; Keras is not installed.
    """
    return register()(bound, lr)


@cache
def register() -> Any:
    """The class that `to_keras` gives, made and registered with Keras at the first call: etascope>EtascopeSchedule.

    Raises:
        ScheduleError: Keras is not installed.
    """
    try:
        keras: Any = importlib.import_module("keras")
    except ImportError as error:
        raise ScheduleError(f"Keras cannot be imported ({error}), and this needs it.", "pip install keras") from None
    ops = keras.ops

    class EtascopeSchedule(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
        """An etascope schedule in Keras.

        Attributes:
            bound: the bound schedule.
            lr: the peak that it multiplies.
        """

        def __init__(self, bound: Bound, lr: float = 1.0) -> None:
            if not isinstance(bound, Bound):
                raise ScheduleError(f"{bound!r} is not bound to a horizon.", "Give (...).bind(horizon=2000).")
            super().__init__()
            self.bound, self.lr = bound, as_number(lr, "lr")
            table = self.lr * bound(np.arange(bound.horizon + 1))
            self._table = ops.convert_to_tensor(table, dtype=keras.config.floatx())

        def __call__(self, step: Any) -> Any:
            return ops.take(self._table, ops.clip(ops.cast(step, "int32"), 0, self.bound.horizon))

        def get_config(self) -> dict[str, Any]:
            return {"schedule": self.bound.to_json(), "lr": self.lr}

        @classmethod
        def from_config(cls, config: Mapping[str, Any]) -> Any:
            bound = Schedule.from_json(config["schedule"])
            assert isinstance(bound, Bound)
            return cls(bound, config["lr"])

        def __reduce__(self) -> Any:
            """Pickle what was written; the table is made again."""
            return _rebuilt, (self.bound, self.lr)

    EtascopeSchedule.__module__, EtascopeSchedule.__qualname__ = __name__, "EtascopeSchedule"
    return keras.saving.register_keras_serializable(package="etascope")(EtascopeSchedule)


def _rebuilt(bound: Bound, lr: float) -> Any:
    return register()(bound, lr)


def __getattr__(name: str) -> Any:
    """`EtascopeSchedule`, without which keras need not be there."""
    if name == "EtascopeSchedule":
        return register()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ------------------------------------------------------------------------------ Keras' classes, from their configs


def _exponential_decay(schedule: Any, config: Mapping[str, Any]) -> Imported:
    start, rate, every = _numbers(config, "initial_learning_rate", "decay_rate", "decay_steps")
    staircase = bool(config["staircase"])
    if rate < 0 or (rate == 0 and not staircase):
        raise ScheduleError(f"decay_rate is {rate:g}: the lr changes its sign, or jumps to 0.", "Give one above 0.")
    lr = peak(start)
    return Imported(fall(start / lr, rate, every, staircase), lr)


def _piecewise_constant_decay(schedule: Any, config: Mapping[str, Any]) -> Imported:
    times = [as_number(t, f"boundaries[{i}]") for i, t in enumerate(config["boundaries"])]
    values = [as_number(v, f"values[{i}]") for i, v in enumerate(config["values"])]
    in_order(times, "The boundaries")
    lr = max(map(abs, values)) or 1.0
    # Keras has the new value after the boundary, and cuts a boundary that is not whole.
    at = tuple(max(math.trunc(t) + 1, 0) for t in times)
    return Imported(piecewise(at, tuple(v / lr for v in values)), lr)


def _polynomial_decay(schedule: Any, config: Mapping[str, Any]) -> Imported:
    start, to, power = _numbers(config, "initial_learning_rate", "end_learning_rate", "power")
    if config["cycle"]:
        raise ScheduleError(
            "PolynomialDecay(cycle=True) has cycles without end, each from a lower lr than the one before.",
            "Write those that the run has: polynomial(n) >> (1 / 2**power) * polynomial(n) >> ...",
        )
    lr, steps = max(abs(start), abs(to)) or 1.0, whole(config["decay_steps"], "decay_steps")
    if power == 0:
        return Imported(constant(value=start / lr), lr)
    shape = rise if power == 1 else partial(power_law, power=power)
    return Imported(chain(shape(steps, start / lr, to / lr), constant(value=to / lr)), lr)


def _inverse_time_decay(schedule: Any, config: Mapping[str, Any]) -> Imported:
    start, rate, every = _numbers(config, "initial_learning_rate", "decay_rate", "decay_steps")
    lr = peak(start)
    if rate == 0:
        return Imported(constant(value=start / lr), lr)
    if rate < 0:
        raise ScheduleError(f"decay_rate is {rate:g}: the lr rises without bound.", "Give one above 0.")
    if config["staircase"] or every == int(every):
        times = whole(every, "decay_steps"), rate
    else:
        times = 1, rate / every
    shape = inverse_time(times[0], rate=times[1], staircase=bool(config["staircase"]))
    return Imported(start / lr * shape, lr)


def _cosine_decay(schedule: Any, config: Mapping[str, Any]) -> Imported:
    start, alpha, steps = _numbers(config, "initial_learning_rate", "alpha", "decay_steps")
    if config["warmup_target"] is None:
        lr = peak(start)
        return Imported(half_cosine(steps, start / lr, start / lr * alpha), lr)
    (top,) = _numbers(config, "warmup_target")
    if (up := whole(config["warmup_steps"], "warmup_steps")) < 0:
        raise ScheduleError(f"warmup_steps is {up}.", "Give 0 or more.")
    lr = peak(top, start)
    return Imported(chain(rise(up, start / lr, top / lr), half_cosine(steps, top / lr, top / lr * alpha)), lr)


def _cosine_decay_restarts(schedule: Any, config: Mapping[str, Any]) -> Imported:
    start, growth, decay, alpha = _numbers(config, "initial_learning_rate", "t_mul", "m_mul", "alpha")
    first, lr = whole(config["first_decay_steps"], "first_decay_steps"), peak(start)
    if growth < 1:
        raise ScheduleError(
            f"t_mul is {growth:g}: the cycles shrink, and from step {first / (1 - max(growth, 0)):g} on Keras has NaN.",
            "Give t_mul of at least 1.",
        )
    top, to = start / lr, start / lr * alpha
    shape = restarts(first, growth=growth, peak_factor=decay, start=top, to=to, above_to=decay != 1 and to != 0)
    wrong = dict(_misjudged(schedule, lr, shape, _restarts(first, growth)))
    if not wrong:
        return Imported(shape, lr)
    # A factor for these steps alone, so that the shape stays what it is everywhere else.
    at = tuple(step for t in wrong for step in (t, t + 1))
    return Imported(shape * piecewise(at, (1.0, *(value for v in wrong.values() for value in (v, 1.0)))), lr)


def _restarts(first: int, growth: float) -> Iterator[int]:
    """The restarts that fall on a whole step, where a rounded logarithm may miss them."""
    at, size = float(first), first * growth
    while growth != 1 and at < _CHECKED:
        if abs(at - round(at)) < 1e-6:
            yield round(at)
        at, size = at + size, size * growth


def _misjudged(schedule: Any, lr: float, shape: Schedule, restarts: Iterator[int]) -> Iterator[tuple[int, float]]:
    """The steps that Keras takes for another cycle's, and what there makes of our value Keras' own."""
    bound, done = shape.bind(2 * _CHECKED), -1
    for restart in restarts:
        height = abs(bound(restart) - bound(restart - 1))
        for t in range(max(restart - 2, done + 1), restart + 3):
            theirs, ours = float(schedule(t)) / lr, bound(t)
            if abs(theirs - ours) > height / 4 > 1e-6 and ours:
                yield t, theirs / ours
            done = t


def _numbers(config: Mapping[str, Any], *names: str) -> tuple[float, ...]:
    return tuple(as_number(config[name], name) for name in names)


_IMPORTERS: dict[str, Callable[[Any, Mapping[str, Any]], Imported]] = {
    "ExponentialDecay": _exponential_decay,
    "PiecewiseConstantDecay": _piecewise_constant_decay,
    "PolynomialDecay": _polynomial_decay,
    "InverseTimeDecay": _inverse_time_decay,
    "CosineDecay": _cosine_decay,
    "CosineDecayRestarts": _cosine_decay_restarts,
}
