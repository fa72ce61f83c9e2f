"""Smooth phases: one small class each, named as it is written. p = u / n is the progress within a phase, 0 … 1.

Every length is an int (steps), "5%" (of the whole horizon), "2ep" (epochs) or None (open: takes the rest);
`start`, `to` and `value` are multipliers of the peak lr. At t = 0 of its phase a shape is at `start`; `to` is
reached at t = n, one step after the last of the phase, as in torch's CosineAnnealingLR. Since every shape takes
`start` and `to`, every shape can rise: `cosine(500, start=0, to=1)` is a cosine warmup.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ScheduleError
from .base import Shape
from .layout import Floats, Laid, Neighbour, Phase
from .units import Clock, Length

__all__ = [
    "anneal",
    "constant",
    "cosine",
    "exponential",
    "hold",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "polynomial",
    "progress",
    "sqrt_cooldown",
    "tanh",
    "warmup",
]


def progress(u: Floats, n: int) -> Floats:
    """u / n; a phase of no steps has arrived (1)."""
    return u / n if n else np.ones_like(u)


def part(u: float, n: int) -> str:
    """The progress in words: "30/100"."""
    return f"{u:.10g}/{n}" if n else "1"


@dataclass(frozen=True, repr=False)
class constant(Shape):
    """The same multiplier at every step: value.

    Use it for a run without decay, or as the flat part of a warmup-stable-decay run.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        value: the multiplier; default 1, the peak.

    Source: torch's ConstantLR; textbooks call it a fixed learning rate.

    >>> constant(value=0.5).bind(10)(3)
    0.5
    """

    length: Length | None = None
    value: float = 1.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return np.full_like(u, self.value)

    def words(self, u: float, n: int, clock: Clock) -> str:
        return f"always {self.value:g}"


@dataclass(frozen=True, repr=False)
class hold(Shape):
    """Goes on with the neighbour's value: what the phase before it arrives at.

    If it comes first, it has the first value of what follows; alone it is 1.

    Use it to stay at the floor of a decay that ends before the run does.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Source: etascope's own.

    >>> (linear(10, to=0.2) >> hold()).bind(100)([9, 10, 99])
    array([0.28, 0.2 , 0.2 ])
    """

    length: Length | None = None

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        value = 1.0 if before is None else before()
        return Phase(self, n, lambda u: np.full_like(u, value), lambda u: f"held at {value:.6g}, its neighbour's value")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return np.ones_like(u)

    def words(self, u: float, n: int, clock: Clock) -> str:
        return "held at its neighbour's value"


@dataclass(frozen=True, repr=False)
class anneal(Shape):
    """From wherever the phase before arrived to `to`: v · c + to · (1 − c), with c = (1 + cos πp) / 2.

    v is what the phase before arrives at (1 if there is none).

    Use it, with `hold()` behind it, to come to the constant lr of stochastic weight averaging (SWA).

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        to: the multiplier at p = 1; default 0.
        by: "cosine" (default), or "linear": c = 1 − p.

    Source: torch.optim.swa_utils.SWALR; Izmailov et al., https://arxiv.org/abs/1803.05407.

    >>> (linear(10, to=0.5) >> anneal(4, to=0.1, by="linear") >> hold()).bind(30)([9, 10, 12, 14, 29])
    array([0.55, 0.5 , 0.3 , 0.1 , 0.1 ])
    """

    length: Length | None = None
    to: float = 0.0
    by: str = "cosine"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.by, ("cosine", "linear"), "anneal(by=...)")

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        start = 1.0 if before is None else before()
        shape = cosine if self.by == "cosine" else linear
        inner = shape(self.length, start, self.to)
        return Phase(self, n, lambda u: inner.formula(u, n, clock), lambda u: inner.words(u, n, clock))

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return self.lay_out(clock, n, None)(u)

    def words(self, u: float, n: int, clock: Clock) -> str:
        return f"to {self.to:g} by a {self.by}"


@dataclass(frozen=True, repr=False)
class linear(Shape):
    """A straight line: start · (1 − p) + to · p.

    Use it where in doubt: the plainest decay is as good as any for many runs, and to 0 the usual one for fine-tuning.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.

    Source: torch's LinearLR; Bergsma et al., Straight to Zero, https://arxiv.org/abs/2502.15938.

    >>> linear(4)([0, 1, 2, 3, 4, 5])
    array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        p = progress(u, n)
        return self.start * (1 - p) + self.to * p

    def words(self, u: float, n: int, clock: Clock) -> str:
        return f"{self.start:g} · (1 − p) + {self.to:g} · p with p = {part(u, n)}"


