"""How an answer is judged against the dense truth of its workload. Pure: nothing is trained here.

Losses between two lrs of the truth are linear in log lr; beside one that diverges, and above the grid, they are inf.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

import etascope as eta

MISS = 20.0  # of an interval that is to hold 90%: 2 / (1 - 0.9), the price of a decade beside it (Gneiting, Raftery)
EDGE_SLACK = 0.15  # decades around the bracket of the edge; lrs of the truth are a quarter of one apart

Interval = tuple[float, float]


class Score(NamedTuple):
    """Whether an answer is in the true zone, and its regret, at most 1."""

    in_zone: bool
    regret: float


def score(dense: eta.Sweep, lr: float | None) -> Score:
    """Judge an lr by the mean loss that the truth has for it; no lr is a regret of 1, as one that learns nothing.

    Below the grid, what is learnt is taken to be proportional to the lr, which is the worst that it can be where the
    loss falls less and less steeply; above the grid everything counts as diverged.

    Args:
        dense: the truth.
        lr: what a method answered, None where it had no answer.
    """
    if lr is None:
        return Score(False, 1.0)
    lowest = float(dense.lrs[0])
    if lr < lowest:
        return Score(False, 1.0 - (1.0 - score(dense, lowest).regret) * lr / lowest)
    return score_loss(dense, dense.mean_loss(lr))


def score_loss(dense: eta.Sweep, loss: float) -> Score:
    """Judge the final loss itself, for a method that gives no lr but a trained model; inf where it diverged.

    The regret is negative where its optimizer does better than the task's own can at any lr.
    """
    _, best = dense.best
    if not math.isfinite(loss):
        return Score(False, 1.0)
    return Score(bool(loss <= best + dense.tolerance), float(min((loss - best) / (dense.init_loss - best), 1.0)))


def as_good(dense: eta.Sweep) -> list[Interval]:
    """The lrs whose true mean loss is within one standard error of the best, as intervals of log10 lr."""
    limit, lanes = dense.best[1] + standard_error(dense), dense.lanes
    found = []
    for left, right in itertools.pairwise(lanes):
        (a, low), (b, high) = ((math.log10(lane.lr), lane.mean) for lane in (left, right))
        if low <= limit and high <= limit:
            found.append((a, b))
        elif low <= limit or high <= limit:
            at, beyond, good, bad = (a, b, low, high) if low <= limit else (b, a, high, low)
            reach = at + (beyond - at) * (limit - good) / (bad - good) if math.isfinite(bad) else at
            found.append((min(at, reach), max(at, reach)))
    return found


def standard_error(dense: eta.Sweep) -> float:
    """Of the mean loss at the best lr."""
    losses = dense.best_lane.losses
    return float(losses.std(ddof=1) / len(losses) ** 0.5)


def distance(dense: eta.Sweep, interval: Interval) -> float:
    """Decades from an interval to the nearest lr that is within one standard error of the best; 0 if it holds one."""
    low, high = (math.log10(end) for end in interval)
    return min(max(a - high, low - b, 0.0) for a, b in as_good(dense))


def width(interval: Interval) -> float:
    """Decades."""
    return math.log10(interval[1] / interval[0])


def covers(dense: eta.Sweep, interval: Interval) -> bool:
    """Whether an interval holds an lr whose true mean loss is within one standard error of the best."""
    return distance(dense, interval) <= 1e-9


def interval_score(dense: eta.Sweep, interval: Interval) -> float:
    """Width in decades + 20 x distance to the nearest lr that is as good as the best: low is good, for 90%."""
    return width(interval) + MISS * distance(dense, interval)


def bracket(dense: eta.Sweep) -> Interval | None:
    """Where the edge must lie: between the last lr that trains for all seeds and the first from which none does.

    None where the truth has no edge; open to the right where some seed trains at the largest lr.
    """
    if dense.edge is None:
        return None
    lrs, finite = dense.lrs, np.isfinite(dense.losses)
    trains, some = np.flatnonzero(finite.all(1)), np.flatnonzero(finite.any(1))
    beyond = some[-1] + 1 if len(some) else 0
    low = lrs[trains[-1]] if len(trains) else 0.0
    return float(low), float(lrs[beyond]) if beyond < len(lrs) else math.inf


def edge_right(dense: eta.Sweep, edge: float | None) -> bool | None:
    """Whether a stated edge lies in the bracket of the true one, within .15 decade; None where there is no true edge.

    To state none where there is one is wrong.
    """
    found = bracket(dense)
    if found is None:
        return None
    slack = 10**EDGE_SLACK
    return edge is not None and found[0] / slack <= edge <= found[1] * slack
