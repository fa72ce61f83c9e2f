"""Where training starts to diverge, at any horizon: what the largest settings of each rung show of it.

The edge drifts with the horizon as the basin does. A short run that is too hot has no time to recover and ends above
the loss at init; a longer one does, mostly, above all under a schedule that decays and with a rule that adapts its
steps: there the edge of the full horizon lies higher than that of the scouting, by up to a decade and a half. With
x = log₁₀ lr, a run of h steps diverges with the probability

    P(x, h) = 1 / (1 + 10^(−s·(x − e_H − d·log₁₀(h / H))))

What explodes, though, ending at a hundred times the loss at init or at no number at all, does so in a longer run too.

The posterior of (e_H, d) is summed over a grid. Its prior is flat in e_H and normal in d, read off dense truths
(`benchmarks/results/`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..records import Curve, Rung

__all__ = ["Edge", "find_edge"]

Floats = NDArray[np.float64]

# Mean and deviation of d's prior, in decades per decade of steps, by whether the schedule decays and the rule adapts.
DRIFT = {(True, True): (0.5, 0.35), (True, False): (0.15, 0.35), (False, True): (0.1, 0.3), (False, False): (0.0, 0.25)}
EXPLODED = 100.0  # times the loss at init
STEEP = 4.0  # s: a quarter of a decade from even odds to ten to one
BEYOND = 4.0  # decades above the largest lr tried that are thought of


@dataclass(frozen=True)
class Edge:
    """The posterior of the edge.

    Attributes:
        places: e_H, log₁₀ lr, shape (E,).
        drifts: d, shape (D,).
        weights: their probabilities, shape (E, D), of sum 1.
        horizon: H.
    """

    places: Floats
    drifts: Floats
    weights: Floats
    horizon: int

    def at(self, steps: float, probability: float = 0.5) -> float:
        """log₁₀ of the lr below which the edge of runs of `steps` steps lies with this probability."""
        places_ED = self.places[:, None] + self.drifts * math.log10(steps / self.horizon)
        order = np.argsort(places_ED, axis=None)
        total = np.cumsum(self.weights.ravel()[order])
        return float(places_ED.ravel()[order][min(int(np.searchsorted(total, probability)), len(total) - 1)])

    def above(self, x: Floats, steps: float) -> Floats:
        """The probability that the edge of runs of `steps` steps lies above each `x`."""
        places_ED = self.places[:, None] + self.drifts * math.log10(steps / self.horizon)
        order = np.argsort(places_ED, axis=None)
        below = np.append(0.0, np.cumsum(self.weights.ravel()[order]))
        return np.asarray(1.0 - below[np.searchsorted(places_ED.ravel()[order], x, side="right")])


def find_edge(rungs: Sequence[Rung], horizon: int, init: float | None, *, decays: bool, adapts: bool) -> Edge | None:
    """The edge that the settings at or above each rung's best show; None where none of them diverged.

    Args:
        rungs: what was trained.
        horizon: H.
        init: the loss at init, where it is known.
        decays: whether the schedule ends well below its peak.
        adapts: whether the update rule adapts its steps, as Adam does and SGD does not.
    """
    x, age, bad = [], [], []
    for rung in rungs:
        best = min(rung.curves, key=lambda c: c.loss)
        for c in rung.curves:
            if c.lr >= best.lr:
                x.append(math.log10(c.lr))
                age.append(0.0 if _exploded(c, init) else math.log10(rung.steps / horizon))
                bad.append(1.0 if c.diverged else -1.0)
    if max(bad, default=-1.0) < 0:
        return None
    places = np.arange(min(x) - BEYOND, max(x) + BEYOND, 0.02)
    mean, deviation = DRIFT[decays, adapts]
    drifts = np.linspace(mean - 3 * deviation, mean + 3 * deviation, 25)
    log = -0.5 * ((drifts - mean) / deviation) ** 2 + np.zeros((len(places), 1))
    for x_i, age_i, sign in zip(x, age, bad, strict=True):
        odds = sign * STEEP * (x_i - places[:, None] - drifts * age_i)
        log -= np.log1p(10.0 ** np.clip(-odds, -30, 30))
    weights = np.exp(log - log.max())
    return Edge(places, drifts, weights / weights.sum(), horizon)


def _exploded(curve: Curve, init: float | None) -> bool:
    if not curve.diverged or init is None:
        return curve.diverged
    return curve.ended is None or curve.ended - init > EXPLODED * abs(init)