@dataclass(frozen=True, repr=False)
class polynomial(Shape):
    """A power of what is left: to + (start − to) · (1 − p^k)^power.

    Use it where a line is wanted that lands more softly (power 2), or one that stays high for longer (k > 1, k-decay).

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.
        power: above 0; default 2.
        k: above 0; default 1.

    Raises:
        ScheduleError: `power` or `k` is not above 0.

    Source: torch's PolynomialLR; Zhang & Li, k-decay, https://arxiv.org/abs/2004.05909.

    >>> polynomial(4)([0, 1, 2, 3, 4])
    array([1.    , 0.5625, 0.25  , 0.0625, 0.    ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0
    power: float = 2.0
    k: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "power", "k")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        left = (1 - progress(u, n) ** self.k) ** self.power
        return self.start * left + self.to * (1 - left)

    def words(self, u: float, n: int, clock: Clock) -> str:
        p = f"({part(u, n)})" + ("" if self.k == 1 else f"^{self.k:g}")
        return f"{self.to:g} + {self.start - self.to:g} · (1 − {p})^{self.power:g}"


@dataclass(frozen=True, repr=False)
class cosine(Shape):
    """Half a cosine wave: start · c + to · (1 − c), where c = ((1 + cos πp^k) / 2)^power.

    Use it, with a warmup in front, for training from scratch: slow at both ends, it is the usual one.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.
        k: above 0; default 1; k > 1 (k-decay) stays high for longer.
        power: above 0; default 1; optax's exponent.

    Raises:
        ScheduleError: `k` or `power` is not above 0.

    Source: Loshchilov & Hutter, SGDR, https://arxiv.org/abs/1608.03983 (without restarts).

    >>> cosine(4)([0, 1, 2, 3, 4, 5]).round(3)
    array([1.   , 0.854, 0.5  , 0.146, 0.   , 0.   ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0
    k: float = 1.0
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "k", "power")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        p = progress(u, n)
        c = (1 + np.cos(np.pi * (p if self.k == 1 else p**self.k))) / 2
        if self.power != 1:
            c = c**self.power
        return self.start * c + self.to * (1 - c)

    def words(self, u: float, n: int, clock: Clock) -> str:
        p = f"{part(u, n)}" if self.k == 1 else f"({part(u, n)})^{self.k:g}"
        c = f"(1 + cos(π · {p})) / 2"
        c = c if self.power == 1 else f"({c})^{self.power:g}"
        return f"{self.start:g} · c + {self.to:g} · (1 − c) with c = {c}"


@dataclass(frozen=True, repr=False)
class exponential(Shape):
    """The same ratio from each step to the next: start^(1 − p) · to^p; or start · factor^(u / every).

    Use it to go through decades of lr at one pace, upwards for a range test; by `factor` it needs no horizon.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0, above 0; default 1.
        to: the multiplier at p = 1, above 0; default 0.01, unless there is a `factor`.
        factor: instead of `to`: what every `every` multiplies by, above 0 (torch's gamma).
        every: the time that `factor` is for: steps (default 1), "5%", "2ep"; more than 0.

    Raises:
        ScheduleError: `start`, `to` or `factor` is not above 0; both `to` and `factor` are given.

    Source: torch's ExponentialLR (factor), Lightning's range test (to).

    >>> exponential(2)([0, 1, 2])
    array([1.  , 0.1 , 0.01])
    >>> exponential(factor=0.5, every=2).bind(100)([0, 1, 2, 4])
    array([1.        , 0.70710678, 0.5       , 0.25      ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float | None = None
    factor: float | None = None
    every: Length = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.to is not None and self.factor is not None:
            raise ScheduleError(
                f"exponential has both to={self.to:g} and factor={self.factor:g}, and each says how fast it falls.",
                "Give one: to=0.01 (where it arrives) or factor=0.95, every='1ep' (its ratio).",
            )
        if min(self.start, self._to, 1.0 if self.factor is None else self.factor) <= 0:
            to = f"to {self._to}" if self.factor is None else f"by {self.factor}"
            raise ScheduleError(
                f"exponential goes from {self.start} {to}, and by ratios it never reaches 0.",
                "Give start and to above 0 (to=0.01), or use linear() or cosine(), which reach 0.",
            )
        some_time(self, "every")

    @property
    def _to(self) -> float:
        return 0.01 if self.to is None else self.to

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if self.factor is not None:
            return self.start * self.factor ** (u / float(clock.steps(self.every)))
        p = progress(u, n)
        return self.start ** (1 - p) * self._to**p

    def words(self, u: float, n: int, clock: Clock) -> str:
        if self.factor is not None:
            return f"{self.start:g} · {self.factor:g}^({u:.10g}/{float(clock.steps(self.every)):g})"
        return f"{self.start:g}^(1 − p) · {self._to:g}^p with p = {part(u, n)}"


@dataclass(frozen=True, repr=False)
class inverse_time(Shape):
    """One over the time: start / (1 + u / τ), with τ = timescale / rate; or such that it arrives at `to`.

    Use it where convergence has to be proven: Robbins and Monro's condition (Σ lr = ∞, Σ lr² < ∞) holds for it. It
    falls fast, then ever more slowly.

    Args:
        timescale: the time in which it falls to half (for rate 1): steps, "5%", "2ep"; more than 0.
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at u = 0; default 1.
        to: instead of `timescale`: the multiplier at u = n, of the sign of `start`, not 0.
        rate: falls per timescale; above 0; default 1. Keras has decay_rate and decay_steps for rate and timescale.
        staircase: whether ⌊u / timescale⌋ is taken for u / timescale; default False.

    Raises:
        ScheduleError: neither or both of `timescale` and `to`; one of them out of its range.

    Source: Robbins & Monro 1951; Keras' InverseTimeDecay.

    >>> inverse_time(100).bind(1000)([0, 100, 900])
    array([1. , 0.5, 0.1])
    >>> inverse_time(to=0.1).bind(900)([0, 100, 900])
    array([1. , 0.5, 0.1])
    """

    timescale: Length | None = None
    length: Length | None = None
    start: float = 1.0
    to: float | None = None
    rate: float = 1.0
    staircase: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        timescale_or_to(self)
        above_zero(self, "rate")
        if self.staircase and self.timescale is None:
            raise ScheduleError("inverse_time(staircase=True) has no timescale to step by.", "Give one: 1000, '1ep'.")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if self.timescale is None:
            assert self.to is not None
            return self.start / (1 + (self.start / self.to - 1) * progress(u, n))
        passed = u / float(clock.steps(self.timescale))
        return self.start / (1 + self.rate * (np.floor(passed + 1e-9) if self.staircase else passed))

    def words(self, u: float, n: int, clock: Clock) -> str:
        if self.timescale is None:
            assert self.to is not None
            return f"{self.start:g} / (1 + {self.start / self.to - 1:.6g} · {part(u, n)})"
        passed = f"{u:.10g}/{float(clock.steps(self.timescale)):g}"
        return f"{self.start:g} / (1 + {self.rate:g} · {f'⌊{passed}⌋' if self.staircase else passed})"


@dataclass(frozen=True, repr=False)
class inverse_sqrt(Shape):
    """One over the root of the time: start · √(τ / (u + τ)), with τ = timescale; or such that it arrives at `to`.

    Use it where no horizon is known: a run may go on for as long as one likes. `warmup(4000, start=0) >>
    inverse_sqrt(4000)` is the schedule of the first transformer (Noam).

    Args:
        timescale: τ, the time in which it falls to start/√2: steps, "5%", "2ep"; more than 0. With a warmup in
            front, usually the warmup's length.
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at u = 0; default 1.
        to: instead of `timescale`: the multiplier at u = n, of the sign of `start`, not 0.

    Raises:
        ScheduleError: neither or both of `timescale` and `to`; one of them out of its range.

    Source: Vaswani et al., https://arxiv.org/abs/1706.03762.

    >>> inverse_sqrt(100).bind(1000)([0, 300])
    array([1. , 0.5])
    >>> inverse_sqrt(to=0.5).bind(300)([0, 300])
    array([1. , 0.5])
    """

    timescale: Length | None = None
    length: Length | None = None
    start: float = 1.0
    to: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        timescale_or_to(self)

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if self.timescale is None:
            assert self.to is not None
            return self.start / np.sqrt(1 + ((self.start / self.to) ** 2 - 1) * progress(u, n))
        tau = float(clock.steps(self.timescale))
        return self.start * np.sqrt(tau / (u + tau))

    def words(self, u: float, n: int, clock: Clock) -> str:
        if self.timescale is None:
            assert self.to is not None
            return f"{self.start:g} / √(1 + {(self.start / self.to) ** 2 - 1:.6g} · {part(u, n)})"
        tau = float(clock.steps(self.timescale))
        return f"{self.start:g} · √({tau:g} / ({u:.10g} + {tau:g}))"


@dataclass(frozen=True, repr=False)
class sqrt_cooldown(Shape):
    """Down by the root of the time: to + (start − to) · (1 − √p).

    Use it to end a warmup-stable-decay run, `warmup(500) >> constant() >> sqrt_cooldown("20%")`: it may begin at any
    time, so one long run serves many horizons.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.

    Source: Hägele et al., https://arxiv.org/abs/2405.18392 (1 − sqrt).

    >>> sqrt_cooldown(4)([0, 1, 4])
    array([1. , 0.5, 0. ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        root = np.sqrt(progress(u, n))
        return self.start * (1 - root) + self.to * root

    def words(self, u: float, n: int, clock: Clock) -> str:
        return f"{self.to:g} + {self.start - self.to:g} · (1 − √({part(u, n)}))"


@dataclass(frozen=True, repr=False)
class tanh(Shape):
    """A hyperbolic tangent: to + (start − to) · (1 − tanh(lower · (1 − p) + upper · p)) / 2.

    Its ends miss `start` and `to` by what tanh misses ±1 by (6e-6 and 3e-4 of the height for the defaults).

    Use it to stay high for most of the run and go down smoothly near its end.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: nearly the multiplier at p = 0; default 1.
        to: nearly the multiplier at p = 1; default 0.
        lower: tanh's argument at p = 0; default −6.
        upper: tanh's argument at p = 1; default 4.

    Source: Hsueh et al., HTD, https://arxiv.org/abs/1806.01593; timm's TanhLRScheduler (lb, ub).

    >>> tanh(10)([0, 6, 10]).round(4)
    array([1.e+00, 5.e-01, 3.e-04])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0
    lower: float = -6.0
    upper: float = 4.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        p = progress(u, n)
        return self.to + (self.start - self.to) * (1 - np.tanh(self.lower * (1 - p) + self.upper * p)) / 2

    def words(self, u: float, n: int, clock: Clock) -> str:
        x = f"{self.lower:g} · (1 − p) + {self.upper:g} · p"
        return f"{self.to:g} + {self.start - self.to:g} · (1 − tanh({x})) / 2 with p = {part(u, n)}"


@dataclass(frozen=True, repr=False)
class warmup(Shape):
    """A straight line up to the peak: (u + 1) / (n + 1), so that no step is lost at lr 0.

    With `start` it is start · (1 − p) + p; `start=0` gives u / n, as other libraries do: the first step is 0.

    Use it in front of anything whose first steps at the full lr would diverge or spoil the start: large batches,
    transformers, Adam with young statistics.

    Args:
        length: steps, "5%", "2ep".
        start: the multiplier at p = 0; default None, the formula above.

    Source: Goyal et al., https://arxiv.org/abs/1706.02677.

    >>> (warmup(4) >> constant(2))([0, 1, 2, 3, 4, 5])
    array([0.2, 0.4, 0.6, 0.8, 1. , 1. ])
    >>> warmup(4, start=0)([0, 1, 2, 3, 4])
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """

    length: Length
    start: float | None = None

    jumps = True

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if self.start is None:
            return (u + 1) / (n + 1)
        p = progress(u, n)
        return self.start * (1 - p) + p

    def words(self, u: float, n: int, clock: Clock) -> str:
        if self.start is None:
            return f"({u:.10g} + 1) / ({n} + 1)"
        return f"{self.start:g} · (1 − p) + p with p = {part(u, n)}"


def one_of(value: object, known: tuple[str, ...], where: str) -> None:
    """Raise unless `value` is one of the known words."""
    if value not in known:
        raise ScheduleError(f"{where} is {value!r}.", f"Give one of {', '.join(map(repr, known))}.")


def above_zero(shape: Shape, *names: str) -> None:
    """Raise unless the named fields are above 0."""
    for name in names:
        if getattr(shape, name) <= 0:
            raise ScheduleError(f"{shape.kind}({name}=...) is {getattr(shape, name):g}.", "Give a number above 0.")


def some_time(shape: Shape, *names: str) -> None:
    """Raise unless the named lengths, where given, are more than nothing."""
    for name in names:
        length = getattr(shape, name)
        if length is not None and Clock(1, 1).steps(length) == 0:
            raise ScheduleError(f"{shape.kind}({name}=...) is 0.", f"Give a time above 0: {name}=1000, '30%', '10ep'.")


def timescale_or_to(shape: inverse_time | inverse_sqrt) -> None:
    """Raise unless just one of timescale and to says how fast it falls."""
    if (shape.timescale is None) == (shape.to is None):
        raise ScheduleError(
            f"{shape.kind} needs either a timescale or a value to arrive at, and has "
            f"{'neither' if shape.to is None else 'both'}.",
            f"Write {shape.kind}(4000) or {shape.kind}(to=0.1).",
        )
    some_time(shape, "timescale")
    if shape.to is not None and shape.to * shape.start <= 0:
        raise ScheduleError(
            f"{shape.kind} cannot go from {shape.start:g} to {shape.to:g}: it never reaches 0.",
            "Give start and to of one sign, not 0, or use polynomial(), which reaches 0.",
        )
