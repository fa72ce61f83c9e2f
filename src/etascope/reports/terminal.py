"""Loss against lr in characters: one row for the answer, several for `str(plot)`."""

from __future__ import annotations

import math

import numpy as np

from .. import numbers as n
from ..records import Finding
from .facts import Facts

__all__ = ["chart", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(facts: Facts, width: int = 40) -> str:
    """One row: loss over the log of lr, the zone in brackets, × where it diverges, the ends named."""
    if facts.tried is None:
        return ""
    lrs = _columns(facts, width)
    losses = [_loss_at(facts, lr) for lr in lrs]
    lo, hi = _range(facts, losses)
    cells = []
    for loss in losses:
        if loss is None:
            cells.append(" ")
        elif not math.isfinite(loss):
            cells.append("×")
        else:
            height = (loss - lo) / (hi - lo) if hi > lo else 0.0
            height = 1 - height if facts.maximised else height
            cells.append(_BLOCKS[max(0, min(7, int(height * 8)))])
    if facts.zone is not None:
        first, last = _span(lrs, facts.zone)
        cells[first] = "[" + cells[first]
        cells[last] += "]"
    return f"{n.lr(facts.tried[0])} {''.join(cells)} {n.lr(facts.tried[1])}"


def chart(facts: Facts, width: int = 64, height: int = 12) -> str:
    """Several rows: ● prediction or longest rung, ○ settings, × diverged, ━ zone on the axis, ▲ answer."""
    if facts.tried is None:
        return "Nothing was trained."
    lrs = _columns(facts, width)
    losses = [_loss_at(facts, lr) for lr in lrs]
    seen = [(c.lr, c.loss) for rung in facts.record.rungs for c in rung.curves]
    lo, hi = _range(facts, [*losses, *(v for _, v in seen)])
    grid = [[" "] * width for _ in range(height)]

    def row(loss: float) -> int:
        part = min(1.0, (loss - lo) / (hi - lo)) if hi > lo else 0.0
        at = (height - 1) - round(part * (height - 2))
        return height - 1 - at if facts.maximised else at

    worst = height - 1 if facts.maximised else 0
    for lr, loss in seen:
        at = _column(lrs, lr)
        if not math.isfinite(loss):
            grid[worst][at] = "×"
        elif grid[row(loss)][at] == " ":
            grid[row(loss)][at] = "○"
    for i, value in enumerate(losses):
        if value is not None and math.isfinite(value):
            grid[row(value)][i] = "●"
    top, bottom = (lo, hi) if facts.maximised else (hi, lo)
    names = {row(hi): n.loss(facts.shown(hi)), row(lo): n.loss(facts.shown(lo))}
    margin = max(len(n.loss(facts.shown(v))) for v in (top, bottom)) + 1
    lines = [f"{names.get(i, ''):>{margin}} │{''.join(cells)}" for i, cells in enumerate(grid)]
    axis = ["─"] * width
    if facts.zone is not None:
        first, last = _span(lrs, facts.zone)
        axis[first : last + 1] = "━" * (last + 1 - first)
    if facts.lr is not None:
        axis[_column(lrs, facts.lr)] = "▲"
    left, right = n.lr(facts.tried[0]), n.lr(facts.tried[1])
    below = [" "] * width
    below[: len(left)], below[width - len(right) :] = list(left), list(right)
    if facts.lr is not None:
        text = n.lr(facts.lr)
        start = max(0, min(width - len(text), _column(lrs, facts.lr) - len(text) // 2))
        if len(left) < start and start + len(text) < width - len(right):
            below[start : start + len(text)] = list(text)
    space = " " * (margin + 1)
    title = f"{facts.measure} against lr"
    return "\n".join([title, *lines, f"{space}└{''.join(axis)}", f"{space} {''.join(below)}"])


def _columns(facts: Facts, width: int) -> list[float]:
    lo, hi = facts.tried or (1.0, 1.0)
    return [float(v) for v in np.geomspace(lo, hi, width)] if hi > lo else [lo]


def _column(lrs: list[float], lr: float) -> int:
    return int(np.argmin([abs(math.log(v / lr)) for v in lrs]))


def _span(lrs: list[float], zone: tuple[float, float]) -> tuple[int, int]:
    inside = [i for i, lr in enumerate(lrs) if zone[0] <= lr <= zone[1]]
    if not inside:
        middle = _column(lrs, math.sqrt(zone[0] * zone[1]))
        return middle, middle
    return inside[0], inside[-1]


def _loss_at(facts: Facts, lr: float) -> float | None:
    """Raw loss at an lr: as predicted, else between settings of the longest rung around; `inf` diverged."""
    if facts.edge is not None and lr >= facts.edge * (1 - 1e-9):
        return math.inf
    record = facts.record
    if isinstance(record, Finding):
        p = record.predicted
        if p.lrs and p.lrs[0] * 0.999 <= lr <= p.lrs[-1] * 1.001:
            return float(np.interp(math.log(lr), np.log(p.lrs), p.loss))
    for rung in sorted(facts.rungs, key=lambda r: -r.steps):
        if rung.lrs and rung.lrs[0] * 0.999 <= lr <= rung.lrs[-1] * 1.001:
            if len(rung.lrs) == 1:
                return rung.means[0]
            x = np.log(rung.lrs)
            i = int(np.clip(np.searchsorted(x, math.log(lr)), 1, len(x) - 1))
            pair = rung.means[i - 1 : i + 1]
            if not all(math.isfinite(v) for v in pair):
                return pair[0 if math.log(lr) - x[i - 1] < x[i] - math.log(lr) else 1]
            return float(np.interp(math.log(lr), x[i - 1 : i + 1], pair))
    return None


def _range(facts: Facts, losses: list[float] | list[float | None]) -> tuple[float, float]:
    known = sorted(v for v in losses if v is not None and math.isfinite(v))
    if not known:
        return 0.0, 1.0
    if facts.init is not None and facts.init > known[0]:
        return known[0], min(known[-1], facts.init)
    bulk = known[(len(known) * 3) // 4]
    return known[0], min(known[-1], known[0] + 4 * (bulk - known[0]) or known[-1])
