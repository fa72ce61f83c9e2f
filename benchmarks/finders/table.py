"""A workload as a table: what a training at any lr would have shown, read from the curves of one seed of its truth.

Tuners train ten to twenty-five times a workload and repeat; read from a table their own code runs unchanged, against
the noise of real trainings, without training them again (as in tabular benchmarks: NAS-Bench-101, HPOBench).

What this favours: the tuner. Between two lrs of the table the loss is linear in log lr, so noise from lr to lr is
smoothed; the range that it searches is the table's own, and so never far from the best; and the seed that it sees is
one of the three that the truth is the mean of, so that the luck it picks by is a third of what it is judged by.
"""

from __future__ import annotations

import math

import numpy as np

import etascope as eta


class Table:
    """The trainings of one seed at any lr of the truth's range.

    Args:
        dense: the truth, with its validation losses on the way.
        seed: which of its seeds, modulo their number.

    Attributes:
        steps: after which steps a training is evaluated, ascending; the last is the horizon.
    """

    def __init__(self, dense: eta.Sweep, seed: int):
        self.horizon = dense.horizon
        own = dense.seeds[seed % len(dense.seeds)]
        self.curves = sorted((c for c in dense.rungs[0].curves if c.seed == own), key=lambda c: c.lr)
        self.logs = np.log([c.lr for c in self.curves])
        whole = max(self.curves, key=lambda c: (not c.diverged, len(c.val)))
        # without those that only the final loss of a constant schedule is the mean of
        self.steps = tuple(sorted({s for s, _ in whole.val if 0 < s <= 0.9 * self.horizon} | {self.horizon}))

    def loss(self, lr: float, step: int | None = None) -> float:
        """The validation loss after a step (one of `steps`), the final loss without one; inf where it diverged.

        At the horizon it is the final loss too, by the task's rule: of a constant schedule, a mean of the last tenth.
        """
        left, right, share = self._between(lr)
        losses = [_loss(c, None if step == self.horizon else step) for c in (left, right)]
        if share in (0.0, 1.0):
            return losses[int(share)]
        return losses[0] + share * (losses[1] - losses[0]) if all(map(math.isfinite, losses)) else math.inf

    def trained(self, lr: float) -> int:
        """Steps of a training to its end, which is earlier where it diverges."""
        left, right, share = self._between(lr)
        return round(left.trained + share * (right.trained - left.trained))

    def _between(self, lr: float):
        u = math.log(lr)
        if not self.logs[0] - 1e-3 <= u <= self.logs[-1] + 1e-3:  # lrs of the table are rounded to three digits
            raise ValueError(f"lr {lr} is outside the table, {self.curves[0].lr} to {self.curves[-1].lr}")
        i = int(np.clip(np.searchsorted(self.logs, u), 1, len(self.logs) - 1))
        share = float(np.clip((u - self.logs[i - 1]) / (self.logs[i] - self.logs[i - 1]), 0.0, 1.0))
        share = round(share) if min(share, 1 - share) < 1e-9 else share
        return self.curves[i - 1], self.curves[i], float(share)


def _loss(curve, step: int | None) -> float:
    if step is None:
        return curve.loss
    return dict(curve.val).get(step, math.inf)
