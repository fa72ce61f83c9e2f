"""Noise on the learning rate: of each step its own, so that a resumed run has the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .base import Shape
from .drops import NUDGE
from .layout import Floats
from .shapes import some_time
from .units import Clock, Length

__all__ = ["noise"]


@dataclass(frozen=True, repr=False)
class noise(Shape):
    """A random factor around 1: 1 + amount · z(⌊u / every⌋), z uniform in −1 … 1; a factor for `*`.

    z is a hash of the seed and the step (SplitMix64), not a stream: step 1000 has its value whatever was asked
    before, so a resumed run goes on as it would have. Never negative.

    Use it to see how much the exact lr matters, or to shake a run out of a rut: `cosine() * noise(0.2)`.

    Args:
        amount: the largest deviation, 0 to 1; default 0.1.
        seed: a whole number from 0 on; default 0.
        every: how long a value stays: steps (default 1), "5%", "2ep"; more than 0.
        length: steps, "5%", "2ep"; None (default) takes the rest.

    Raises:
        ScheduleError: `amount` is outside 0 … 1; `every` is 0.

    Source: timm's lr_noise; Steele et al., SplitMix, https://doi.org/10.1145/2714064.2660195.

    >>> from etascope.schedules import cosine
    >>> (cosine(to=0.1) * noise(0.2, seed=1)).bind(100)([0, 0, 1]).round(3)
    array([0.91 , 0.91 , 0.886])
    """

    amount: float = 0.1
    seed: int = 0
    every: Length = 1
    length: Length | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        some_time(self, "every")
        if not 0 <= self.amount <= 1:
            raise ScheduleError(f"noise(amount=...) is {self.amount:g}.", "Give the largest deviation, 0 to 1.")

    def formula(self, u: Floats, n: int, clock: Clock) -> Floats:
        # What arrives (u = n) is what the last step had: a hold behind it goes on with a value that was there.
        every = clock.steps(self.every)
        at = np.floor(np.minimum(u, max(n - 1, 0)) * every.denominator / every.numerator + NUDGE)
        return 1 + self.amount * (2 * _uniform(at.astype(np.uint64), self.seed) - 1)

    def words(self, u: float, n: int, clock: Clock) -> str:
        z = (float(self.formula(np.array([u]), n, clock)[0]) - 1) / self.amount if self.amount else 0.0
        return f"1 + {self.amount:g} · {z:.6g}, by the hash of seed {self.seed} and the step"


def _uniform(counter: NDArray[np.uint64], seed: int) -> Floats:
    """SplitMix64 of seed and counter, its upper 53 bits as a float in 0 … 1."""
    golden = 0x9E3779B97F4A7C15
    start = _mix(np.array([(seed * golden + golden) & (1 << 64) - 1], dtype=np.uint64))
    return (_mix(start + (counter + np.uint64(1)) * np.uint64(golden)) >> np.uint64(11)).astype(np.float64) / (1 << 53)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
