"""Where the best lr lies, and how sure that is: a small probabilistic model of loss(lr, horizon).

With x = log₁₀ lr and a rung k of h steps, the final loss of a run is taken to be

    L(x) = m_k + (I_k − m_k) · ρ,    ρ = min(1, 1 / (1 + 10^(s·(x − l))) + 1 / (1 + 10^(t·(r − x))))

a basin between two flanks. On the left too little is learnt: at x = l half of the drop from the loss at init I_k to the
best loss m_k is lost. On the right steps are too large: at x = r half of it is lost. The flanks drift with the horizon,
each at its own pace, in decades per decade of steps:

    l = l_H + b · log₁₀(h / H),    r = r_H + c · log₁₀(h / H)

The left one moves down by nearly a decade (a longer run learns as much with a smaller lr), the right one stays, more or
less: so the basin of a long run is wider than that of a short one, and its best lies lower. What is wanted is ρ at the
full horizon H. The flanks of a long run are less steep, mostly, than those of a short one: it has time to recover from
steps that are too large, and to get somewhere with small ones. So s and t change too, each by a factor of its own per
decade of steps.

The vertex, where both flanks cost the same per decade, drifts with them:

    v = (s·l + t·r + log₁₀(s / t)) / (s + t)

and far more alike from task to task than either flank: down, by a fifth of a decade per decade of steps where the
schedule decays, by half of one where it does not, since there only a smaller lr averages the noise of a longer run
away. That is a prior of its own.

No basin drifts quite along lines: beyond the longest rung seen, l and r stray from them at random, by a part of the
decades extrapolated.

The nine parameters (l_H, b, s, r_H, c, t, the two factors, and the noise) are sampled by an affine-invariant ensemble
(Goodman & Weare 2010, the stretch move) with a generator of its own, so the same evidence gives the same answer; the
m_k are linear, and solved for. Points count the less the farther they lie from the best (the shape is a stand-in there)
and from the longest rung (the drift is not quite a line there). The priors of the flanks were read off sweeps at eight
horizons of the workloads that `benchmarks/finders/workloads.py` calls CHOOSING, the vertex's off those and REPORTING,
adjusted by simulated races on both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Basin", "Seen", "axis", "fit", "quantiles"]

Floats = NDArray[np.float64]

# (mean, deviation) of the prior
LEFT_DRIFT = (-0.8, 0.2)  # b
RIGHT_DRIFT = (0.0, 0.4)  # c
LEFT_SLOPE = (math.log(1.2), 0.4)  # log s
RIGHT_SLOPE = (math.log(1.2), 0.4)  # log t
SLOPE_DRIFT = (-0.25, 0.4)  # log of the factor by which s changes per decade of steps, and of that of t
VERTEX_DECAYING, VERTEX_CONSTANT = (-0.2, 0.2), (-0.5, 0.22)  # its drift from the longest rung to H
TAILS = 3  # degrees of freedom of the priors of the left slope, its drift, and the vertex's
STRAY = 0.35  # one deviation of a flank from its line, in decades per decade of steps beyond the longest rung
NOISE = (math.log(0.01), 1.0)  # log of one deviation of a final loss of the longest rung, as a part of the largest drop
NORMAL = (RIGHT_DRIFT, RIGHT_SLOPE, SLOPE_DRIFT, SLOPE_DRIFT, NOISE)  # of c, log t, both paces and log noise
MISFIT = 0.2  # one deviation of ρ against the truth, as a part of ρ
FLOOR = 0.08  # one deviation of a rung's best possible loss below its lowest, as a part of its drop

WALKERS, BURN, STEPS, THIN = 128, 250, 125, 5  # with half the burn-in, noise alone now and then passed for a basin
NEAR = 0.02  # decades short of H: no drift is left to speak of
GRID = 0.02  # decades, of lrs at which the best is looked for


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
    """G samples of what the basin may be.

    Attributes:
        samples: l_H, b, log s, its pace, r_H, c, log t, its pace and log noise, shape (G, 9).
        stray: how l and r stray from their lines, per decade beyond `longest`, shape (G, 2).
        longest: steps of the longest rung of which a setting trained.
        horizon: H.
    """

    samples: Floats
    stray: Floats
    longest: float
    horizon: int
    _last: dict[tuple[bytes, float], Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def noise(self) -> float:
        """One deviation of a final loss, as a part of the drop."""
        return float(np.exp(np.median(self.samples[:, 8])))

    def rho(self, x: Floats, steps: float | None = None) -> Floats:
        """ρ at `x` for each sample, in a run of `steps` steps (default: the full horizon), shape (G, len(x))."""
        h = self.horizon if steps is None else steps
        if (key := (x.tobytes(), float(h))) not in self._last:
            samples = self.samples.copy()
            samples[:, [0, 4]] += self.stray * max(math.log10(h / self.longest), 0.0)
            found = _rho(samples, x, np.array([math.log10(h / self.horizon)]))
            found.setflags(write=False)
            self._last.clear()  # a million numbers, which are asked for two or three times in a row
            self._last[key] = found
        return self._last[key]

    def best(self, x: Floats, steps: float | None = None) -> Floats:
        """For each sample the `x` of least ρ, shape (G,)."""
        return np.asarray(x[np.argmin(self.rho(x, steps), axis=1)])

    def span(self, x: Floats, rise: float, steps: float) -> tuple[float, float]:
        """Where the expected ρ of a run of `steps` steps is less than `rise` above its least."""
        expected = self.rho(x, steps).mean(axis=0)
        inside = x[expected <= expected.min() + rise]
        return float(inside[0]), float(inside[-1])

    def drift(self, x: Floats) -> float:
        """How the best lr moves with the horizon near H, in decades per decade of steps."""
        longer, shorter = self.best(x).mean(), self.best(x, self.horizon / 10).mean()
        return float(longer - shorter)


def axis(seen: Seen, above: float = 0.4) -> Floats:
    """Candidates for the best lr, log₁₀: what trained, a decade and a half below, and `above` of a decade above."""
    return np.arange(float(seen.x.min()) - 1.5, float(seen.x.max()) + above, GRID)


def fit(seen: Seen) -> Basin:
    """Sample the basin.

    Args:
        seen: at least one point below its rung's loss at init.
    """
    model = _Model(seen)
    rng = np.random.default_rng(0)
    walkers = model.start(rng)
    logs = model.log_posterior(walkers)
    half, d = WALKERS // 2, walkers.shape[1]
    kept = []
    for step in range(BURN + STEPS):
        for mine, theirs in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            z = (rng.random(half) + 1.0) ** 2 / 2.0  # density ∝ 1/√z on [1/2, 2]
            partners = walkers[theirs][rng.integers(half, size=half)]
            proposal = partners + z[:, None] * (walkers[mine] - partners)
            new = model.log_posterior(proposal)
            accept = np.log(rng.random(half)) < (d - 1) * np.log(z) + new - logs[mine]
            walkers[mine] = np.where(accept[:, None], proposal, walkers[mine])
            logs[mine] = np.where(accept, new, logs[mine])
        if step >= BURN and step % THIN == 0:
            kept.append(walkers.copy())
    samples = np.concatenate(kept)
    stray = rng.normal(0.0, STRAY, (len(samples), 2))
    return Basin(samples, stray, float(seen.steps[seen.rung].max()), seen.horizon)


class _Model:
    """The log posterior of G parameter vectors at once."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        n_rungs = len(seen.steps)
        lowest = np.array([seen.loss[seen.rung == k].min(initial=np.inf) for k in range(n_rungs)])
        self.drop_K = np.where(np.isfinite(lowest), np.maximum(seen.init - lowest, 0.0), 0.0)
        self.top = float(self.drop_K.max())
        use = self.drop_K[seen.rung] > 0.0
        self.x_N, self.rung_N = seen.x[use], seen.rung[use]
        self.age_K = np.log10(seen.steps / seen.horizon)
        self.age_N = self.age_K[self.rung_N]
        self.scale_N = self.drop_K[self.rung_N] / self.top  # a rung's drop, in units of the largest
        self.y_N = (
            np.minimum(seen.loss[use] - seen.init[self.rung_N], 0.0) / self.top
        )  # −scale at the rung's best, 0 at init
        self.last_age = float(self.age_N.max())
        self.distrust_N = 1.0 + (self.last_age - self.age_N)
        self.member_KN = (self.rung_N == np.arange(n_rungs)[:, None]).astype(float)
        last = self.age_N == self.last_age
        self.around = float(self.x_N[last][np.argmin(self.y_N[last])])
        self.low, self.high = float(seen.x.min()) - 4.0, float(seen.x.max()) + 4.0
        vertex = VERTEX_DECAYING if seen.decays else VERTEX_CONSTANT
        tailed = [LEFT_SLOPE, LEFT_DRIFT] + [vertex] * (self.last_age < -NEAR)
        self.normal, self.tailed = np.array(NORMAL).T, np.array(tailed).T  # means and deviations
        cliff = np.isfinite(seen.ceiling)
        self.x_all = np.concatenate([self.x_N, seen.ceiling[cliff]])  # where something is known: points and cliffs
        self.age_all = np.concatenate([self.age_N, self.age_K[cliff]])

    def start(self, rng: np.random.Generator) -> Floats:
        """Walkers: the likeliest of many draws from the prior."""
        n = 4000
        draws = np.empty((n, 9))
        age = self.last_age
        priors = LEFT_DRIFT, LEFT_SLOPE, SLOPE_DRIFT, RIGHT_DRIFT, RIGHT_SLOPE, SLOPE_DRIFT, NOISE
        for column, (mean, deviation) in zip((1, 2, 3, 5, 6, 7, 8), priors, strict=True):
            draws[:, column] = rng.normal(mean, deviation, n)
        draws[: n // 2, [2, 6]] += rng.exponential(0.8, (n // 2, 2))  # half of them steep
        draws[:, 0] = self.around - rng.uniform(0.2, 2.5, n) - draws[:, 1] * age
        draws[:, 4] = self.around + rng.uniform(0.1, 2.0, n) - draws[:, 5] * age
        logs = self.log_posterior(draws)
        return draws[np.argsort(-logs, kind="stable")[:WALKERS]]

    def log_posterior(self, p: Floats) -> Floats:
        """Log posterior, up to a constant, shape (G,)."""
        left, right, log_noise = p[:, 0], p[:, 4], p[:, 8]
        log = -0.5 * (_deviations(p[:, [5, 6, 3, 7, 8]], self.normal) ** 2).sum(axis=1)
        # Learning may set in at once, as if over a cliff, or at the same lr however long the run: Student's tails.
        # And the vertex of an overfitting task may drift twice as far as others.
        tailed = p[:, [2, 1]]
        if self.last_age < -NEAR:
            at_horizon, at_longest = _vertex(p, np.array([0.0, self.last_age])).T
            tailed = np.column_stack([tailed, (at_horizon - at_longest) / -self.last_age])
        log = log - 0.5 * (TAILS + 1) * np.log1p(_deviations(tailed, self.tailed) ** 2 / TAILS).sum(axis=1)
        outside = (left < self.low) | (right > self.high) | (left > right) | (np.abs(log_noise) > 12)
        log = np.where(outside, -np.inf, log)
        stand_in = np.array([-1.0, -0.8, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -4.0])
        p = np.where(outside[:, None], stand_in, p)

        rho_all = _rho(p, self.x_all, self.age_all)
        rho, rho_cliff = rho_all[:, : len(self.x_N)], rho_all[:, len(self.x_N) :]
        noise = np.exp(p[:, 8])[:, None]
        variance = self.distrust_N**2 * (noise**2 + (MISFIT * rho * (1.0 - rho / 2.0) * self.scale_N) ** 2)
        log = log - 0.5 * np.log(variance).sum(axis=1)
        # Each rung's best m_k, below init, has a normal prior around the lowest seen; it is solved for and integrated.
        a, w = 1.0 - rho, 1.0 / variance
        prior_K = 1.0 / (FLOOR * self.drop_K / self.top + 1e-9 + noise) ** 2
        mean_K = -self.drop_K / self.top
        normal = (w * a * a) @ self.member_KN.T + prior_K
        m = ((w * a * self.y_N) @ self.member_KN.T + prior_K * mean_K) / normal
        residual = self.y_N - (m @ self.member_KN) * a
        log = log - 0.5 * (w * residual**2).sum(axis=1) - 0.5 * (prior_K * (m - mean_K) ** 2).sum(axis=1)
        log = log + 0.5 * (np.log(prior_K) - np.log(normal)).sum(axis=1)
        # What diverges has lost at least half of the drop.
        short = np.maximum(0.5 - rho_cliff, 0.0)
        log = log - 0.5 * ((short / 0.1) ** 2).sum(axis=1)
        return np.asarray(log)


def _deviations(values: Floats, prior: Floats) -> Floats:
    """How far each column lies from its prior's mean, in the prior's deviations."""
    means, deviations = prior
    return np.asarray((values - means) / deviations)


def _held(values: Floats, most: float) -> Floats:
    """Values within ±most; `np.clip` takes ten times as long on arrays as small as these."""
    return np.asarray(np.minimum(np.maximum(values, -most), most))


def _vertex(p: Floats, age: Floats) -> Floats:
    """Where the vertex lies at each age, shape (G, len(age))."""
    left, b, log_s, pace_s, right, c, log_t, pace_t = p[:, :8].T[:, :, None]
    s, t = np.exp(_held(log_s + pace_s * age, 20.0)), np.exp(_held(log_t + pace_t * age, 20.0))
    return np.asarray((s * (left + b * age) + t * (right + c * age) + np.log10(s / t)) / (s + t))


def _rho(p: Floats, x: Floats, age: Floats) -> Floats:
    left, b, log_s, pace_s, right, c, log_t, pace_t = p[:, :8].T[:, :, None]
    too_low = 1.0 / (1.0 + 10.0 ** _held(np.exp(log_s + pace_s * age) * (x - left - b * age), 30.0))
    too_high = 1.0 / (1.0 + 10.0 ** _held(np.exp(log_t + pace_t * age) * (right + c * age - x), 30.0))
    return np.asarray(np.minimum(1.0, too_low + too_high))


def quantiles(values: Floats, q: Sequence[float]) -> list[float]:
    """Quantiles, as floats."""
    return [float(v) for v in np.quantile(values, q)]
