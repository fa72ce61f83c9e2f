"""One torch scheduler, one reader: what each does to the lr of a param group, as a native schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, TypeAlias

from ..errors import ScheduleError
from ..schedules import (
    Foreign,
    Schedule,
    constant,
    cosine,
    exp_range,
    exponential,
    hold,
    linear,
    multistep,
    one_cycle,
    piecewise,
    polynomial,
    restarts,
    step_decay,
    triangular,
    warmup,
    wave,
)
from .building import whole
from .imported import Imported
from .transformers import from_lambda, refuse_metric

__all__ = ["RELATIVE", "Start", "alone", "base_lr", "kind_of", "momentum", "refuse"]

How: TypeAlias = Literal["built", "entered", "stepped"]


@dataclass(frozen=True)
class Start:
    """How a scheduler comes to its step 0.

    Attributes:
        lr: what stands in the group before it.
        how: "built" by its constructor; "entered" at a milestone, where torch takes the closed form and the base
            lr if there are any; "stepped" by an ordinary step, as the first of an inner SequentialLR.
        ahead: by how many steps an inner SequentialLR is then ahead of the run.
    """

    lr: float
    how: How = "built"
    ahead: int = 0


def alone(scheduler: Any, group: int, start: Start | None = None) -> Imported:
    """The schedule of a scheduler that is not made of others, its last phase open.

    Raises:
        ScheduleError: what torch itself raises at, or no multiple of an lr can say.
    """
    if group >= len(scheduler.base_lrs):
        raise refuse(
            scheduler,
            f"param group {group} was added after it was built, and torch fails at its next step.",
            "Build the scheduler after add_param_group.",
        )
    imported = _READERS[kind_of(scheduler)](scheduler, group, start or Start(base_lr(scheduler, group)))
    if not imported.lr:
        raise refuse(
            scheduler,
            f"the lr of param group {group} is 0, and no schedule is a multiple of 0.",
            "Give the optimizer an lr above 0 before the scheduler is built.",
        )
    return imported


def kind_of(scheduler: Any) -> str:
    """The name of its class, known to be torch's.

    Raises:
        ScheduleError: it is of another class, or follows a metric.
    """
    cls = type(scheduler)
    known = cls.__module__ in ("torch.optim.lr_scheduler", "torch.optim.swa_utils")
    if known and cls.__name__ in (*_READERS, *_COMPOSED):
        return cls.__name__
    if known and cls.__name__ == "ReduceLROnPlateau":
        refuse_metric("ReduceLROnPlateau", "plateau")
    if cls.__name__ == "GreedyLR":
        refuse_metric("GreedyLR", "greedy")
    parents = [base.__name__ for base in cls.__mro__[1:] if base.__module__.startswith("torch.optim.")]
    what = f"a subclass of {parents[0]}, which may do anything" if parents else "no scheduler of torch"
    raise ScheduleError(
        f"{cls.__module__}.{cls.__qualname__} is {what}.",
        "Give the torch scheduler that it wraps, or write its formula: as_schedule(lambda step: ...).",
    )


def refuse(scheduler: Any, cause: str, next_move: str) -> ScheduleError:
    """The error to raise for this scheduler."""
    return ScheduleError(f"{type(scheduler).__name__}: {cause}", next_move)


def base_lr(scheduler: Any, group: int) -> float:
    """What it keeps as the lr that it started from."""
    return float(scheduler.base_lrs[group])


def _anchor(scheduler: Any, group: int, start: Start) -> float:
    """What a scheduler that multiplies the present lr begins from."""
    return base_lr(scheduler, group) if start.how == "entered" else start.lr


def _over(value: float, peak: float) -> float:
    """`value` as a multiple of the peak; of a peak of 0, which is refused later, anything."""
    return float(value) / peak if peak else 0.0


def _lambda(scheduler: Any, group: int, start: Start) -> Imported:
    fn = scheduler.lr_lambdas[group]
    return Imported(from_lambda(fn) or Foreign(fn), base_lr(scheduler, group))


@dataclass(frozen=True)
class Product:
    """The product of fn(begin), fn(begin + 1) … fn(t): what MultiplicativeLR multiplies the first lr by."""

    fn: Callable[[int], float]
    begin: int
    known: list[float] = field(default_factory=list, compare=False, repr=False)

    def __call__(self, step: int) -> float:
        """The product at `step`; each factor is asked for once."""
        for t in range(len(self.known), step + 1):
            last = self.known[-1] if self.known else 1.0
            self.known.append(last * float(self.fn(t)) if t >= self.begin else last)
        return self.known[step]


def _multiplicative(scheduler: Any, group: int, start: Start) -> Imported:
    # The constructor leaves fn(0) out; a step to 0 does not.
    product = Foreign(Product(scheduler.lr_lambdas[group], int(start.how == "built")))
    return Imported(product, start.lr) if start.lr else Imported(constant(value=0), base_lr(scheduler, group))


def _step(scheduler: Any, group: int, start: Start) -> Imported:
    if not scheduler.step_size:
        raise refuse(scheduler, "step_size is 0, by which torch divides at step 1.", "Give a step_size above 0.")
    every = Fraction(abs(scheduler.step_size)).numerator  # torch drops where step % step_size is 0, so 2.5 is every 5
    return Imported(step_decay(every, factor=float(scheduler.gamma)), _anchor(scheduler, group, start))


def _multistep(scheduler: Any, group: int, start: Start) -> Imported:
    at = sorted(scheduler.milestones.elements())
    if start.how == "entered":  # the closed form counts what lies before
        at = [max(m, 0) for m in at if m <= 0 or m == int(m)]
    at = [int(m) for m in at if m >= 0 and m == int(m)]
    schedule = multistep(tuple(at), factor=float(scheduler.gamma)) if at else constant()
    return Imported(schedule, _anchor(scheduler, group, start))


def _constant(scheduler: Any, group: int, start: Start) -> Imported:
    n, factor = scheduler.total_iters, float(scheduler.factor)
    if n > 0 and n == int(n):
        if factor == 0:
            raise refuse(
                scheduler, f"factor is 0, by which torch divides at step {n}.", "Give a factor above 0, such as 1e-8."
            )
        schedule: Schedule = piecewise((int(n),), (factor, 1.0))
    else:  # a step that never comes, or (0) is over when the factor is applied
        schedule = constant(value=1.0 if n <= 0 and start.how == "entered" else factor)
    return Imported(schedule, _anchor(scheduler, group, start))


def _linear(scheduler: Any, group: int, start: Start) -> Imported:
    total, low, high = scheduler.total_iters, float(scheduler.start_factor), float(scheduler.end_factor)
    if total < 0 or (total == 0 and start.how == "entered"):
        raise refuse(scheduler, f"total_iters is {total}, with which torch has no line.", "Give a total_iters above 0.")
    n = math.floor(total)  # torch takes the last whole step of the line, and stays
    to = high if n == total else low + (high - low) * n / total
    schedule: Schedule
    if n == 0:
        schedule = constant(value=low)
    elif to == 1:
        schedule = warmup(n, start=low) >> constant()
    else:
        schedule = linear(n, start=low, to=to) >> hold()
    return Imported(schedule, _anchor(scheduler, group, start))


def _exponential(scheduler: Any, group: int, start: Start) -> Imported:
    gamma = float(scheduler.gamma)
    if gamma <= 0:
        raise refuse(scheduler, f"gamma is {gamma:g}, and no exponential reaches 0.", "Give a gamma above 0.")
    lr = _anchor(scheduler, group, start) * (gamma if start.how == "stepped" else 1)
    return Imported(constant() if gamma == 1 else exponential(factor=gamma), lr)


def _polynomial(scheduler: Any, group: int, start: Start) -> Imported:
    n, power = whole(scheduler.total_iters, "total_iters", least=0), float(scheduler.power)
    if (n == 0 and start.how != "built") or power < 0:
        raise refuse(
            scheduler, f"with total_iters={n} and power={power:g} torch divides by zero.", "Give both above 0."
        )
    lr = _anchor(scheduler, group, start) * ((n / (n + 1)) ** power if start.how == "stepped" else 1)
    if n == 0 or power == 0:
        return Imported(constant(), lr)
    return Imported((linear(n) if power == 1 else polynomial(n, power=power)) >> hold(), lr)


def _cosine(scheduler: Any, group: int, start: Start) -> Imported:
    # Torch steps from value to value, and only where it leaves a valley it asks for the base lr.
    n, low, base = whole(scheduler.T_max, "T_max", least=1), float(scheduler.eta_min), base_lr(scheduler, group)
    crest = _anchor(scheduler, group, start)
    if start.how == "stepped":
        if n == 1:
            raise refuse(scheduler, "T_max=1 in an inner SequentialLR starts above its crest.", "Give a T_max above 1.")
        crest = low + (crest - low) * 2 / (1 + math.cos(math.pi / n))
    if crest == base:
        return Imported(wave(n, to=_over(low, base)), base)
    first_fall = cosine(n, start=_over(crest, base), to=_over(low, base))
    return Imported(first_fall >> wave(n, start=_over(low, base), to=1), base)


def _warm_restarts(scheduler: Any, group: int, start: Start) -> Imported:
    base = base_lr(scheduler, group)
    schedule = restarts(int(scheduler.T_0), growth=float(scheduler.T_mult), to=_over(scheduler.eta_min, base))
    return Imported(schedule, base)


def _swa(scheduler: Any, group: int, start: Start) -> Imported:
    if start.how == "stepped":
        raise refuse(
            scheduler,
            "in an inner SequentialLR it begins one step late.",
            "Put it into the outer one.",
        )
    n, base = scheduler.anneal_epochs, base_lr(scheduler, group)
    to = _over(float(scheduler.optimizer.param_groups[group]["swa_lr"]), base)
    line = linear if scheduler._anneal_strategy == "linear" else cosine
    return Imported(line(n, start=_over(start.lr, base), to=to) >> hold() if n else constant(value=to), base)


def _cyclic(scheduler: Any, group: int, start: Start) -> Imported:
    return _triangle(scheduler, base_lr(scheduler, group), float(scheduler.max_lrs[group]))


@dataclass(frozen=True)
class Scaled:
    """Triangles whose heights a function scales: (low + (top − low) · h(t) · fn) / top, as CyclicLR has them."""

    fn: Callable[[Any], float]
    of_cycle: bool
    low: float
    top: float
    total: float
    rise: float

    def __call__(self, step: int) -> float:
        """The multiple of the top at `step`."""
        cycle = math.floor(1 + step / self.total)
        x = 1 + step / self.total - cycle
        height = x / self.rise if x <= self.rise else (x - 1) / (self.rise - 1)
        return (self.low + (self.top - self.low) * height * self.fn(cycle if self.of_cycle else step)) / self.top


def _triangle(scheduler: Any, low: float, top: float) -> Imported:
    """Triangles from `low` to `top`; `top` may be the lower one."""
    if scheduler._scale_fn_custom is not None:
        of_cycle = scheduler.scale_mode == "cycle"
        scaled = Scaled(scheduler._scale_fn_custom, of_cycle, low, top, scheduler.total_size, scheduler.step_ratio)
        return Imported(Foreign(scaled) if top else constant(), top)
    period = whole(scheduler.total_size, "step_size_up + step_size_down", least=1)
    valley, rise = _over(low, top), scheduler.step_ratio
    if scheduler.mode == "exp_range":
        return Imported(exp_range(period, factor=float(scheduler.gamma), low=valley, rise=rise), top)
    factor = 0.5 if scheduler.mode == "triangular2" else 1.0
    return Imported(triangular(period, low=valley, peak_factor=factor, rise=rise), top)


def _one_cycle(scheduler: Any, group: int, start: Start) -> Imported:
    values = scheduler.optimizer.param_groups[group]
    return _cycle(scheduler, float(values["initial_lr"]), float(values["max_lr"]), float(values["min_lr"]))


def _cycle(scheduler: Any, begin: float, top: float, end: float) -> Imported:
    """One cycle, and the value of the one step more that torch allows."""
    n, phases = scheduler.total_steps, scheduler._schedule_phases
    linear_ = scheduler._anneal_func_type == "linear"
    three = len(phases) == 3
    peak = (Fraction(phases[0]["end_step"]) + 1).limit_denominator(10**12)
    if three and 2 * peak > n:
        raise refuse(
            scheduler,
            f"its second phase ends at step {float(2 * peak) - 2:g}, past its {n} steps.",
            "With three_phase=True give a pct_start of at most 0.5.",
        )
    shape: dict[str, Any] = {
        "start": _over(begin, top),
        "to": _over(end, top),
        "by": "linear" if linear_ else "cosine",
        "three_phase": three,
        "at_last": True,
    }
    schedule: Schedule
    if peak.denominator == 1:
        schedule = one_cycle(int(peak), length=n, **shape)
    else:  # a peak between two steps: a part of these n steps, whatever the horizon will be
        part = Decimal(peak.numerator) / Decimal(peak.denominator) / n * 100
        schedule = one_cycle(f"{part.normalize():f}%", **shape).bind(n)
    since = phases[-2]["end_step"]
    if since == n - 1:  # no last phase, and torch divides by its length at step n
        return Imported(schedule >> hold(), top)
    before = begin if three else top
    p = (n - since) / (n - 1 - since)
    w = p if linear_ else (1 - math.cos(math.pi * p)) / 2
    return Imported(schedule >> constant(value=_over(before + (end - before) * w, top)), top)


def momentum(scheduler: Any, group: int, key: str) -> Imported:
    """What CyclicLR and OneCycleLR do to the momentum ("momentum" or "beta1"): high where the lr is low.

    Raises:
        ScheduleError: the scheduler does not cycle `key`, or cycles it to 0.
    """
    name = kind_of(scheduler)
    if name not in ("CyclicLR", "OneCycleLR") or key not in ("momentum", "beta1"):
        raise refuse(
            scheduler,
            f"it has no {key!r}.",
            'Give key="lr" (the default); CyclicLR and OneCycleLR also have "momentum" or "beta1".',
        )
    if not scheduler.cycle_momentum:
        raise refuse(scheduler, "it was built with cycle_momentum=False.", 'Give key="lr".')
    if (right := "beta1" if scheduler.use_beta1 else "momentum") != key:
        raise refuse(scheduler, f"with this optimizer it cycles {right}, not {key}.", f'Give key="{right}".')
    if name == "CyclicLR":
        least, most = float(scheduler.base_momentums[group]), float(scheduler.max_momentums[group])
        imported = _triangle(scheduler, most, least)
    else:
        values = scheduler.optimizer.param_groups[group]
        least, most = float(values["base_momentum"]), float(values["max_momentum"])
        imported = _cycle(scheduler, most, least, most)
    if not least * most:
        raise refuse(
            scheduler,
            f"it cycles {key} between {least:g} and {most:g}, and no schedule is a multiple of 0.",
            "Give a base_momentum above 0, such as 1e-6.",
        )
    return Imported((least / most) * imported.schedule, most)


_COMPOSED = ("SequentialLR", "ChainedScheduler")
_READERS: Mapping[str, Callable[[Any, int, Start], Imported]] = {
    "LambdaLR": _lambda,
    "MultiplicativeLR": _multiplicative,
    "StepLR": _step,
    "MultiStepLR": _multistep,
    "ConstantLR": _constant,
    "LinearLR": _linear,
    "ExponentialLR": _exponential,
    "PolynomialLR": _polynomial,
    "CosineAnnealingLR": _cosine,
    "CosineAnnealingWarmRestarts": _warm_restarts,
    "CyclicLR": _cyclic,
    "OneCycleLR": _one_cycle,
    "SWALR": _swa,
}
RELATIVE = frozenset(
    {"MultiplicativeLR", "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR"}
)  # those that only multiply what stands in the group
