"""timm's schedulers as schedules. Knows them by their names, and imports no timm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Any

import numpy as np

from ..errors import ScheduleError
from ..schedules import (
    Schedule,
    as_schedule,
    constant,
    cosine,
    inverse_sqrt,
    inverse_time,
    linear,
    multistep,
    piecewise,
    polynomial,
    restarts,
    sqrt_cooldown,
    tanh,
    wave,
)
from ..schedules.units import as_number
from .building import chain, fall, flat, in_order, power_law, rise, whole
from .imported import Imported

__all__ = ["from_timm"]

_FAR = 10**9  # steps; no run is as long
_MOST_CYCLES = 200


def from_timm(scheduler: Any, group: int = 0) -> Imported:
    """A living timm scheduler's schedule, from its configuration alone.

    Its step is timm's t: the epoch that `step(t)` is given if `t_in_epochs` (timm's default), else the number of
    updates that `step_update(t)` is given. The value at t is what that call sets, for t = 0 too: before the first
    call timm has the initial lr, which Tanh and a milestone of 1 leave at once. What follows timm's last cycle is
    there; so bind to at least the original's own length, or bind raises.

    A restart that timm misses since its logarithm is rounded down (t = 121 for t_initial=1, cycle_mul=3) is missed
    here too.

    Args:
        scheduler: a Cosine-, Tanh-, Poly-, Step-, MultiStep- or WSDLRScheduler.
        group: which param group; its initial lr (times its lr_scale) is the peak.

    Raises:
        ScheduleError: noise; a PlateauLRScheduler; another class; cycles that shrink; what ends between two steps
            where the shape cannot; a group that is not there or has no lr.

    Source: timm 1.0.31, timm/scheduler.
    """
    kind = type(scheduler)
    name = kind.__name__ if kind.__module__.partition(".")[0] == "timm" else f"{kind.__module__}.{kind.__qualname__}"
    if name == "PlateauLRScheduler":
        raise ScheduleError(
            "timm's PlateauLRScheduler follows a metric, so it is no function of the step.",
            "Use eta.plateau(...) as a factor on the handle that eta.attach(...) returns.",
        )
    if name not in _MAIN:
        raise ScheduleError(
            f"{name} is no scheduler of timm that etascope reads.",
            f"Known are {', '.join(_MAIN)}. Give any other as a function of the step: as_schedule(function).",
        )
    if scheduler.noise_range_t is not None:
        raise ScheduleError(
            f"This {name} has noise, drawn by torch's generator at every t, which no schedule of etascope draws.",
            "Import it without noise_range_t, and multiply: imported.schedule * noise(0.1, seed=1).",
        )
    s = _Living(scheduler, name, group)
    warmup = whole(getattr(scheduler, "warmup_t", 0), "warmup_t")
    prefix = getattr(scheduler, "warmup_prefix", True)  # WSD has no such option, and is always so
    to = s.own(warmup) if name == "TanhLRScheduler" and not prefix else 1.0
    late = 0 if prefix else warmup
    schedule = chain(rise(warmup, s.of("warmup_lr_init"), to) if warmup else None, *_MAIN[name](s, late))
    s.prove(schedule, warmup - late)
    scale = as_number(scheduler.optimizer.param_groups[group].get("lr_scale", 1.0), "lr_scale")
    return Imported(schedule, s.base * scale)


@dataclass(frozen=True)
class _Living:
    """A scheduler, and the values of one group in multiples of its initial lr."""

    scheduler: Any
    name: str
    group: int

    def __post_init__(self) -> None:
        groups = len(self.scheduler.base_values)
        if not 0 <= self.group < groups:
            raise ScheduleError(f"group is {self.group}, and there are {groups}.", f"Give 0 to {groups - 1}.")
        if self.base <= 0:
            raise ScheduleError(
                f"The initial lr of group {self.group} is {self.base:g}, so there is no peak to multiply.",
                "Give the group an lr above 0.",
            )

    @property
    def base(self) -> float:
        return as_number(self.scheduler.base_values[self.group], "the initial lr")

    def get(self, name: str) -> float:
        """A number of the configuration."""
        return as_number(getattr(self.scheduler, name), name)

    def of(self, name: str) -> float:
        """An lr of the configuration, as a multiplier."""
        return self.get(name) / self.base

    def own(self, t: int) -> float:
        """What timm has at t, as a multiplier."""
        return as_number(self.scheduler._get_lr(t)[self.group] / self.base, f"{self.name}'s value at {t}")

    def _own(self, t: int) -> float:
        try:
            return self.own(t)
        except OverflowError:  # of Python's power, where NumPy's is infinite
            return math.inf

    def prove(self, schedule: Schedule, shift: int) -> None:
        """Compare with timm's own values where they may differ: another version may have changed a convention."""
        begins = _begins(self) if hasattr(self.scheduler, "cycle_limit") else iter(())
        ends = [begin.step + shift for begin in islice(begins, _MOST_CYCLES) if begin.at < _FAR]
        steps = {*range(64), *(t + d for t in ends for d in (-1, 0, 1, 2)), *(2**k for k in range(13))}
        t = np.array(sorted(steps - {-1}))
        with np.errstate(over="ignore"):
            wrong = ~np.isclose(schedule.bind(2 * _FAR)(t), [self._own(int(i)) for i in t], 1e-9, 1e-9)
        if wrong.any():
            raise ScheduleError(
                f"At t = {t[wrong][0]} this {self.name} has another value than the one that etascope reads.",
                "Its timm may be newer than 1.0.31; give it as a function of the step: as_schedule(function).",
            )


