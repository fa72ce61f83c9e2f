"""What is kept of a run as it goes: robust running figures, a handful of operations for each observation.

The loss has a level L and a spread S, exponential means of the loss and of its distance from the level, both by values
that are held to a few spreads, so that outliers move them little:

    d = loss − L,  c = min(d, 3 S)
    L ← L + a c,   S ← S + a/2 (1.25 |c| − S),   F ← F + (min(loss, L + bar) − F) / 8

with a = 1 / (a hundredth of the horizon, 20 to 100 observations); 1.25 makes S the deviation of a normal variable. A
rise is judged against the spread, and against the drop that the run has made so far, R = max(I − L, |I| / 4), where I
is the loss at the beginning: where the loss is nearly 0, many spreads may be next to nothing. Two bars come of it:

    bar  = max(8 S, R / 2)       above L: one loss beyond it is out of line
    high = max(4 S, R / 5)       above L, or max(6 S', 3 R / 10) above the lowest L, when S was S': F beyond is astray

The lr may leap: three times as high from one update to the next, and beyond all before (a restart of a cyclical
schedule is not). For a hundred observations less is enough then: F more than max(1.5 S, R / 20) above where L was.
After a rewind, the bar is half of the way up to the loss that led to it, until forty losses were in line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..records.run import exact

__all__ = ["Block", "Level", "Signals"]

FIRST = 5  # losses whose mean is the loss at the beginning
WARM = 20  # observations before a loss can be out of line
BLOCKS = 256  # kept at most; when full, neighbours are joined
FAST = 8.0  # observations that the fast mean looks back on
SPIKE, SPIKE_OF_DROP = 8.0, 0.5
HIGH, HIGH_OF_DROP = 4.0, 0.2
ABOVE_BEST, ABOVE_BEST_OF_DROP = 6.0, 0.3
LEAP, BEYOND, AFTER_LEAP = 3.0, 1.2, 100  # times the last lr, times the highest yet, observations
LEAPT, LEAPT_OF_DROP = 1.5, 0.05
STRICT, STRICT_OF_SPREAD, STRICT_FOR = 0.5, 4.0, 40
TO_DEVIATION = 1.2533  # mean distance of a normal variable -> its deviation
WEIGHTED = 0.25  # the least share of the loss at the beginning that counts as its drop


@dataclass(frozen=True)
class Block:
    """A stretch of a run.

    Attributes:
        step: updates made before its end.
        count: its observations.
        loss: their mean loss.
        low, high: the lowest and highest loss.
        lr: the last lr.
        spread: the running spread of the loss at its end.
        grad: the mean of the log of the gradient norms, as a norm; nan where none was taken.
    """

    step: int
    count: int
    loss: float
    low: float
    high: float
    lr: float
    spread: float
    grad: float

    def joined(self, later: Block) -> Block:
        """This block and the next as one."""
        count = self.count + later.count
        mean = (self.loss * self.count + later.loss * later.count) / count
        grads = [g for g in (self.grad, later.grad) if g > 0]
        grad = math.exp(sum(map(math.log, grads)) / len(grads)) if grads else math.nan
        low, high = min(self.low, later.low), max(self.high, later.high)
        return Block(later.step, count, mean, low, high, later.lr, later.spread, grad)


@dataclass(frozen=True)
class Level:
    """Where the loss is."""

    level: float
    spread: float
    fast: float


class Signals:
    """The running figures of a run.

    Args:
        horizon: updates of the complete run; default None, not known.
    """

    __slots__ = (
        "bar", "begun", "begun_spread", "best", "block", "blocks", "calm", "ended", "fast", "finite", "grad", "grads",
        "high", "highest", "init", "leap", "leap_from", "leap_left", "leap_step", "level", "loss", "lr", "rate",
        "spread", "step", "strict", "strict_left",
    )  # fmt: skip

    def __init__(self, horizon: int | None = None) -> None:
        span = min(100.0, max(20.0, (horizon or 5000) / 100))
        self.rate = 1.0 / span
        self.block = max(8, min(200, (horizon or 2000) // 100))
        self.step = self.finite = 0
        self.loss = self.lr = self.init = self.level = self.fast = self.spread = self.best = math.nan
        self.bar = self.high = math.inf
        self.highest = self.begun_spread = 0.0  # the deviation of the first losses
        self.leap, self.leap_step, self.leap_left, self.leap_from = 0.0, 0, 0, math.inf
        self.strict, self.strict_left = math.inf, 0
        self.calm = 0.0  # the spread when the level was lowest: a rise makes it larger than noise is
        self.grad, self.grads = math.nan, 0
        self.blocks: list[Block] = []
        self.ended = 0  # blocks so far, those that were joined since counted one by one
        self._begin()

    def _begin(self) -> None:
        # observations, sum, lowest, highest, sum of logs of gradient norms, their number
        self.begun = [0.0, 0.0, math.inf, -math.inf, 0.0, 0.0]

    def is_out_of_line(self, loss: float) -> bool:
        """Whether this loss is no number, or above the bar."""
        if self.finite < WARM:
            return loss - loss != 0.0
        return not -math.inf < loss - self.level <= self.bar and (self.bar > 0.0 or loss - loss != 0.0)

    def fold(self, step: int, loss: float, lr: float, grad: float | None = None) -> bool:
        """Take in an observation that is in line.

        Args:
            step: updates made before it.
            loss: a finite loss.
            lr: the lr of the update to come.
            grad: the gradient's norm, where it was taken.

        Returns:
            Whether a block has ended with it.
        """
        n = self.finite = self.finite + 1
        if lr > self.highest:
            if n > WARM and lr > BEYOND * self.highest and lr > LEAP * self.lr > 0.0:
                self.leap, self.leap_step, self.leap_left = lr / self.lr, step, AFTER_LEAP
                self.leap_from = self.level + max(LEAPT * self.spread, LEAPT_OF_DROP * self.drop)
            self.highest = lr
        self.step, self.loss, self.lr = step, loss, lr
        if self.leap_left:
            self.leap_left -= 1
        if self.strict_left:
            self.strict_left -= 1
        if n <= FIRST:
            before, self.init = self.init, loss if n == 1 else self.init + (loss - self.init) / n
            if n > 1:  # Welford's sums, made a deviation
                squares = self.begun_spread**2 * (n - 2) + (loss - before) * (loss - self.init)
                self.begun_spread = math.sqrt(max(0.0, squares) / (n - 1))
        if n == 1:
            self.level = self.fast = self.best = loss
            self.spread = 0.0
        else:
            d = loss - self.level
            if n > FIRST:
                cap = 3.0 * self.spread
                d = cap if d > cap > 0.0 else d
            rate = self.rate if self.rate * n > 1.0 else 1.0 / n
            self.level += rate * d
            self.spread += (rate if n < WARM else 0.5 * rate) * (TO_DEVIATION * (d if d > 0.0 else -d) - self.spread)
            self.fast += (loss - self.fast) / FAST
            if self.level < self.best or n < WARM:  # the first loss alone is no level to rise from
                self.best, self.calm = self.level, self.spread
        self._set_bars()
        begun = self.begun
        begun[0] += 1.0
        begun[1] += loss
        if loss < begun[2]:
            begun[2] = loss
        if loss > begun[3]:
            begun[3] = loss
        if grad is not None and 0.0 < grad < math.inf:
            self.grads += 1
            log = math.log(grad)
            self.grad = log if self.grads == 1 else self.grad + max(0.05, 1.0 / self.grads) * _held(log - self.grad)
            begun[4] += log
            begun[5] += 1.0
        if begun[0] < self.block:
            return False
        self._close()
        return True

    @property
    def drop(self) -> float:
        """What the loss has fallen by since the beginning, or a quarter of what it began with, if that is more."""
        weighted, fallen = WEIGHTED * abs(self.init), self.init - self.level
        return fallen if fallen > weighted else weighted

    @property
    def is_astray(self) -> bool:
        """Whether the mean of the last losses has left the level, or the lowest level, upwards."""
        return self.fast > self.high and self.finite >= WARM and self.drop > 0.0

    @property
    def is_settled(self) -> bool:
        """Whether the mean of the last losses is near the lowest level, as a snapshot to go back to should have it."""
        return self.finite >= WARM and self.fast - self.best <= max(2.0 * self.spread, 0.1 * self.drop)

    @property
    def grad_level(self) -> float:
        """The running level of the gradient's norm; nan where none was taken."""
        return math.exp(self.grad) if self.grads else math.nan

    @property
    def where(self) -> Level:
        """Where the loss is, to come back to."""
        return Level(self.level, self.spread, self.fast)

    def go_back(self, where: Level, loss: float) -> None:
        """The model is again what it was there; `loss` is what led to that."""
        self.level, self.spread, self.fast = where.level, where.spread, where.fast
        if not where.spread > 0.0:  # the first observation alone tells neither where the loss is nor its spread
            self.level = self.fast = max(where.level, self.init)
            self.spread = max(self.calm, 0.1 * self.drop)
        self.leap_left = 0
        above = loss - self.level
        if 0 < above < math.inf:
            self.strict, self.strict_left = max(STRICT_OF_SPREAD * self.spread, STRICT * above), STRICT_FOR
        self._set_bars()

    def accept(self, loss: float) -> None:
        """What is out of line is how it is from now on."""
        if loss - loss == 0.0:
            self.level = self.fast = self.best = loss
            self.leap_left = self.strict_left = 0
            self.spread = self.calm = max(self.spread, 0.1 * self.drop)
            self._set_bars()

    def _set_bars(self) -> None:
        weighted, drop, spread = WEIGHTED * abs(self.init), self.init - self.level, self.spread
        if drop < weighted:
            drop = weighted
        a, b = SPIKE * spread, SPIKE_OF_DROP * drop
        self.bar = a if a > b else b
        if self.strict_left and self.strict < self.bar:
            self.bar = self.strict
        a, b = HIGH * spread, HIGH_OF_DROP * drop
        high = self.level + (a if a > b else b)
        a, b = ABOVE_BEST * self.calm, ABOVE_BEST_OF_DROP * drop
        low = self.best + (a if a > b else b)
        self.high = low if low < high else high
        if self.leap_left and self.leap_from < self.high:
            self.high = self.leap_from

    def _close(self) -> None:
        self.ended += 1
        count, total, low, high, logs, grads = self.begun
        grad = math.exp(logs / grads) if grads else math.nan
        self.blocks.append(Block(self.step + 1, int(count), total / count, low, high, self.lr, self.spread, grad))
        if len(self.blocks) > BLOCKS:
            pairs = zip(self.blocks[::2], self.blocks[1::2], strict=False)
            odd = self.blocks[-1:] if len(self.blocks) % 2 else []
            self.blocks = [a.joined(b) for a, b in pairs] + odd
            self.block *= 2
        self._begin()

    def to_json(self) -> dict[str, Any]:
        """Plain data, floats to the bit."""
        data = {name: getattr(self, name) for name in self.__slots__ if name != "blocks"}
        return {name: exact(value) for name, value in data.items()} | {
            "blocks": [exact(list(vars(block).values())) for block in self.blocks]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signals:
        """The inverse of `to_json`."""
        signals = cls()
        for name in cls.__slots__:
            value = data[name]
            if name == "blocks":
                value = [Block(int(s), int(n), *map(float, rest)) for s, n, *rest in value]
            elif name == "begun":
                value = [float(v) for v in value]
            elif isinstance(value, str):
                value = float(value)
            setattr(signals, name, value)
        return signals


def _held(distance: float) -> float:
    """A distance between logs of norms, held to a factor of e."""
    return min(1.0, max(-1.0, distance))
