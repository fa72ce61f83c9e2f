"""The usual finders' look: one short training under an lr that rises at every step, and the rules that read it.

    lr_t = 1e-7 · (10 / 1e-7)^(t / n),    t = 0 … n − 1

It watches the next steps of a rising lr, where the best loss at the end of a scheduled run is wanted, so it is never
trusted alone: it stands beside the answer, to show how the usual finders would have fared.

Rules (Smith 2015, arXiv 1506.01186; fastai 2.8 `fastai/callback/schedule.py`; pytorch-lr-finder 0.2), on losses
smoothed by an average of weight .98 corrected for its start, without the first tenth and the last five:

- steepest: where the loss falls fastest by log lr;
- minimum/10: a tenth of where it is lowest;
- valley: a third and a half of a third into its longest descent;
- slide: from the right, before its slope changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..engines import Setting
from ..records import Curve, RangeTest
from ..schedules import exponential
from .race import Range
from .session import Session

__all__ = ["RULES", "look_steps", "range_test", "rule_of_thumb", "suggestions"]

Floats = NDArray[np.float64]

LOW, HIGH = 1e-7, 10.0  # fastai's
MOST, LEAST = 100, 20  # steps: the usual number, and fewer than tell anything
SHARE = 0.04  # of the budget
WEIGHT = 0.98  # of the average that smooths
BLOWN_UP = 4.0  # times the lowest: there it stops
FIRST, LAST = 10, 5  # a tenth of the points before, and these after, tell nothing

THUMBS = {  # what people start from
    "SGD": 0.1,  # He et al. 2015, with momentum .9
    "Adam": 3e-4,  # Karpathy 2016: "the best learning rate for Adam, hands down"
    "AdamW": 3e-4,
    "NAdam": 3e-4,
    "RAdam": 3e-4,
    "RMSprop": 1e-3,  # Hinton's lecture 6e, 2012
    "Adagrad": 1e-2,  # torch's default, too
    "Adadelta": 1.0,  # Zeiler 2012: none is needed
    "Lion": 1e-4,  # Chen et al. 2023: a third to a tenth of AdamW's
}


def rule_of_thumb(optimizer: str) -> float | None:
    """The lr that people start from with an optimizer of this name; None where there is none."""
    return THUMBS.get(optimizer)


def look_steps(session: Session, total: int, bounds: Range) -> int:
    """Steps of the look: at most a twenty-fifth of `total` training steps; 0 where that is too few to tell anything.

    A training function takes no schedule of ours, and a range that ends at the user's `lr_max` is not looked beyond.
    """
    steps = min(MOST, int(SHARE * total))
    return steps if steps >= LEAST and session.takes_options and bounds.lr_max is None else 0


def range_test(session: Session, total: int, bounds: Range) -> RangeTest | None:
    """Take the look, where budget, engine and bounds allow it."""
    steps = look_steps(session, total, bounds)
    if not steps:
        return None
    rising = exponential(start=LOW / HIGH, to=1.0)
    curve = session.look(Setting(session.seed, HIGH, (("schedule", rising),)), steps)
    lrs = HIGH * np.asarray(rising.bind(steps).multipliers())
    points = _until_blown_up(lrs, curve)
    return RangeTest(session.seed, points, suggestions(points))


def suggestions(points: tuple[tuple[float, float], ...]) -> dict[str, float | None]:
    """What each rule reads off (lr, loss) points."""
    lrs, losses = np.array([p[0] for p in points]), _smooth([p[1] for p in points])
    inside = slice(len(lrs) // FIRST, max(len(lrs) - LAST, 0))
    lrs, losses = lrs[inside], losses[inside]
    if len(lrs) < 3:
        return dict.fromkeys(RULES)
    return {name: rule(lrs, losses) for name, rule in RULES.items()}


def _until_blown_up(lrs: Floats, curve: Curve) -> tuple[tuple[float, float], ...]:
    losses = [loss for _, loss in curve.train]
    smooth = _smooth(losses)
    lowest = np.minimum.accumulate(smooth) if losses else smooth
    blown = np.flatnonzero(smooth > BLOWN_UP * np.abs(lowest))
    until = int(blown[0]) + 1 if len(blown) else len(losses)
    return tuple(zip(lrs[:until].tolist(), losses[:until], strict=True))


def _smooth(losses: list[float]) -> Floats:
    average, out = 0.0, []
    for i, loss in enumerate(losses, 1):
        average = WEIGHT * average + (1 - WEIGHT) * loss
        out.append(average / (1 - WEIGHT**i))
    return np.array(out)


def _steepest(lrs: Floats, losses: Floats) -> float:
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))])


def _minimum(lrs: Floats, losses: Floats) -> float:
    return float(lrs[np.argmin(losses)]) / 10


def _valley(lrs: Floats, losses: Floats) -> float:
    lengths = [1] * len(losses)  # of the longest descent that ends at each point
    start = end = 0
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end, start = i, i - lengths[i]
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def _slide(lrs: Floats, losses: Floats, apart: int = 15, least: float = 0.005) -> float | None:
    if len(losses) <= apart:
        return None
    slope = np.gradient(losses)
    right, left = -1, -1 - apart
    found = lrs[left]
    while left >= -len(losses) and abs(slope[right] - slope[left]) > least:
        found = lrs[left]
        right, left = right - 1, left - 1
    return float(found) if math.isfinite(found) else None


RULES: dict[str, Callable[[Floats, Floats], float | None]] = {
    "steepest": _steepest,
    "minimum/10": _minimum,
    "valley": _valley,
    "slide": _slide,
}