# ------------------------------------------------------------------------------ what comes after the warmup
# Each takes the t at which it is entered: 0 where the warmup is a prefix, else the t after the warmup.


@dataclass(frozen=True)
class _Begin:
    """Cycle i of `size` begins at `at`, whole or not."""

    i: int
    at: float
    size: float

    @property
    def step(self) -> int:
        """Its first step; cycles begin where timm's arithmetic says, up to its rounding."""
        return math.ceil(self.at - 1e-9)


def _begins(s: _Living) -> Iterator[_Begin]:
    """The cycles of a Cosine-, Tanh- or PolyLRScheduler up to one beyond any run; where they all end, as a last one."""
    mul, first, limit = s.get("cycle_mul"), s.get("t_initial"), whole(s.scheduler.cycle_limit, "cycle_limit")
    if mul < 1:
        raise ScheduleError(
            f"cycle_mul is {mul:g}: the cycles shrink, and after t = {first / (1 - max(mul, 0)):g} timm itself raises.",
            "Give cycle_mul of at least 1.",
        )
    for i in range(limit + 1):
        at = i * first if mul == 1 else (1 - mul**i) / (1 - mul) * first
        yield _Begin(i, at, mul**i * first)
        if at > _FAR:
            return


def _late(s: _Living, begin: _Begin, enter: int) -> bool:
    """Whether timm misses this restart: the floor of a rounded logarithm is one too low there."""
    mul, t = s.get("cycle_mul"), begin.step
    if mul == 1 or begin.i == 0 or t < enter:
        return False
    return math.floor(math.log(1 - t / s.get("t_initial") * (1 - mul), mul)) < begin.i


def _cycles(s: _Living, enter: int) -> list[Schedule | None]:
    """The cycles that are left from `enter` on, then the floor."""
    to, first = s.of("lr_min"), s.get("t_initial")
    if s.name == "CosineLRScheduler" and s.get("k_decay") == 1 and enter == 0 and first == int(first):
        if s.get("cycle_mul") == 1 and s.scheduler.cycle_limit > 1:
            return _even_restarts(s, to)
        if s.scheduler.cycle_limit > 1:
            return _restarts(s, to)
    begins = list(islice(_begins(s), _MOST_CYCLES + 2))
    if len(begins) > _MOST_CYCLES + 1 or begins[-1].at > _FAR:
        raise ScheduleError(
            f"This {s.name} has cycle_limit={s.scheduler.cycle_limit}, and each of its cycles is a phase.",
            f"Lower cycle_limit to the cycles that the run has, at most {_MOST_CYCLES}.",
        )
    phases: list[Schedule | None] = []
    for this, following in pairwise(begins):
        t0, t1 = max(this.step, enter), following.step
        if t1 <= t0:
            continue
        phase = _PIECES[s.name](s, _Piece(this, t0, t1), s.get("cycle_decay") ** this.i, to)
        phases.append(phase * _without(s, [this], [phase(0)], t0, t1 - t0) if _late(s, this, enter) else phase)
    if begins[-1].i and begins[-1].step >= enter and _late(s, begins[-1], enter):
        phases.append(flat(1, s.own(begins[-1].step + _shift(s))))
    return [*phases, constant(value=to)]


