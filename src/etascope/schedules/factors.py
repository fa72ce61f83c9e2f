"""Metric-driven factors: policies that lower or raise `handle.scale` as a metric comes in. Loads no torch.

A factor is a frozen value with two pure methods, `init() -> state` and `observe(state, metric) -> (state, factor)`.
What it returns multiplies the scale of the lr, so it composes with any schedule and any other factor.

>>> policy = plateau(factor=0.5, patience=2)
>>> state, scale = policy.init(), 1.0
>>> for loss in (0.9, 0.9, 0.9, 0.9):
...     state, factor = policy.observe(state, loss)
...     scale *= factor
...     print(scale, end=" ")
1.0 1.0 1.0 0.5
"""

from __future__ import annotations

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, SupportsFloat, TypeVar

from .._json import decode_fields, encode
from ..errors import ScheduleError
from .units import as_count, as_number

__all__ = ["Factor", "GreedyState", "PlateauState", "greedy", "plateau"]

S = TypeVar("S")
Mode = Literal["min", "max"]


class Factor(ABC, Generic[S]):
    """A policy from metrics to factors of the lr. A new one is a frozen dataclass (`repr=False`) with a `State`.

    `State` is a frozen dataclass of plain data: it is saved with the handle as JSON.
    """

    State: ClassVar[type[Any]]
    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Factor[Any]]]] = {}

    def __init_subclass__(cls) -> None:
        """Enter the class under its name, for `from_json`."""
        cls.kind = cls.__name__.lower()
        Factor._kinds[cls.kind] = cls

    @abstractmethod
    def init(self) -> S:
        """The state before the first metric."""

    @abstractmethod
    def observe(self, state: S, metric: SupportsFloat) -> tuple[S, float]:
        """The next state, and what the scale is multiplied by: 1.0 is nothing."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `Factor.from_json` reads."""
        return {"kind": self.kind} | {f.name: encode(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Factor[Any]:
        """The factor that `to_json` wrote.

        Raises:
            ScheduleError: an unknown kind or field, or a bad value.

        >>> Factor.from_json({"kind": "plateau", "patience": 3})
        plateau(patience=3)
        """
        kind = data.get("kind") if isinstance(data, Mapping) else data
        if not isinstance(kind, str) or kind not in Factor._kinds:
            raise ScheduleError(f"{kind!r} is no kind of factor.", f"Known kinds: {', '.join(sorted(Factor._kinds))}.")
        given = {key: value for key, value in data.items() if key != "kind"}
        known = [f.name for f in fields(Factor._kinds[kind])]  # type: ignore[arg-type]  # they are dataclasses
        if unknown := sorted(given.keys() - set(known)):
            raise ScheduleError(f"A {kind} has no field {', '.join(unknown)}.", f"Its fields are {', '.join(known)}.")
        return Factor._kinds[kind](**given)

    def state_from_json(self, data: Mapping[str, Any]) -> S:
        """The state of this factor from plain data.

        Raises:
            ValueError: a field is missing or of another kind.
        """
        state: S = decode_fields(self.State, data, "state")
        return state

    def __repr__(self) -> str:
        """The constructor's call, defaults left out."""
        shown = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]  # type: ignore[arg-type]
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value, default in shown if value != default)})"


@dataclass(frozen=True)
class PlateauState:
    """What a plateau remembers: the best metric (None: none yet), metrics without improvement, cooldown left, scale."""

    best: float | None = None
    bad: int = 0
    cooling: int = 0
    scale: float = 1.0


