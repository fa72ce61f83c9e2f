"""Where the best lr lies, and how sure that is: a small probabilistic model of loss(lr, horizon).

With x = log₁₀ lr and a rung k of h steps, the final loss of a run is taken to be

    L(x) = m_k + (I_k − m_k) · ρ(x − x*(h)),    ρ(u) = u² / (u² + w²),    x*(h) = x* + b · log₁₀(h / H)

a basin with its best loss m_k at x*(h), that rises like a parabola and ends at the loss at init I_k: far left nothing
is learnt, far right nothing is left of it. Its half-width w (where half of the drop is lost) differs between the
sides. The best lr drifts with the horizon by b decades per decade of steps. What is wanted is x*, at the full
horizon H.

x*, b, both widths and the noise are integrated over a grid, exactly and without randomness; the m_k are linear, and
solved for. Points count the less the farther they lie from the best (the shape is a stand-in there) and from the full
horizon (the drift is not quite a line there).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Basin", "Seen", "fit"]

Floats = NDArray[np.float64]

STEP = 0.04  # decades between grid points of x*
REACH = 1.6  # decades that x* may lie beyond what was tried around the best
DRIFTS = np.linspace(-0.6, 0.4, 11)  # b
DRIFT_PRIOR = {True: (-0.1, 0.2), False: (-0.15, 0.2)}  # (mean, deviation) of b, by whether the schedule decays
WIDTHS = np.geomspace(0.2, 2.4, 9)  # w, decades
WIDTH_PRIOR = {"left": (0.9, 0.45), "right": (0.8, 0.45)}  # (median, deviation of the natural log)
NOISES = np.geomspace(0.002, 0.2, 6)  # one deviation of a final loss, as a part of the largest drop
MISFIT = 0.3  # one deviation of ρ against the truth, as a part of ρ


@dataclass(frozen=True)
class Seen:
    """What a race has seen: N points in K rungs.

    Args:
        x: log₁₀ lr, shape (N,).
        loss: final losses, all finite, shape (N,).
        rung: which rung, shape (N,).
        steps: each rung's steps, shape (K,).
        init: each rung's loss at init, shape (K,).
        ceiling: log₁₀ of each rung's smallest lr from which on all diverged, `inf` without one, shape (K,).
        horizon: H.
        decays: whether the schedule decays.
    """

    x: Floats
    loss: Floats
    rung: NDArray[np.int64]
    steps: Floats
    init: Floats
    ceiling: Floats
    horizon: int
    decays: bool


@dataclass(frozen=True)
class Basin:
    """The posterior: G grid points with their weights.

    Attributes:
        best: x* at the full horizon, shape (G,).
        drift: b, shape (G,).
        left: width below the best, shape (G,).
        right: width above it, shape (G,).
        weight: probabilities, shape (G,).
        noise: expected noise of a final loss, as a part of the drop.
        floor: expected m_k of each rung, shape (K,).
    """

    best: Floats
    drift: Floats
    left: Floats
    right: Floats
    weight: Floats
    noise: float
    floor: Floats
    horizon: int

    def at(self, steps: float) -> tuple[float, float]:
        """Mean and deviation of x* at a horizon of `steps`."""
        x = self.best + self.drift * math.log10(steps / self.horizon)
        mean = float(self.weight @ x)
        return mean, math.sqrt(float(self.weight @ (x - mean) ** 2))

    def mean(self, values: Floats) -> float:
        """Expectation of one value per grid point."""
        return float(self.weight @ values)

    def quantiles(self, q: Sequence[float]) -> list[float]:
        """Quantiles of x* at the full horizon."""
        order = np.argsort(self.best, kind="stable")
        levels, first = np.unique(self.best[order], return_index=True)
        mass = np.add.reduceat(self.weight[order], first)
        middle = np.cumsum(mass) - mass / 2
        return [float(np.interp(p, middle, levels)) for p in q]

    def rho(self, x: Floats) -> Floats:
        """ρ at the full horizon for every grid point, shape (len(x), G)."""
        u = x[:, None] - self.best
        return u**2 / (u**2 + np.where(u < 0, self.left, self.right) ** 2)


def fit(seen: Seen) -> Basin:
    """The posterior of the basin.

    Args:
        seen: at least one point below its rung's loss at init.
    """
    lowest = np.array([seen.loss[seen.rung == k].min(initial=np.inf) for k in range(len(seen.steps))])
    drop = np.where(np.isfinite(lowest), seen.init - lowest, 0.0)
    use = drop[seen.rung] > 0.0
    x, rung, loss = seen.x[use], seen.rung[use], seen.loss[use]
    top = float(drop.max())
    age = np.log10(seen.steps / seen.horizon)

    # the grid: X best, B drift, W left, V right, then N points
    last = int(rung.max())
    around = x[rung == last][np.argmin(loss[rung == last])] - DRIFT_PRIOR[seen.decays][0] * age[last]
    best_X = np.arange(around - REACH, around + REACH + STEP / 2, STEP)
    centre_XBN = best_X[:, None, None] + DRIFTS[:, None] * age[rung]
    u_XBN = x - centre_XBN
    rho_XBWN, rho_XBVN = (
        u_XBN[:, :, None] ** 2 / (u_XBN[:, :, None] ** 2 + WIDTHS[:, None] ** 2) for _ in range(2)
    )
    rho = np.where(u_XBN[:, :, None, None] < 0, rho_XBWN[:, :, :, None], rho_XBVN[:, :, None, :])

    mean, deviation = DRIFT_PRIOR[seen.decays]
    log_prior = -0.5 * ((DRIFTS - mean) / deviation)[None, :, None, None] ** 2
    for side, axis in (("left", 2), ("right", 3)):
        median, spread = WIDTH_PRIOR[side]
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        log_prior = log_prior - 0.5 * (np.log(WIDTHS / median) / spread).reshape(shape) ** 2
    for k in np.flatnonzero(np.isfinite(seen.ceiling)):
        over = best_X[:, None] + DRIFTS * age[k] - seen.ceiling[k]
        log_prior = log_prior - np.logaddexp(0.0, over / 0.05)[:, :, None, None]

    scale = drop[rung] / top  # a rung's drop, in units of the largest
    y = (loss - seen.init[rung]) / top  # −scale at the rung's best, 0 at init
    distrust = 1.0 + (age[last] - age[rung])
    logs, floors = [], []
    for noise in NOISES:
        variance = distrust**2 * (noise**2 + (MISFIT * rho * scale) ** 2)
        log = log_prior - 0.5 * np.log(variance).sum(-1)
        floor_K = []
        for k in np.unique(rung):
            i = rung == k
            a, w = 1.0 - rho[..., i], 1.0 / variance[..., i]
            normal = (w * a * a).sum(-1)
            m = (w * a * y[i]).sum(-1) / normal  # the rung's best, below init
            log = log - 0.5 * (w * (y[i] - m[..., None] * a) ** 2).sum(-1) - 0.5 * np.log(normal)
            floor_K.append(m)
        logs.append(log)
        floors.append(floor_K)
    log_S = np.stack(logs)
    weight_S = np.exp(log_S - log_S.max())
    weight_S /= weight_S.sum()
    weight = weight_S.sum(0)
    floor = np.array(seen.init, dtype=float)
    for j, k in enumerate(np.unique(rung)):
        floor[k] += top * float(sum((w * f[j]).sum() for w, f in zip(weight_S, floors, strict=True)))
    grid = np.broadcast_arrays(
        best_X[:, None, None, None], DRIFTS[:, None, None], WIDTHS[:, None], WIDTHS, weight
    )
    flat = [np.array(g).ravel() for g in grid]
    keep = flat[4] > 1e-9 * flat[4].max()
    best, drift, left, right, weight = (g[keep] for g in flat)
    noise = float(weight_S.sum((1, 2, 3, 4)) @ NOISES)
    return Basin(best, drift, left, right, weight / weight.sum(), noise, floor, seen.horizon)
