"""A run's log as numbers without a scale: neither the loss's unit nor where steps begin to count changes them.

Two kinds tell a unit nevertheless, since a rule's lr has one: an update per gradient, a gradient per weight.

Each feature belongs to the columns that it is made of, which its name begins with: `loss.`, `noise.` (losses of 40
steps or more), `val.`, `lr.`, `grad.`, `step.` (the layers' probes), `rule.` (the optimizer) and `along.` (both).
What a log does not allow is NaN.

K blocks of equal length make up the run; L layers, P probes.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from .log import FloatArray, RunLog, Series

__all__ = ["GROUPS", "features", "group", "momentum", "names"]

GROUPS = ("loss", "noise", "val", "lr", "grad", "step", "along", "rule")
BLOCKS = 40
PLACES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)
TINY = 1e-12
ADAPTIVE = ("adam", "adagrad", "rmsprop", "adadelta", "lion", "novograd", "adafactor", "lamb", "sophia")


def group(name: str) -> str:
    """The columns that a feature is made of."""
    return name.split(".")[0]


def features(log: RunLog) -> dict[str, float]:
    """All features of a run.

    Args:
        log: what was read.

    Returns:
        A number, at most 12 in size, or NaN for each of `names()`, in their order.
    """
    log = replace(log, loss=_tame(log.loss), val=_tame(log.val), lr=_tame(log.lr), grad=_tame(log.grad))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # means of what a log has none of
        found = {name: _bounded(value) for part in _PARTS for name, value in part(log)}
    return {name: found.get(name, math.nan) for name in names()}


def _tame(series: Series) -> Series:
    """With what is too large to be squared as infinite: such a run has diverged."""
    return Series(series.steps, np.where(np.abs(series.values) > 1e60, np.inf, series.values))


def _bounded(value: float) -> float:
    return math.nan if math.isnan(value) else float(min(max(value, -12.0), 12.0))


# ------------------------------------------------------------------------------------ the loss


class _Shape:
    """The training loss by blocks.

    Attributes:
        start: the level at the start.
        floor: the lowest block.
        drop: how far it fell from start to floor; at least a trifle.
        blocks_K: block means, filled in between; up to where the losses end, then NaN.
        noise_K: deviation of a loss from its neighbours, by block.
    """

    def __init__(self, log: RunLog) -> None:
        first, end = log.span
        steps, losses = log.loss.finite
        self.at = (steps - first) / max(end - first, 1.0)
        self.losses = losses
        self.start = float(np.mean(losses[: max(1, min(3, len(losses) // 4))])) if len(losses) else math.nan
        self.blocks_K = self.by_block(losses, np.mean, fill=True)
        self.floor = float(np.nanmin(self.blocks_K)) if len(losses) else math.nan
        self.size = max(abs(self.start), TINY)
        self.drop = max(self.start - self.floor, 1e-6 * self.size)
        smooth = self.trend(losses)
        self.residuals = losses - smooth
        self.noise_K = self.by_block(self.residuals, lambda r: float(np.median(np.abs(r))) * 1.4826)

    def by_block(self, values: FloatArray, make: Callable[[FloatArray], float], fill: bool = False) -> FloatArray:
        out = np.full(BLOCKS, np.nan)
        if len(values) == 0:
            return out
        which = np.minimum((self.at * BLOCKS).astype(int), BLOCKS - 1)
        for k in range(BLOCKS):
            inside = values[which == k]
            if len(inside):
                out[k] = make(inside)
        if fill:
            known = np.flatnonzero(~np.isnan(out))
            out[: known[-1] + 1] = np.interp(np.arange(known[-1] + 1), known, out[known])
        return out

    @staticmethod
    def trend(losses: FloatArray) -> FloatArray:
        """A running median of some neighbours."""
        half = min(5, (len(losses) - 1) // 2)
        if half < 1:
            return losses.copy()
        padded = np.pad(losses, half, mode="edge")
        trend: FloatArray = np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1)
        return trend

    def level(self, at: float) -> float:
        """The loss at a place of the run."""
        k = min(int(at * BLOCKS), BLOCKS - 1)
        return float(self.blocks_K[k])


def _of_loss(log: RunLog) -> Iterator[tuple[str, float]]:
    s, n = _Shape(log), len(log.loss)
    bad = ~np.isfinite(log.loss.values)
    yield "loss.nonfinite", float(bad.any())
    yield "loss.nonfinite_share", float(bad.mean()) if n else math.nan
    yield "loss.nonfinite_from", float(np.argmax(bad)) / n if bad.any() else 1.0
    if len(s.losses) < 2:
        return
    for at in PLACES:
        yield f"loss.fallen_{at:g}", (s.start - s.level(at)) / s.drop
    known = s.blocks_K[~np.isnan(s.blocks_K)]
    last, third = float(known[-2:].mean()), max(1, len(known) // 3)
    yield "loss.fallen_end", (s.start - last) / s.drop
    yield from _gains("loss", s.at, s.losses, s.drop)
    yield "loss.drop", s.drop / s.size
    yield "loss.drop_log", math.log10(s.drop / s.size)
    yield "loss.left", (s.floor / s.size) if s.start > 0 else math.nan
    yield "loss.left_log", _log(max(s.floor, TINY) / s.size) if s.start > 0 else math.nan
    yield "loss.end_above_floor", (last - s.floor) / s.drop
    yield "loss.above_start", float((known > s.start * (1 + 1e-9)).mean())
    yield "loss.worst", _log1p((float(s.losses.max()) - s.start) / s.size)
    yield "loss.worst_block", _log1p((float(known.max()) - s.start) / s.size)
    early = s.losses[s.at <= 0.05]
    yield "loss.worst_early", _log1p((float(early.max()) - s.start) / s.size) if len(early) else math.nan
    yield "loss.late_slope", (float(known[-third]) - last) / s.drop
    yield "loss.mid_slope", (s.level(0.3) - s.level(0.6)) / s.drop
    yield (
        "loss.slope_ratio",
        _log(abs(float(known[-third]) - last) / max(abs(float(known[0] - known[third - 1])), TINY)),
    )
    yield "loss.straight", _straight(known)
    yield "loss.roughness", _log(float(np.abs(np.diff(known)).sum()) / max(abs(float(known[0] - known[-1])), s.drop))
    yield "loss.turns", float((np.diff(np.sign(np.diff(known))) != 0).mean()) if len(known) > 2 else math.nan
    late_range = known[len(known) // 2 :]
    yield "loss.late_range", _log(float(np.ptp(late_range)) / s.size)
    yield "loss.first_step", (float(s.losses[1]) - float(s.losses[0])) / s.size
    if n >= 40:  # blocks of less hold too few losses to tell noise
        yield from _of_noise(s)


def _of_noise(s: _Shape) -> Iterator[tuple[str, float]]:
    noise_K = s.noise_K[~np.isnan(s.noise_K)]
    part = max(1, len(noise_K) // 5)
    head, mid, tail = (float(np.mean(p)) for p in (noise_K[:part], noise_K[2 * part : 3 * part], noise_K[-part:]))
    yield "noise.start", _log(head / s.size)
    few = s.losses[:10]
    yield "noise.worst_first", _log1p((float(few.max()) - s.start) / s.size)
    yield "noise.change_first", _signed((float(few[5:].mean()) - float(few[0])) / s.size)
    yield "noise.mid", _log(mid / s.drop)
    yield "noise.end", _log(tail / s.drop)
    yield "noise.level", _log(tail / max(abs(float(np.nanmean(s.blocks_K[-part:]))), 1e-3 * s.size))
    yield "noise.growth", _log(tail / max(head, TINY * s.size))
    spread = float(np.median(np.abs(s.residuals))) * 1.4826 + TINY * s.size
    far = np.abs(s.residuals) / spread
    yield "noise.outliers", float((far > 6).mean())
    yield "noise.farthest", _log(float(far.max()))
    yield from _spikes(s.residuals / spread)
    top = np.sort(s.residuals)[-max(1, len(far) // 50) :]
    yield "noise.spike", _log1p(float(np.median(top)) / s.size)
    yield "noise.skew", _skew(s.residuals, spread)
    later = s.losses[len(s.losses) // 3 :]
    detrended = later - _line(later)
    yield "noise.lag1", _lag(detrended, 1)
    yield "noise.lag2", _lag(detrended, 2)
    yield "noise.lag_far", _lag(detrended, max(3, len(detrended) // 50))
    yield "noise.lag1_residual", _lag(s.residuals[len(s.losses) // 3 :], 1)


def _spikes(far: FloatArray) -> Iterator[tuple[str, float]]:
    """Losses far above their neighbours, those that stand alone and those that do not; whether they come back in time.

    A broken batch is one step wide, and so is what a fixed order of the data brings again after an epoch; where the lr
    is too high, a rise takes some steps to build up.
    """
    high = np.pad(far > 6, 1)
    beside = high[:-2] | high[2:]
    yield "noise.alone", _log(float((high[1:-1] & ~beside).mean()) + 1e-4)
    yield "noise.together", _log(float((high[1:-1] & beside).mean()) + 1e-4)
    ranks = far.argsort().argsort() - (len(far) - 1) / 2
    lags = np.array([float(ranks[lag:] @ ranks[:-lag]) for lag in range(3, min(len(far) // 6, 150))])
    if len(lags) < 8:
        return
    lags /= max(float(ranks @ ranks), TINY)
    yield "noise.comes_back", float(lags.max())
    yield "noise.comes_back_above", float((lags[1:-1] - (lags[:-2] + lags[2:]) / 2).max())


def _gains(name: str, pace: FloatArray, values: FloatArray, drop: float) -> Iterator[tuple[str, float]]:
    """What the last tripling of the way brought, the one before it, and what a further one promises, of the drop.

    An lr three times as large would have come as far in a third of the time, as long as it is too low: so this is what
    a larger one has to gain.

    Args:
        name: of the features' group.
        pace: how far the run had come at each value, 0 to 1: the share of its steps, or of the sum of its lrs.
        values: losses.
        drop: from start to floor.
    """
    levels = [_mean(values[(pace >= 0.8 * x) & (pace <= x)]) for x in (1.0, 1 / 3, 1 / 9)]
    last, before = (levels[1] - levels[0]) / drop, (levels[2] - levels[1]) / drop
    yield f"{name}.tripling", _signed(last)
    yield f"{name}.tripling_before", _signed(before)
    yield f"{name}.next_tripling", _signed(last * min(last / max(before, 1e-4), 1.5) if last > 0 else last)


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _signed(share: float) -> float:
    """Decades above a thousandth, of a share of either sign: the zone is two hundredths high."""
    return math.copysign(math.log10(1.0 + abs(share) / 1e-3), share) if math.isfinite(share) else math.nan


def _log(value: float) -> float:
    return math.log10(max(value, 1e-9)) if math.isfinite(value) else math.nan


def _log1p(value: float) -> float:
    """Decades above 1 + value, 0 below."""
    return math.log10(1.0 + max(value, 0.0)) if math.isfinite(value) else math.nan


def _line(values: FloatArray) -> FloatArray:
    at = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(at @ values) / max(float(at @ at), TINY)
    line: FloatArray = values.mean() + slope * at
    return line


def _lag(values: FloatArray, lag: int) -> float:
    if len(values) < lag + 10:
        return math.nan
    # Ranks: a few broken batches are no correlation.
    ranks = values.argsort().argsort() - (len(values) - 1) / 2
    return float(ranks[lag:] @ ranks[:-lag]) / max(float(ranks @ ranks), TINY)


def _skew(values: FloatArray, spread: float) -> float:
    low, mid, high = np.quantile(values, [0.02, 0.5, 0.98])
    return float((high + low - 2 * mid) / max(high - low, 1e-3 * spread))


def _straight(known: FloatArray) -> float:
    """How much of the blocks' variation a straight line over the run explains."""
    if len(known) < 4:
        return math.nan
    left = known - _line(known)
    whole = known - known.mean()
    return 1.0 - float(left @ left) / max(float(whole @ whole), TINY * float(np.abs(known).max()) ** 2 + 1e-300)