def _shift(s: _Living) -> int:
    """By how much timm's t is ahead of the cycles' own."""
    return whole(s.scheduler.warmup_t, "warmup_t") if s.scheduler.warmup_prefix else 0


def _without(s: _Living, missed: list[_Begin], peaks: list[float], t0: int, length: int | None) -> Schedule:
    """A factor, from t0 on, that makes of the peaks at missed restarts what timm has there."""
    at = [t - t0 for begin in missed for t in (begin.step, begin.step + 1)]
    values = [v for b, peak in zip(missed, peaks, strict=True) for v in (s.own(b.step + _shift(s)) / (peak or 1), 1.0)]
    return piecewise(tuple(at), (1.0, *values), length=length)


def _even_restarts(s: _Living, to: float) -> list[Schedule | None]:
    every = int(s.get("t_initial"))
    length = every * int(s.scheduler.cycle_limit)
    shape = restarts(every, peak_factor=s.get("cycle_decay"), to=to, length=length)
    return [shape, constant(value=to)] if length < _FAR else [replace(shape, length=None)]


def _restarts(s: _Living, to: float) -> list[Schedule | None]:
    begins, decay = list(_begins(s)), s.get("cycle_decay")
    length = None if begins[-1].at > _FAR else begins[-1].step
    every = int(s.get("t_initial"))
    shape: Schedule = restarts(every, growth=s.get("cycle_mul"), peak_factor=decay, to=to, length=length)
    if missed := [b for b in begins[1:-1] if _late(s, b, 0)]:
        shape = shape * _without(s, missed, [decay**b.i for b in missed], 0, length)
    return [shape, None if length is None else constant(value=to)]


@dataclass(frozen=True)
class _Piece:
    """What is had of a cycle: its steps from t0 up to t1."""

    cycle: _Begin
    t0: int
    t1: int

    @property
    def n(self) -> int:
        return self.t1 - self.t0

    @property
    def q0(self) -> float:
        """The progress in the cycle where the piece begins."""
        return _tidy((self.t0 - self.cycle.at) / self.cycle.size)

    @property
    def q1(self) -> float:
        """The progress where it ends."""
        return _tidy((self.t1 - self.cycle.at) / self.cycle.size)

    @property
    def is_all(self) -> bool:
        return (self.q0, self.q1) == (0, 1)


def _tidy(q: float) -> float:
    return round(q) if abs(q - round(q)) < 1e-13 else q


def _cosine_piece(s: _Living, p: _Piece, start: float, to: float) -> Schedule:
    k, size = s.get("k_decay"), p.cycle.size
    if p.is_all:
        return cosine(p.n, start=start, to=to, k=k)
    _only_whole(k == 1, f"a cosine with k_decay={k:g}")
    if size == int(size):
        return wave(int(size), start=start, to=to, phase=p.q0 / 2, length=p.n)
    return wave(p.n, start=start, to=to, turns=(p.q1 - p.q0) / 2, phase=p.q0 / 2, length=p.n)


def _tanh_piece(s: _Living, p: _Piece, start: float, to: float) -> Schedule:
    lower, upper = (s.get("lb") * (1 - q) + s.get("ub") * q for q in (p.q0, p.q1))  # part of a tanh is a tanh
    return tanh(p.n, start=start, to=to, lower=lower, upper=upper)


def _poly_piece(s: _Living, p: _Piece, start: float, to: float) -> Schedule:
    power, k = s.get("power"), s.get("k_decay")
    if power == k == 1:
        first, last = (start * (1 - q) + to * q for q in (p.q0, p.q1))
        return linear(p.n, start=first, to=last)
    if p.is_all:
        return polynomial(p.n, start=start, to=to, power=power, k=k)
    _only_whole(k == 1 and p.q1 == 1, f"a polynomial with power={power:g} and k_decay={k:g}")
    return power_law(p.n, to + (start - to) * (1 - p.q0) ** power, to, power)


