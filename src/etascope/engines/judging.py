"""When a run is evaluated, on how much of the validation data, and what its final loss is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Point

__all__ = ["Judging", "final_loss", "plan_judging", "thin"]

CURVE_POINTS = 8  # evaluations on the way, at most: enough to see a curve's shape
LAST_TENTH = (0.925, 0.95, 0.975, 1.0)  # where a constant schedule is judged: its noise does not decay


@dataclass(frozen=True)
class Judging:
    """The evaluations of one run.

    Args:
        on_the_way: steps after which the curve is drawn, ascending, without those of `final`.
        final: steps after which the final loss is taken; it is their mean. Empty without validation data.
        curve_batches: validation batches read on the way.
        final_batches: validation batches read for the final loss.
    """

    on_the_way: tuple[int, ...]
    final: tuple[int, ...]
    curve_batches: tuple[int, ...]
    final_batches: tuple[int, ...]

    @property
    def batches_at(self) -> dict[int, tuple[int, ...]]:
        """The validation batches to read after a step, for each step after which there is an evaluation."""
        return dict.fromkeys(self.on_the_way, self.curve_batches) | dict.fromkeys(self.final, self.final_batches)


def plan_judging(steps: int, decays: bool, examples: int, batch_rows: Sequence[int]) -> Judging:
    """Plan a run's evaluations so that they cost at most a third of its training.

    The rule: an example costs a third as much to evaluate (one pass forward) as to train on (forward, and twice
    that backward), so a run evaluates at most as many examples as it trains on. The final loss comes first and may
    use half of them (a quarter each, …, where it is a mean of four), the curve on the way gets the rest; both read
    whole batches, evenly spaced over the validation data, and at least one for the final loss.

    Args:
        steps: optimizer steps of the run.
        decays: whether the schedule decays.
        examples: training examples of the run.
        batch_rows: examples in each validation batch.
    """
    final = tuple(sorted({max(1, math.ceil(f * steps)) for f in (LAST_TENTH if not decays else (1.0,))}))
    total = sum(batch_rows)
    largest = max(batch_rows)
    if len(final) > 1 and len(final) * largest > examples:  # too short a run for a mean
        final = final[-1:]
    share = examples / 2 / len(final)
    final_batches = _spaced(len(batch_rows), share / largest if total > share else len(batch_rows))
    left = examples - len(final) * sum(batch_rows[i] for i in final_batches)
    curve_batches = _spaced(len(batch_rows), max(1.0, left / CURVE_POINTS / largest))
    cost = sum(batch_rows[i] for i in curve_batches)
    points = int(max(0, min(CURVE_POINTS, left / cost, steps - 1)))
    on_the_way = {round(steps * (i + 1) / (points + 1)) for i in range(points)} - {0} - set(final)
    return Judging(tuple(sorted(on_the_way)), final, curve_batches, final_batches)


def _spaced(n: int, wanted: float) -> tuple[int, ...]:
    k = int(min(n, max(1, wanted)))
    return tuple(int((i + 0.5) * n / k) for i in range(k))


def final_loss(steps: int, judging: Judging | None, train: Sequence[float], val: Sequence[Point]) -> float:
    """The final loss of a run that stayed finite: by `judging`, or the mean training loss of the last tenth."""
    if judging is None:
        tail = train[-max(1, math.ceil(steps / 10)) :]
        return math.fsum(tail) / len(tail)
    at = dict(val)
    return math.fsum(at[s] for s in judging.final) / len(judging.final)


def thin(losses: Sequence[float], points: int = 100) -> tuple[Point, ...]:
    """A training curve as at most `points` means over equal stretches, each at the last step of its stretch (from 1).

    >>> thin([4.0, 2.0, 1.0, 0.0], points=2)
    ((2, 3.0), (4, 0.5))
    """
    n = len(losses)
    k = min(n, points)
    ends = [round(n * (i + 1) / k) for i in range(k)]
    starts = [0, *ends[:-1]]
    return tuple((b, math.fsum(losses[a:b]) / (b - a)) for a, b in zip(starts, ends, strict=True))
