"""The schedule: the lr over the steps of a complete run."""

from __future__ import annotations

import math

from .. import numbers as n
from .facts import Facts
from .scales import Scale
from .svg import Canvas

__all__ = ["schedule"]


def schedule(facts: Facts, narrow: bool = False) -> Canvas | None:
    """The lr over the horizon; None where the record holds no schedule."""
    points = [(s, v) for s, v in facts.record.multipliers if math.isfinite(v)]
    if len(points) < 2:
        return None
    peak = facts.lr if facts.lr is not None else 1.0
    width, height = (390.0, 190.0) if narrow else (940.0, 210.0)
    left, right, top, bottom, size = 52.0, width - 12, 34.0, height - 30, 12.0 if narrow else 13.0
    c = Canvas(width, height, "The learning rate over the steps of a complete run.")
    high = max(v for _, v in points) or 1.0
    x = Scale(0, max(facts.record.horizon, points[-1][0], 1), left, right)
    y = Scale(min(0.0, *(v for _, v in points)), high * 1.04, bottom, top)
    c.text(
        (0, 15),
        "Learning rate" if facts.lr is not None else "Multiple of the peak learning rate",
        "soft",
        size=size,
    )
    for part in (0.0, 0.5, 1.0):
        at = y(part * high)
        c.line((left, at), (right, at), "axis" if part == 0 else "grid")
        value = part * high * peak
        said = "0" if value == 0 else (n.lr(value) if facts.lr is not None else f"{value:.3g}")
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