@dataclass(frozen=True, repr=False)
class plateau(Factor[PlateauState]):
    """Multiply the lr by `factor` when a metric has not improved for more than `patience` observations.

    m improves on the best b if m < b − threshold · |b| (relative) or m < b − threshold; for mode "max", m > b + ….
    With |b| it is right for negative metrics too, where torch's b · (1 − threshold) never fires. A metric that is not
    finite (NaN, inf) is no improvement. The first finite metric is the first best.

    For the behaviour of Keras and optax, which reduce one observation earlier, write their patience less 1:
    `plateau(patience=n - 1)`, where Keras' patience 0 is its patience 1.

    Args:
        factor: what the lr is multiplied by, between 0 and 1; default 0.1.
        patience: observations without improvement that are borne; default 10.
        threshold: the least improvement that counts; default 1e-4.
        mode: "min" (default) if lower is better, "max" if higher.
        relative: whether the threshold is a fraction of |best| (default) or a difference.
        cooldown: observations after a reduction that do not count as bad; default 0.
        least: the scale that it does not go below, a fraction of the peak; default 0.

    Source: `torch.optim.lr_scheduler.ReduceLROnPlateau`; equal to it on positive metrics.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    mode: Mode = "min"
    relative: bool = True
    cooldown: int = 0
    least: float = 0.0

    State = PlateauState

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        _check(self, counts=("patience", "cooldown"), numbers=("factor", "threshold", "least"))
        _within(self, "factor", 0, 1, strictly=True)
        _within(self, "least", 0, 1)

    def init(self) -> PlateauState:
        return PlateauState()

    def observe(self, state: PlateauState, metric: SupportsFloat) -> tuple[PlateauState, float]:
        m = float(metric)
        better = _better(m, state.best, self.mode, self.threshold, self.relative)
        bad = 0 if better or state.cooling else state.bad + 1
        after = replace(state, best=m if better else state.best, bad=bad, cooling=max(0, state.cooling - 1))
        if bad <= self.patience:
            return after, 1.0
        # A scale below `least`, as another configuration may have left it, is not raised.
        scale = min(state.scale, max(state.scale * self.factor, self.least))
        return replace(after, bad=0, cooling=self.cooldown, scale=scale), _by(self.factor, state.scale, scale)


@dataclass(frozen=True)
class GreedyState:
    """What a greedy remembers; `seen` are the metrics of the window and `total` their running sum."""

    best: float | None = None
    good: int = 0
    bad: int = 0
    cooling: int = 0
    warming: int = 0
    scale: float = 1.0
    at_least: int = 0
    seen: tuple[float, ...] = ()
    total: float = 0.0


@dataclass(frozen=True, repr=False)
class greedy(Factor[GreedyState]):
    """Divide the lr by `factor` while a metric improves, multiply it by `factor` while it does not.

    More than `patience` improvements in a row raise it, more than `patience` observations without one lower it.
    What an improvement is, and what a metric that is not finite does, is as in `plateau`.

    Args:
        factor: between 0 and 1; default 0.95.
        patience: observations in a row that are borne before either; default 10.
        threshold: the least improvement that counts; default 1e-6.
        mode: "min" (default) if lower is better, "max" if higher.
        relative: whether the threshold is a fraction of |best|, or (default) a difference.
        cooldown: observations after lowering that are passed over; default 0.
        warmup: observations after raising that are passed over; default 0.
        least, most: bounds of the scale, multiples of the peak; default 0.01 and 10.
        window: the metrics that are averaged before they are judged; default 1, none but the last.
        reset_after: reductions at `least` after which it starts anew at scale 1; default 500.

    Source: `transformers.GreedyLR`, https://arxiv.org/abs/2512.14527, where the bounds are lrs, not multiples.
    """

    factor: float = 0.95
    patience: int = 10
    threshold: float = 1e-6
    mode: Mode = "min"
    relative: bool = False
    cooldown: int = 0
    warmup: int = 0
    least: float = 0.01
    most: float = 10.0
    window: int = 1
    reset_after: int = 500

    State = GreedyState

    def __post_init__(self) -> None:
        """Check and normalise the fields."""
        _check(self, counts=("patience", "cooldown", "warmup"), numbers=("factor", "threshold", "least", "most"))
        for name in ("window", "reset_after"):
            object.__setattr__(self, name, as_count(getattr(self, name), f"greedy({name}=...)", least=1))
        _within(self, "factor", 0, 1, strictly=True)
        _within(self, "least", 0, 1)
        _within(self, "most", 1, math.inf)

    def init(self) -> GreedyState:
        return GreedyState()

    def observe(self, state: GreedyState, metric: SupportsFloat) -> tuple[GreedyState, float]:
        m = float(metric)
        if math.isfinite(m):
            seen, total = (*state.seen, m), state.total + m
            if len(seen) > self.window:
                seen, total = seen[1:], total - seen[0]
            state = replace(state, seen=seen, total=total)
            m = total / len(seen) if self.window > 1 else m
        if state.cooling or state.warming:
            cooling = max(0, state.cooling - 1)
            warming = state.warming if state.cooling else state.warming - 1
            return replace(state, cooling=cooling, warming=warming, good=0, bad=0), 1.0
        if _better(m, state.best, self.mode, self.threshold, self.relative):
            state = replace(state, best=m, good=state.good + 1, bad=0)
        else:
            state = replace(state, good=0, bad=state.bad + 1)
        if state.good > self.patience:
            by = 1 / self.factor
            scale = max(state.scale, min(state.scale * by, self.most))
            return replace(state, good=0, warming=self.warmup, at_least=0, scale=scale), _by(by, state.scale, scale)
        if state.bad > self.patience:
            return self._lower(state)
        return state, 1.0

    def _lower(self, state: GreedyState) -> tuple[GreedyState, float]:
        least = max(self.least, sys.float_info.min)  # at 0 it would stay for good
        scale = min(state.scale, max(state.scale * self.factor, least))
        at_least = state.at_least + 1 if scale <= least else state.at_least
        if at_least >= self.reset_after:
            return GreedyState(cooling=self.cooldown), 1 / state.scale
        return replace(state, bad=0, cooling=self.cooldown, scale=scale, at_least=at_least), _by(
            self.factor, state.scale, scale
        )


def _better(m: float, best: float | None, mode: Mode, threshold: float, relative: bool) -> bool:
    if not math.isfinite(m):
        return False
    if best is None:
        return True
    if relative:  # torch's own form, so that it is equal to the bit where torch is right
        bar = best * (1.0 + threshold if (mode == "max") == (best >= 0) else 1.0 - threshold)
    else:
        bar = best - threshold if mode == "min" else best + threshold
    return m < bar if mode == "min" else m > bar


def _by(factor: float, before: float, after: float) -> float:
    """What `before` is multiplied by to become `after`: `factor` itself where no bound held it."""
    if after == before:
        return 1.0
    return factor if after == before * factor else after / before


def _check(policy: Factor[Any], counts: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    for name in counts:
        object.__setattr__(policy, name, as_count(getattr(policy, name), f"{policy.kind}({name}=...)", least=0))
    for name in numbers:
        object.__setattr__(policy, name, as_number(getattr(policy, name), f"{policy.kind}({name}=...)"))
    _within(policy, "threshold", 0, math.inf)
    if (mode := getattr(policy, "mode")) not in ("min", "max"):  # noqa: B009
        raise ScheduleError(f"{policy.kind}(mode=...) is {mode!r}.", 'Write "min" if lower is better, "max" if higher.')
    if not isinstance(relative := getattr(policy, "relative"), bool):  # noqa: B009
        raise ScheduleError(f"{policy.kind}(relative=...) is {relative!r}.", "Write True or False.")


def _within(policy: Factor[Any], name: str, low: float, high: float, strictly: bool = False) -> None:
    value = getattr(policy, name)
    if not (low < value < high if strictly else low <= value <= high):
        limits = f"between {low} and {high}" if math.isfinite(high) else f"of at least {low}"
        raise ScheduleError(f"{policy.kind}({name}=...) is {value!r}.", f"Give a number {limits}.")
