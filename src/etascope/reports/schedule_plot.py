"""The schedule: the lr over the steps of a complete run, as a picture and in characters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from .. import numbers as n
from .facts import Facts
from .scales import Scale
from .svg import Canvas

if TYPE_CHECKING:
    from ..schedules import Bound

__all__ = ["curve", "points_of", "schedule", "schedule_chart"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
Points = Sequence[tuple[float, float]]  # (step, multiplier)


def schedule(facts: Facts, narrow: bool = False) -> Canvas | None:
    """The lr over the horizon; None where the record holds no schedule."""
    points = [(s, v) for s, v in facts.record.multipliers if math.isfinite(v)]
    if len(points) < 2:
        return None
    return curve(points, facts.record.horizon, facts.lr, narrow)


def points_of(bound: Bound, buckets: int = 450) -> list[tuple[float, float]]:
    """What of a bound schedule a picture can show: every step, or the extremes of each bucket of steps."""
    values = bound.multipliers()
    if len(values) <= 4 * buckets:
        return list(enumerate(values.tolist()))
    edges = np.linspace(0, len(values), buckets + 1).astype(int)
    steps = {0, len(values) - 1}
    for a, b in pairwise(edges):
        steps |= {int(a + values[a:b].argmin()), int(a + values[a:b].argmax())}
    return [(t, float(values[t])) for t in sorted(steps)]


def curve(points: Points, horizon: int, lr: float | None, narrow: bool = False) -> Canvas:
    """Multipliers over the steps, as learning rates where the peak `lr` is known."""
    peak = lr if lr is not None else 1.0
    width, height = (390.0, 190.0) if narrow else (940.0, 210.0)
    left, right, top, bottom, size = 52.0, width - 12, 34.0, height - 30, 12.0 if narrow else 13.0
    c = Canvas(width, height, "The learning rate over the steps of a complete run.")
    high = max(v for _, v in points) or 1.0
    x = Scale(0, max(horizon, points[-1][0], 1), left, right)
    y = Scale(min(0.0, *(v for _, v in points)), high * 1.04, bottom, top)
    c.text((0, 15), "Learning rate" if lr is not None else "Multiple of the peak learning rate", "soft", size=size)
    for part in (0.0, 0.5, 1.0):
        at = y(part * high)
        c.line((left, at), (right, at), "axis" if part == 0 else "grid")
        value = part * high * peak
        said = "0" if value == 0 else (n.lr(value) if lr is not None else f"{value:.3g}")
        c.text((left - 8, at + 4), said, "soft", "end", size - 1)
    ticks = x.ticks(3 if narrow else 6, gap=60)
    for tick in ticks:
        anchor = "end" if x(tick) > right - 20 else "middle"
        unit = " steps" if tick == ticks[-1] else ""
        c.text((x(tick), bottom + 19), f"{tick:,.0f}{unit}", "soft", anchor, size - 1)
    line = [(x(s), y(v)) for s, v in points]
    c.path([(line[0][0], bottom), *line, (line[-1][0], bottom)], "band", closed=True)
    c.path(line, "predicted")
    return c


def schedule_chart(bound: Bound, lr: float | None, width: int = 64, height: int = 10) -> str:
    """The same in characters: a column is the mean over its steps, in eighths of a row."""
    values = bound.multipliers()
    edges = np.linspace(0, len(values), width + 1)
    columns = [values[int(a) : max(int(b), int(a) + 1)].mean() for a, b in pairwise(edges)]
    high, low = max(float(values.max()), 0.0), min(float(values.min()), 0.0)
    span = (high - low) or 1.0
    peak = 1.0 if lr is None else lr
    names = {0: high * peak, height - 1: low * peak}
    said = {row: "0" if v == 0 else n.lr(v) if lr is not None else f"{v:.3g}" for row, v in names.items()}
    margin = max(map(len, said.values()))
    lines = []
    for row in range(height):
        filled = ((v - low) / span * height - (height - 1 - row) for v in columns)
        cells = "".join(_BLOCKS[max(0, min(8, math.ceil(f * 8 - 1e-9)))] for f in filled)
        lines.append(f"{said.get(row, ''):>{margin}} │{cells}")
    last = f"{bound.horizon:,} steps"
    title = "Learning rate" if lr is not None else "Multiple of the peak learning rate"
    space = " " * (margin + 1)
    return "\n".join([title, *lines, f"{space}└{'─' * width}", f"{space} 0{last:>{width - 1}}"])
