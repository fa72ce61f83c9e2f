"""Hugging Face's schedules: `get_scheduler` by its names and arguments, without transformers installed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any, NoReturn

import numpy as np

from ..errors import ScheduleError
from ..schedules import (
    Schedule,
    constant,
    cosine,
    hold,
    inverse_sqrt,
    linear,
    polynomial,
    restarts,
    sqrt_cooldown,
    warmup,
    wave,
)
from ..schedules.units import as_number
from .building import chain, first, fixed, whole
from .imported import Imported

__all__ = ["from_lambda", "from_transformers"]


def from_transformers(
    name: str,
    num_training_steps: int | None = None,
    num_warmup_steps: int = 0,
    *,
    lr: float | None = None,
    **specific: Any,
) -> Imported:
    """What `transformers.get_scheduler(name, optimizer, num_warmup_steps, num_training_steps, specific)` does.

    Step by step, also past the end, where most stay and the cosines rise again (`Bound.lint` says so): there it is
    a `wave`. Warmup and decay keep the lengths they were given, so the horizon that it is bound to must hold the
    fixed ones (the error of `bind` says how many steps they are); the last phase takes the rest.

    Args:
        name: one of transformers.SchedulerType: "linear", "cosine", "cosine_with_restarts", "polynomial",
            "constant", "constant_with_warmup", "inverse_sqrt", "cosine_with_min_lr", "cosine_warmup_with_min_lr",
            "warmup_stable_decay".
        num_training_steps: steps; may be left out where transformers needs none.
        num_warmup_steps: steps; default 0.
        lr: the optimizer's lr. Needed where an argument is itself an lr (`lr_end` of "polynomial", `min_lr`);
            default 1.0 elsewhere.
        specific: what transformers takes as `scheduler_specific_kwargs`: num_cycles, lr_end, power, timescale,
            min_lr, min_lr_rate, warmup_lr_rate, num_decay_steps, num_stable_steps, warmup_type, decay_type,
            min_lr_ratio.

    Raises:
        ScheduleError: no such name or argument; a metric-driven one; lengths with which transformers itself fails.

    Source: transformers 5.23, optimization.py.

    >>> from_transformers("cosine", 1000, 50)
    Imported(schedule=warmup(50, start=0.0) >> wave(950), lr=1.0)
    >>> from_transformers("warmup_stable_decay", 9, 2, num_decay_steps=4, decay_type="1-sqrt").schedule
    warmup(2, start=0.0) >> constant(3) >> sqrt_cooldown(4) >> constant(value=0.0)
    """
    name = str(getattr(name, "value", name))
    if name in _METRIC:
        refuse_metric(f"transformers' {name!r}", _METRIC[name])
    if name not in _READERS:
        raise ScheduleError(f"{name!r} is no name of transformers.", f"Known: {', '.join([*_READERS, *_METRIC])}.")
    reader = _READERS[name]
    known = inspect.signature(reader).parameters
    steps = {"num_training_steps": num_training_steps, "num_warmup_steps": num_warmup_steps, "lr": lr}
    if wrong := [key for key in specific if key not in known]:
        others = [key for key in known if key not in steps]
        raise ScheduleError(
            f"transformers' {name!r} takes no {', '.join(wrong)}.",
            f"Beside the numbers of steps it takes {', '.join(others) or 'nothing'}.",
        )
    given = {key: value for key, value in steps.items() if key in known} | specific
    for key, parameter in known.items():
        if parameter.default is parameter.empty and given.get(key) is None:
            raise ScheduleError(f"transformers' {name!r} needs {key}.", f"Give {key}=..., in steps.")
    peak = 1.0 if lr is None else as_number(lr, "lr")
    if peak <= 0:
        raise ScheduleError(f"lr is {peak:g}.", "Give the optimizer's lr, above 0.")
    return Imported(reader(**given), peak)


def from_lambda(fn: Callable[[int], float]) -> Schedule | None:
    """The native schedule of a function that transformers gave to LambdaLR; None where it is somebody else's.

    Also None where nothing native has its values: it is compared with the function first, in and past the run.
    """
    bare, given = (fn.func, dict(fn.keywords)) if isinstance(fn, partial) else (fn, {})
    reader = _LAMBDAS.get(getattr(bare, "__name__", ""))
    if reader is None or getattr(bare, "__module__", None) != "transformers.optimization":
        return None
    if "lr_init" in given:
        given["lr"] = given.pop("lr_init")
    try:
        schedule = reader(**given)
        last = 3 * max(fixed(schedule), given.get("num_training_steps", 0)) + 1000
        steps = np.unique(np.concatenate([np.arange(100), np.linspace(0, last, 1000).astype(np.int64)]))
        same = np.allclose(schedule.bind(last)(steps), [fn(t) for t in steps.tolist()], rtol=0, atol=1e-9)
    except (ScheduleError, TypeError, ArithmeticError):  # of another version, or a case that is refused by name
        return None
    return schedule if same else None


def refuse_metric(what: str, native: str) -> NoReturn:
    """Raise: what reads a metric is no function of the step."""
    raise ScheduleError(
        f"{what} follows a metric, so it is no function of the step.",
        f"Write eta.{native}(...), a factor that is told the metric, on top of any schedule.",
    )


# -------------------------------------------------------------------------------------- one name, one function


def _rise(steps: Any) -> tuple[Schedule, int]:
    """The warmup that most have: t / steps."""
    n = whole(steps, "num_warmup_steps", least=0)
    return warmup(n, start=0), n


def _then(up: Schedule, down: Schedule) -> Schedule:
    """Both, without a warmup of no steps."""
    return up >> down if fixed(up) else down


def _constant() -> Schedule:
    return constant()


def _constant_with_warmup(num_warmup_steps: Any) -> Schedule:
    return _then(_rise(num_warmup_steps)[0], constant())


def _linear(num_training_steps: Any, num_warmup_steps: Any) -> Schedule:
    up, n = _rise(num_warmup_steps)
    return _then(up, linear(max(whole(num_training_steps, "num_training_steps", least=0) - n, 0)) >> hold())


def _cosine(num_training_steps: Any, num_warmup_steps: Any, num_cycles: Any = 0.5) -> Schedule:
    return _cosine_to(num_training_steps, num_warmup_steps, num_cycles)


def _cosine_to(num_training_steps: Any, num_warmup_steps: Any, num_cycles: Any, min_lr_rate: float = 0) -> Schedule:
    up, n = _rise(num_warmup_steps)
    return _then(up, _wave(whole(num_training_steps, "num_training_steps", least=0) - n, num_cycles, min_lr_rate))


def _wave(steps: int, cycles: Any, floor: float, past: int = 0) -> Schedule:
    """`cycles` waves in so many steps, going on for ever; `past` steps of it are over when it begins."""
    if floor < 0:
        raise ScheduleError(
            f"The floor is {floor:g} of the peak, and transformers cuts what is below 0.", "Give a floor from 0 on."
        )
    every, turns = max(steps, 1), as_number(cycles, "num_cycles")
    return wave(every, to=floor, turns=turns, phase=turns * past / every)


def _cosine_with_restarts(num_training_steps: Any, num_warmup_steps: Any, num_cycles: Any = 1) -> Schedule:
    up, n = _rise(num_warmup_steps)
    steps = max(whole(num_training_steps, "num_training_steps", least=0) - n, 1)
    cycles = as_number(num_cycles, "num_cycles")
    if cycles < 0:
        raise ScheduleError(f"num_cycles is {cycles:g}.", "Give the number of cycles, from 0 on.")
    if cycles == 0:
        return _then(up, constant(steps) >> constant(value=0))
    share = Fraction(cycles)
    down = first(restarts(cycles=share.numerator, length=steps * share.denominator), steps)
    t = np.arange(steps)
    theirs = (1 + np.cos(np.pi * (cycles * (t / steps) % 1.0))) / 2
    if (missed := np.abs(theirs - down.bind(steps)(t)) > 0.5).any():
        raise ScheduleError(
            f"At step {n + missed.argmax()} transformers' rounding of {cycles:g} · progress misses a restart, "
            "and for that step the multiplier is 0, not 1.",
            f"Write warmup({n}, start=0) >> restarts(cycles={num_cycles}), which restarts at the peak.",
        )
    return _then(up, down >> constant(value=0))


def _polynomial(
    num_training_steps: Any, num_warmup_steps: Any, lr: float | None = None, lr_end: float = 1e-7, power: float = 1.0
) -> Schedule:
    peak = _known(lr, "lr_end", lr_end)
    up, n = _rise(num_warmup_steps)
    steps = whole(num_training_steps, "num_training_steps", least=0) - n
    if peak <= lr_end:
        raise ScheduleError(f"lr_end={lr_end:g} is not below lr={peak:g}.", "Give an lr_end below the lr.")
    if steps == 0:
        raise ScheduleError(
            f"transformers divides by zero at step {n}: the warmup is as long as the run.", "Give a shorter warmup."
        )
    if steps < 0:
        return _then(up, constant(value=lr_end / peak))
    to = lr_end / peak
    return _then(up, (linear(steps, to=to) if power == 1 else polynomial(steps, to=to, power=power)) >> hold())


def _inverse_sqrt(num_warmup_steps: Any, timescale: Any = None) -> Schedule:
    up, n = _rise(num_warmup_steps)
    return _then(up, inverse_sqrt(whole(n or 10_000 if timescale is None else timescale, "timescale", least=1)))


def _cosine_with_min_lr(
    num_training_steps: Any,
    num_warmup_steps: Any,
    lr: float | None = None,
    num_cycles: Any = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> Schedule:
    return _cosine_to(num_training_steps, num_warmup_steps, num_cycles, _floor(lr, min_lr, min_lr_rate))


def _cosine_warmup_with_min_lr(
    num_training_steps: Any,
    num_warmup_steps: Any,
    lr: float | None = None,
    num_cycles: Any = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Schedule:
    n, floor = whole(num_warmup_steps, "num_warmup_steps", least=0), _floor(lr, min_lr, min_lr_rate)
    steps = whole(num_training_steps, "num_training_steps", least=0) - n
    # Here the last step of the warmup has the peak already, and is the first of the cosine.
    if n == 0:
        return _wave(steps, num_cycles, floor, past=1)
    if warmup_lr_rate is None:
        return _then(warmup(n - 1), _wave(steps, num_cycles, floor))
    if n == 1:
        return constant(1, value=warmup_lr_rate) >> _wave(steps, num_cycles, floor, past=1)
    return warmup(n - 1, start=warmup_lr_rate) >> _wave(steps, num_cycles, floor)


def _wsd(
    num_warmup_steps: Any,
    num_decay_steps: Any,
    num_training_steps: Any = None,
    num_stable_steps: Any = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: Any = 0.5,
) -> Schedule:
    for kind in (warmup_type, decay_type):
        if kind not in ("linear", "cosine", "1-sqrt"):
            raise ScheduleError(f"{kind!r} is no type of warmup or decay.", "Give 'linear', 'cosine' or '1-sqrt'.")
    n, down = whole(num_warmup_steps, "num_warmup_steps", least=0), whole(num_decay_steps, "num_decay_steps", least=0)
    if num_stable_steps is None:
        if num_training_steps is None:
            raise ScheduleError(
                "Neither num_training_steps nor num_stable_steps says how long the stable phase is.", "Give one."
            )
        num_stable_steps = whole(num_training_steps, "num_training_steps", least=0) - n - down
        if num_stable_steps < 0:
            raise ScheduleError(
                f"Warmup and decay, {n} + {down} steps, are longer than the run of {num_training_steps}.",
                "Shorten one of them.",
            )
    stable, floor = whole(num_stable_steps, "num_stable_steps", least=0), as_number(min_lr_ratio, "min_lr_ratio")
    if floor < 0:
        raise ScheduleError(f"min_lr_ratio is {floor:g}, and transformers cuts what is below 0.", "Give 0 or more.")
    up: dict[str, Schedule] = {
        "linear": warmup(n, start=floor),
        "cosine": cosine(n, start=floor, to=1),
        "1-sqrt": polynomial(n, start=floor, to=1, power=0.5),
    }
    fall: dict[str, Schedule] = {
        "linear": linear(down, to=floor),
        "cosine": cosine(down, to=floor) if num_cycles == 0.5 else first(_wave(down, num_cycles, floor), down),
        "1-sqrt": sqrt_cooldown(down, to=floor),
    }
    phases = (up[warmup_type], constant(stable), fall[decay_type])
    return chain(*[*(phase for phase in phases if fixed(phase)), constant(value=floor)])


def _floor(lr: float | None, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The floor as a multiplier."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ScheduleError(
            f"transformers takes one of min_lr and min_lr_rate, and {'none' if min_lr is None else 'both'} is given.",
            "Give min_lr_rate=0.1, a fraction of the peak, or min_lr with lr=....",
        )
    if min_lr is None:
        return as_number(min_lr_rate, "min_lr_rate")
    return min_lr / _known(lr, "min_lr", min_lr)


def _known(lr: float | None, name: str, value: float) -> float:
    if lr is None:
        raise ScheduleError(
            f"{name}={value:g} is an lr, and a multiplier needs to know of which peak.", "Give the optimizer's: lr=...."
        )
    return as_number(lr, "lr")


_READERS: Mapping[str, Callable[..., Schedule]] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _wsd,
}
_METRIC = {"reduce_lr_on_plateau": "plateau", "greedy": "greedy"}
_LAMBDAS: Mapping[str, Callable[..., Schedule]] = {
    "_get_constant_lambda": _constant,
    "_get_constant_schedule_with_warmup_lr_lambda": _constant_with_warmup,
    "_get_linear_schedule_with_warmup_lr_lambda": _linear,
    "_get_cosine_schedule_with_warmup_lr_lambda": _cosine_to,
    "_get_cosine_with_hard_restarts_schedule_with_warmup_lr_lambda": _cosine_with_restarts,
    "_get_polynomial_decay_schedule_with_warmup_lr_lambda": _polynomial,
    "_get_inverse_sqrt_schedule_lr_lambda": _inverse_sqrt,
    "_get_cosine_with_min_lr_schedule_with_warmup_lr_rate_lambda": _cosine_warmup_with_min_lr,
    "_get_wsd_scheduler_lambda": _wsd,
}
