"""What the rows of run.py come to, method by method: how good, how sure, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from calibration import CALIBRATED, LEARNING_RATE_FREE, SCALED, calibrated
from scores import Score, covers, edge_right, interval_score, score, score_loss, width
from truth import truth

truth = cache(truth)


@dataclass(frozen=True)
class Line:
    """One method at one budget.

    Attributes:
        method: its name.
        budget: etascope's budget in complete runs; None for the others.
        tasks, rows: how many workloads, and answers.
        in_zone: share of the answers inside the true zone.
        median, p90, worst: of the regret over all answers.
        spread: standard deviation of log10 lr between seeds, the median over workloads; nan where nothing varies.
        cost: mean, in complete runs.
        none: share without an answer.
        covered: share of the intervals that hold an lr as good as the best; this and what follows, etascope's only.
        width: median width of the intervals, in decades.
        interval: mean interval score.
        edge: share of right edges, where the truth has one.
    """

    method: str
    budget: float | None
    tasks: int
    rows: int
    in_zone: float
    median: float
    p90: float
    worst: float
    spread: float
    cost: float
    none: float
    covered: float
    width: float
    interval: float
    edge: float

    @property
    def name(self) -> str:
        """Method and budget."""
        return self.method if self.budget is None else f"{self.method} {self.budget:g}"


def judged(row: dict) -> Score:
    """How good a row's answer was: its lr's mean loss, or for a method that trains itself, its own final loss."""
    dense = truth(row["task"])
    if row["method"].removesuffix(CALIBRATED) in SCALED:
        return score_loss(dense, math.inf if row["loss"] is None else row["loss"])
    return score(dense, row["lr"])


def summaries(rows: Sequence[dict], half: str) -> list[Line]:
    """A line for each method and budget on a half; factors of calibrated methods are not shown one by one."""
    factors = [r for r in rows if r["method"] in SCALED]
    shown = [r for r in rows if r["method"] not in SCALED or r["method"] in LEARNING_RATE_FREE]
    own = [r for r in [*shown, *calibrated(factors, lambda r: judged(r).regret)] if r["half"] == half]
    kinds = dict.fromkeys((r["method"], r["budget"]) for r in own)
    return [summary([r for r in own if (r["method"], r["budget"]) == kind]) for kind in kinds]


def summary(rows: Sequence[dict]) -> Line:
    """The line of the rows of one method at one budget."""
    scores, tasks = [judged(r) for r in rows], sorted({r["task"] for r in rows})
    regrets = [s.regret for s in scores]
    logs = [[math.log10(r["lr"]) for r in rows if r["task"] == t and r["lr"] is not None] for t in tasks]
    stated = [(truth(r["task"]), tuple(r["interval"])) for r in rows if r.get("interval")]
    edges = [edge_right(truth(r["task"]), r["edge"]) for r in rows if "edge" in r]
    trained = rows[0]["method"].removesuffix(CALIBRATED) in SCALED
    return Line(
        method=rows[0]["method"],
        budget=rows[0]["budget"],
        tasks=len(tasks),
        rows=len(rows),
        in_zone=mean(s.in_zone for s in scores),
        median=float(np.median(regrets)),
        p90=float(np.quantile(regrets, 0.9)),
        worst=max(regrets),
        spread=median(np.std(v, ddof=1) for v in logs if len(v) > 1 and not trained),
        cost=mean(r["cost"] for r in rows),
        none=mean(r["lr"] is None for r in rows),
        covered=mean(covers(*s) for s in stated),
        width=median(width(interval) for _, interval in stated),
        interval=mean(interval_score(*s) for s in stated),
        edge=mean(right for right in edges if right is not None),
    )


def mean(values) -> float:
    values = list(values)
    return float(np.mean(values)) if values else math.nan


def median(values) -> float:
    values = list(values)
    return float(np.median(values)) if values else math.nan


def lines(rows: Sequence[dict], half: str) -> list[str]:
    """The table of a half as text."""
    head = (f"{half:33}  n  in zone  regret: median    p90  worst  spread   cost  no lr |  covers  width  score  "
            "edge")  # fmt: skip
    return [head, *(line_of(s) for s in summaries(rows, half))]


def line_of(s: Line) -> str:
    return (f"{s.name:31} {s.rows:4}  {s.in_zone:7.1%}  {s.median:14.2%} {s.p90:6.1%} {s.worst:6.1%}  {s.spread:6.2f} "
            f"{s.cost:6.2f}  {s.none:5.1%} |  {s.covered:6.1%} {s.width:6.2f} {s.interval:6.2f} {s.edge:5.1%}"
            ).replace("nan%", "   –").replace("nan", "  –")  # fmt: skip
