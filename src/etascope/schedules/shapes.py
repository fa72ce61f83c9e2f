"""The members: one small class each, named as it is written. p = u / n is the progress within a phase, 0 … 1.

Every length is an int (steps), "5%" (of the whole horizon), "2ep" (epochs) or None (open: takes the rest);
`start`, `to` and `value` are multipliers of the peak lr. At t = 0 of its phase a shape is at `start`; `to` is
reached at t = n, one step after the last of the phase, as in torch's CosineAnnealingLR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..errors import ScheduleError
from .base import Shape
from .layout import Curve, Floats, Neighbour
from .units import Clock, Length

__all__ = ["constant", "cosine", "exponential", "hold", "linear", "progress", "step_decay", "warmup"]


def progress(u: Floats, n: int) -> Floats:
    """u / n; a phase of no steps has arrived (1)."""
    return u / n if n else np.ones_like(u)


@dataclass(frozen=True, repr=False)
class constant(Shape):
    """The same multiplier at every step: value.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        value: the multiplier; default 1, the peak.

    >>> constant(value=0.5).bind(10)(3)
    0.5
    """

    length: Length | None = None
    value: float = 1.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return np.full_like(u, self.value)


@dataclass(frozen=True, repr=False)
class hold(Shape):
    """Goes on with the neighbour's value: what the phase before it arrives at.

    If it comes first, it has the first value of what follows; alone it is 1.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.

    >>> (linear(10, to=0.2) >> hold()).bind(100)([9, 10, 99])
    array([0.28, 0.2 , 0.2 ])
    """

    length: Length | None = None

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Curve:
        value = 1.0 if before is None else before()
        return lambda u: np.full_like(u, value)

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        return np.ones_like(u)


@dataclass(frozen=True, repr=False)
class linear(Shape):
    """A straight line: start · (1 − p) + to · p.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.

    >>> linear(4)([0, 1, 2, 3, 4, 5])
    array([1.  , 0.75, 0.5 , 0.25, 0.  , 0.  ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        p = progress(u, n)
        return self.start * (1 - p) + self.to * p


@dataclass(frozen=True, repr=False)
class cosine(Shape):
    """Half a cosine wave: start · c + to · (1 − c), where c = (1 + cos πp) / 2.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0; default 1.
        to: the multiplier at p = 1; default 0.

    Source: Loshchilov & Hutter, SGDR, https://arxiv.org/abs/1608.03983 (without restarts).

    >>> cosine(4)([0, 1, 2, 3, 4, 5]).round(3)
    array([1.   , 0.854, 0.5  , 0.146, 0.   , 0.   ])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.0

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        c = (1 + np.cos(np.pi * progress(u, n))) / 2
        return self.start * c + self.to * (1 - c)


@dataclass(frozen=True, repr=False)
class exponential(Shape):
    """The same ratio from each step to the next: start^(1 − p) · to^p.

    Args:
        length: steps, "5%", "2ep"; None (default) takes the rest.
        start: the multiplier at p = 0, above 0; default 1.
        to: the multiplier at p = 1, above 0; default 0.01.

    Raises:
        ScheduleError: `start` or `to` is not above 0.

    >>> exponential(2)([0, 1, 2])
    array([1.  , 0.1 , 0.01])
    """

    length: Length | None = None
    start: float = 1.0
    to: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.start, self.to) <= 0:
            raise ScheduleError(
                f"exponential goes from {self.start} to {self.to}, and by ratios it never reaches 0.",
                "Give start and to above 0 (to=0.01), or use linear() or cosine(), which reach 0.",
            )

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        p = progress(u, n)
        return self.start ** (1 - p) * self.to**p


@dataclass(frozen=True, repr=False)
class step_decay(Shape):
    """A drop at regular times: factor^⌊u / every⌋; one that would fall on the phase's end is left out.

    Args:
        every: time between drops: steps, "5%" (of the whole horizon), "2ep"; more than 0.
        factor: what each drop multiplies by; default 0.1.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `every` is 0.

    >>> step_decay("50%").bind(4)([0, 1, 2, 3, 4])
    array([1. , 1. , 0.1, 0.1, 0.1])
    """

    every: Length
    factor: float = 0.1
    length: Length | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if Clock(1, 1).steps(self.every) == 0:
            raise ScheduleError("step_decay(every=...) is 0.", "Give the time between drops: 1000, '30%', '10ep'.")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        every = clock.steps(self.every)
        drops = np.floor(u * every.denominator / every.numerator + 1e-9)  # u is rounded where it was rescaled
        return self.factor ** np.clip(drops, 0, max(math.ceil(n / every) - 1, 0))


@dataclass(frozen=True, repr=False)
class warmup(Shape):
    """A straight line up to the peak: (u + 1) / (n + 1), so that no step is lost at lr 0.

    With `start` it is start · (1 − p) + p; `start=0` gives u / n, as other libraries do: the first step is 0.

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

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        if self.start is None:
            return (u + 1) / (n + 1)
        p = progress(u, n)
        return self.start * (1 - p) + p