def _only_whole(fits: bool, what: str) -> None:
    if not fits:
        raise ScheduleError(
            f"timm enters {what} in the middle of a cycle, or ends it between two steps: no shape is a part of it.",
            "Give warmup_prefix=True (the warmup in front of the cycle), and whole t_initial and cycle_mul.",
        )


def _step(s: _Living, enter: int) -> list[Schedule | None]:
    every, rate = whole(s.scheduler.decay_t, "decay_t"), s.get("decay_rate")
    drops, into = divmod(enter, every)
    if not into:
        return [fall(rate**drops, rate, every, staircase=True)]
    return [flat(every - into, rate**drops), fall(rate ** (drops + 1), rate, every, staircase=True)]


def _multistep(s: _Living, enter: int) -> list[Schedule | None]:
    at = [as_number(t, "decay_t") for t in s.scheduler.decay_t]
    in_order(at, "The milestones decay_t")
    return [multistep(tuple(max(math.ceil(t) - 1 - enter, 0) for t in at), factor=s.get("decay_rate"))]


def _wsd(s: _Living, enter: int) -> list[Schedule | None]:
    own, to = s.scheduler, s.of("lr_min")
    down = whole(own.decay_t, "decay_t")
    stable = whole(own.t_initial, "t_initial") - down
    if own.stable_fn == "constant":
        level = max(1.0, to)
        return [flat(stable, level), *_wsd_decay(s, level, to, down)]
    power = 0.5 if own.stable_fn == "rsqrt" else s.get("stable_power")
    if to or power not in (0.5, 1.0) or callable(own.decay_fn):
        raise ScheduleError(
            f"WSDLRScheduler(stable_fn={own.stable_fn!r}, stable_power={power:g}, lr_min={s.get('lr_min'):g}) is no "
            "product of a fall by 1/√t or 1/t and a decay.",
            "Give lr_min=0, stable_power of 0.5 or 1 and a named decay_fn; or stable_fn='constant'.",
        )
    tau = s.get("stable_timescale")
    if power == 0.5:
        slow: Schedule = inverse_sqrt(whole(tau, "stable_timescale"))
    else:
        slow = inverse_time(1, rate=1 / tau)
    return [slow * chain(flat(stable, 1.0), *_wsd_decay(s, 1.0, 0.0, down))]


def _wsd_decay(s: _Living, start: float, to: float, n: int) -> list[Schedule | None]:
    fn = s.scheduler.decay_fn
    if callable(fn):
        decayed = _Decayed(fn, start, to, n)
        return [as_schedule(decayed)]
    if fn == "exp":
        raise ScheduleError(
            "WSDLRScheduler(decay_fn='exp') is an exponential pulled down by its last value, which no shape is.",
            "Use decay_fn='1-sqrt'; or build it with exponential(..., to=0.1), which stops at its last value.",
        )
    shapes = {
        "linear": linear(n, start=start, to=to),
        "1-sqrt": sqrt_cooldown(n, start=start, to=to),
        "cosine": cosine(n, start=start, to=to),
        "power": polynomial(n, start=start, to=to, power=1, k=s.get("decay_power")),
    }
    return [shapes[fn], constant(value=to)]


@dataclass(frozen=True)
class _Decayed:
    """A user's own decay_fn as timm applies it."""

    fn: Callable[[float], float]
    start: float
    to: float
    n: int

    def __call__(self, u: int) -> float:
        return self.start if u == 0 else self.to + (self.start - self.to) * self.fn(min(u / self.n, 1.0))


_PIECES: dict[str, Callable[[_Living, _Piece, float, float], Schedule]] = {
    "CosineLRScheduler": _cosine_piece,
    "TanhLRScheduler": _tanh_piece,
    "PolyLRScheduler": _poly_piece,
}
_MAIN: dict[str, Callable[[_Living, int], list[Schedule | None]]] = {
    **dict.fromkeys(_PIECES, _cycles),
    "StepLRScheduler": _step,
    "MultiStepLRScheduler": _multistep,
    "WSDLRScheduler": _wsd,
}