# ------------------------------------------------------------------------------------ validation


def _of_val(log: RunLog) -> Iterator[tuple[str, float]]:
    val = log.val.finite
    if len(val) < 2:
        return
    s = _Shape(log)
    v, low = val.values, float(val.values.min())
    size, drop = max(abs(float(v[0])), TINY), max(float(v[0]) - low, 1e-6 * max(abs(float(v[0])), TINY))
    yield "val.nonfinite", float(len(val) < len(log.val))
    yield "val.drop", (float(v[0]) - float(v[-1])) / size
    yield "val.best_drop", _log(drop / size)
    yield "val.end_above_best", (float(v[-1]) - low) / drop
    yield "val.best_at", float(v.argmin()) / (len(v) - 1)
    yield "val.worst", _log1p((float(v.max()) - float(v[0])) / size)
    span = max(float(val.steps[-1] - val.steps[0]), 1.0)
    every = np.linspace(0.0, 1.0, 200)  # there are few of them
    yield from _gains("val", every, np.interp(every, (val.steps - val.steps[0]) / span, v), drop)
    tail = v[-max(2, len(v) // 3) :]
    yield "val.late_range", _log(float(np.ptp(tail)) / drop)
    yield "val.late_slope", (float(tail[0]) - float(tail[-1])) / drop
    half = float(np.interp(val.steps[0] + (val.steps[-1] - val.steps[0]) / 2, val.steps, v))
    yield "val.fallen_half", (float(v[0]) - half) / drop
    if len(s.losses) >= 2:
        end = float(s.blocks_K[~np.isnan(s.blocks_K)][-4:].mean())
        yield "val.gap", (float(v[-1]) - end) / s.drop
        yield "val.gap_size", (float(v[-1]) - end) / s.size
        yield "val.gap_start", (float(v[0]) - s.start) / s.size
        yield "val.turning", float((np.diff(v) > 0).mean())


# ------------------------------------------------------------------------------------ the lr


def _of_lr(log: RunLog) -> Iterator[tuple[str, float]]:
    lr = log.lr.finite
    if not len(lr) or lr.values.max() <= 0:
        return
    peak = float(lr.values.max())
    yield "lr.peak", math.log10(peak)
    yield "lr.decay", _log(float(lr.values[-1]) / peak)
    yield "lr.warmup", float(lr.values[0] < 0.5 * peak)
    s = _Shape(log)
    if len(s.losses) >= 2:
        way = np.cumsum(np.maximum(np.interp(log.loss.finite.steps, lr.steps, lr.values), 0.0))
        yield from _gains("lr", way / max(float(way[-1]), TINY), s.losses, s.drop)
    lrs_K = s.by_block(np.interp(log.loss.finite.steps, lr.steps, lr.values), np.mean, fill=True)
    if not len(s.losses):
        return
    known = ~np.isnan(s.blocks_K) & ~np.isnan(lrs_K)
    top = int(np.nanargmax(np.where(known, lrs_K, np.nan)))
    low = np.flatnonzero(known & (lrs_K < 0.5 * peak) & (np.arange(BLOCKS) > top))
    if not len(low):
        yield "lr.fallen_in_decay", 0.0
        return
    before, after = float(s.blocks_K[max(0, low[0] - 1)]), float(s.blocks_K[known][-2:].mean())
    yield "lr.fallen_in_decay", (before - after) / s.drop
    noise = s.noise_K[low], s.noise_K[max(0, low[0] - 8) : low[0]]
    yield "lr.noise_in_decay", _log(float(np.nanmean(noise[0][-4:])) / max(float(np.nanmean(noise[1])), TINY * s.size))


def momentum(optimizer: str) -> float:
    """The share of an update that goes into the next one, as far as the optimizer's text tells.

    >>> momentum("SGD(momentum=0.9)"), momentum("AdamW(betas=(0.8, 0.95))"), momentum("Adam()"), momentum("SGD()")
    (0.9, 0.8, 0.9, 0.0)
    """
    for pattern in (r"momentum\s*[=:]\s*([\d.]+)", r"betas\s*[=:]\s*[(\[]\s*([\d.]+)", r"beta_?1\s*[=:]\s*([\d.]+)"):
        if found := re.search(pattern, optimizer):
            return min(float(found[1].rstrip(".") or 0), 0.999)
    name = optimizer.lower()
    return 0.9 if any(part in name for part in ("adam", "lamb", "lion", "adafactor")) else 0.0


def _adaptive(optimizer: str) -> bool:
    return any(part in optimizer.lower() for part in ADAPTIVE)


def _usual(optimizer: str) -> float:
    """Where the lrs of an optimizer lie as a rule: a prior, and no more."""
    if "adagrad" in optimizer.lower():
        return 0.1
    if not optimizer or _adaptive(optimizer):
        return 5e-3
    return 0.1 * math.sqrt(1 - momentum(optimizer))


def _of_rule(log: RunLog) -> Iterator[tuple[str, float]]:
    if log.optimizer:
        yield "rule.adaptive", float(_adaptive(log.optimizer))
        yield "rule.momentum", momentum(log.optimizer)
        lrs = log.lr.finite.values
        if len(lrs) and lrs.max() > 0:
            yield "rule.usual", math.log10(float(lrs.max()) / _usual(log.optimizer))


# ------------------------------------------------------------------------------------ the gradient


def _of_grad(log: RunLog) -> Iterator[tuple[str, float]]:
    grad = log.grad.finite
    if len(grad) < 4:
        return
    g = np.maximum(grad.values, 0.0)
    part = max(2, len(g) // 10)
    start, end = float(np.median(g[:part])), float(np.median(g[-part:]))
    late = g[len(g) // 2 :]
    yield "grad.growth", _log(end / max(start, 1e-30))
    yield "grad.worst", _log(float(g.max()) / max(float(np.median(g)), 1e-30))
    yield "grad.spread", _log(float(np.std(np.log(np.maximum(late, 1e-30)))) + 1e-6)
    yield "grad.same", float((np.abs(g - np.max(g)) <= 1e-3 * np.max(g)).mean())
    yield "grad.zero", float((g < 1e-9 * max(float(g.max()), 1e-30)).mean())
    yield "grad.lag1", _lag(np.log(np.maximum(late, 1e-30)), 1)


def _gain(log: RunLog) -> Iterator[tuple[str, float]]:
    """What the loss fell by, over what the gradients promised: Σ (effective lr · gradient²), by parts of the run."""
    s, grad = _Shape(log), log.grad.finite
    probes = [(p.step, _median([w.get("effective_lr", math.nan) for w in p.layers.values()])) for p in log.probes]
    probes = [(step, each) for step, each in probes if each > 0]
    if len(probes) < 2 or len(grad) < 4 or len(s.losses) < 2:
        return
    steps, values = np.array(probes).T
    each = np.exp(np.interp(grad.steps, steps, np.log(values)))
    first, end = log.span
    at = (grad.steps - first) / max(end - first, 1.0)
    promised = each * grad.values**2 * float(np.median(np.diff(grad.steps)))
    for a, b in ((0.0, 0.1), (0.1, 0.5), (0.5, 1.0), (0.0, 1.0)):
        fell = (s.level(a) if a else s.start) - s.level(b - 1e-9)
        inside = promised[(at >= a) & (at < b)]
        total = float(inside.sum()) if len(inside) else 0.0
        if total > 0 and not math.isnan(fell):
            yield f"step.gain_{a:g}_{b:g}", _log(fell / total) if fell > 0 else -9.0
            yield f"step.promise_{a:g}_{b:g}", _log(total / s.size)
    for name, a, b in (("early", 0.0, 0.1), ("mid", 0.1, 0.5), ("late", 0.5, 0.9), ("end", 0.9, 1.0)):
        inside = (at >= a) & (at <= b)
        if inside.any():
            # With noise alone in the gradients, that is how far above the floor the loss is held: lr tr Σ / 4.
            yield f"step.held_{name}", _log(float(np.median(each[inside] * grad.values[inside] ** 2)) / s.drop)


# ------------------------------------------------------------------------------------ the layers' steps


def _median(values: list[float]) -> float:
    kept = [v for v in values if math.isfinite(v)]
    return float(np.median(kept)) if kept else math.nan


def _of_steps(log: RunLog) -> Iterator[tuple[str, float]]:
    if not any(p.layers for p in log.probes):
        return
    first, end = log.span
    length = max(end - first, 1.0)
    at_P = np.array([(p.step - first) / length for p in log.probes])
    names = sorted({name for p in log.probes for name in p.layers})

    def table(what: str) -> FloatArray:
        return np.array([[p.layers.get(n, {}).get(what, np.nan) for n in names] for p in log.probes], float)

    ratio_PL, effective_PL, sign_PL = table("update_ratio"), table("effective_lr"), table("sign")
    ratio_PL[~np.isfinite(ratio_PL)] = np.nan
    still_PL = ~(ratio_PL > 0)
    yield "step.still", float(still_PL.mean())
    yield "step.dead", float(still_PL.all(0).mean())
    # A layer that is dead from the start is a fault; one that dies later may have been killed by a step too long.
    yield "step.still_first", float(still_PL[:2].mean())
    yield "step.still_last", float(still_PL[-5:].mean())
    ratio_PL[still_PL] = np.nan
    first_L = np.log10(ratio_PL[:2])
    yield "step.ratio_first", float(np.nanmedian(first_L))
    yield "step.ratio_max_first", float(np.nanmax(first_L))
    yield "step.sign_first", float(np.nanmean(sign_PL[:2]))
    log_PL = np.log10(ratio_PL)
    beta = momentum(log.optimizer)
    rho_PL = np.sin(np.pi / 2 * sign_PL)
    lrs_P = (
        np.interp([p.step for p in log.probes], *log.lr.finite) if len(log.lr.finite) else np.full(len(at_P), np.nan)
    )
    lrs_P[lrs_P <= 0] = np.nan
    theta_PL = log_PL - np.log10(effective_PL)  # gradient over weights
    own_PL = np.log10(effective_PL / lrs_P[:, None])
    weight_PL = np.log10(ratio_PL / lrs_P[:, None])
    for name, low, high in (("early", 0.0, 0.1), ("mid", 0.1, 0.5), ("late", 0.5, 0.9)):
        rows = (at_P >= low) & (at_P < high) & (at_P <= 1)
        if not rows.any():
            continue
        size = float(np.nanmedian(log_PL[rows]))
        yield f"step.ratio_{name}", size
        yield f"step.ratio_max_{name}", float(np.nanmax(np.nanmedian(log_PL[rows], axis=0)))
        yield f"step.ratio_min_{name}", float(np.nanmin(np.nanmedian(log_PL[rows], axis=0)))
        yield f"step.way_{name}", size + math.log10(length)
        yield f"step.walk_{name}", size + 0.5 * math.log10(length)
        yield f"step.sign_{name}", float(np.nanmean(sign_PL[rows]))
        yield f"step.sign_max_{name}", float(np.nanmax(np.nanmean(sign_PL[rows], axis=0)))
        yield f"step.sign_min_{name}", float(np.nanmin(np.nanmean(sign_PL[rows], axis=0)))
        if log.optimizer:
            yield f"along.{name}", float(np.nanmean((rho_PL[rows] - beta) / (1 - beta)))
        yield f"step.grad_{name}", float(np.nanmedian(theta_PL[rows]))
        yield f"step.own_{name}", float(np.nanmedian(own_PL[rows]))
        yield f"step.weight_{name}", float(np.nanmedian(weight_PL[rows]))
    yield from _of_scale(log, at_P)
    half = max(1, len(at_P) // 2)
    yield "step.weight_growth", float(np.nanmedian(weight_PL[:2]) - np.nanmedian(weight_PL[half:]))
    yield "step.ratio_spread", float(np.nanstd(np.nanmedian(log_PL, axis=0)))
    yield "step.sign_spread", float(np.nanstd(np.nanmean(sign_PL, axis=0)))
    yield "step.sign_change", float(np.nanmean(sign_PL[half:]) - np.nanmean(sign_PL[:half]))
    yield "step.sign_jumps", float(np.nanmean(np.nanstd(sign_PL, axis=0)))


def _of_scale(log: RunLog, at_P: FloatArray) -> Iterator[tuple[str, float]]:
    """The gradient's noise against its signal: targets that mean nothing leave noise alone."""
    scale_P = np.array([math.nan if p.noise_scale is None else p.noise_scale for p in log.probes])
    if np.isnan(scale_P).all():
        return
    yield "step.unaligned", float(np.isnan(scale_P).mean())
    for name, low, high in (("early", 0.0, 0.15), ("mid", 0.15, 0.5), ("late", 0.5, 1.0)):
        yield f"step.scale_{name}", _log(float(np.nanmedian(scale_P[(at_P >= low) & (at_P <= high)])))


_PARTS: tuple[Callable[[RunLog], Iterator[tuple[str, float]]], ...] = (
    _of_loss, _of_val, _of_lr, _of_grad, _of_steps, _gain, _of_rule,
)  # fmt: skip


@cache
def names() -> tuple[str, ...]:
    """The names of all features, from a log that has every column."""
    from .log import Probe

    at = np.arange(100.0)
    layers: Mapping[str, Mapping[str, float]] = {"a": {"update_ratio": 0.1, "effective_lr": 0.1, "sign": 0.1}}
    log = RunLog(
        loss=Series(at, 2 - at / 100 + 0.01 * np.sin(at)),
        lr=Series(at, 1 - at / 100),
        val=Series(at[::10], 2 - at[::10] / 100),
        grad=Series(at, 1 + at / 100),
        probes=tuple(Probe(float(s), layers, noise_scale=1.0) for s in at[::5]),
        optimizer="SGD()",
        horizon=100.0,
    )
    with np.errstate(all="ignore"):
        return tuple(name for part in _PARTS for name, _ in part(log))
