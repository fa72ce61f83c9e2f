"""Facts first: what a record says, worked out and typed, before any sentence or picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from .. import numbers as n
from ..records import Curve, Evidence, Finding, Sweep, Unanswered, Verdict

__all__ = ["Facts", "Fate", "RungFacts", "facts_of"]

Kind = Literal["finding", "sweep", "unanswered"]
Fate = Literal["too small", "just right", "too large", "diverges", "unjudged"]
_FATES: dict[str, Fate] = {
    "too low": "too small",
    "in the zone": "just right",
    "too high": "too large",
    "diverges": "diverges",
}


@dataclass(frozen=True)
class RungFacts:
    """One rung in numbers. Losses are raw: lower is better.

    Attributes:
        steps: the steps of each of its settings.
        settings: how many were trained.
        lrs: the learning rates, ascending.
        means: mean final loss per lr over its seeds; `inf` where one of them diverged. Where settings differ in options
            too, that of the best options.
        lowest: (lr, mean loss) of the best; None when all diverged.
        diverged: how many settings diverged.
        cost: its steps in complete runs.
    """

    steps: int
    settings: int
    lrs: tuple[float, ...]
    means: tuple[float, ...]
    lowest: tuple[float, float] | None
    diverged: int
    cost: float


@dataclass(frozen=True)
class Facts:
    """What a record says.

    Attributes:
        record: where it all comes from.
        kind: which sort of record.
        lr: the answer (for a sweep: the best lr of the grid); None without one.
        loss: the raw loss at `lr`: predicted for a finding, measured for a sweep.
        zone: what is as good; None without an answer.
        interval: the 90% interval for the best lr; findings only.
        edge: from where every larger lr diverges; None where none was reached.
        mine: the verdict on the user's own value.
        tried: the smallest and the largest lr trained; None when nothing was.
        rungs: each rung in numbers.
        settings: settings trained, over all rungs.
        best_seen: the lowest finite loss of all settings; None when all diverged.
        measure: what the numbers are: "validation loss", "training loss", "loss" or "metric".
        has_curves: whether any setting left a curve to draw.
        mixed: whether settings differ in more than lr and seed.
    """

    record: Evidence
    kind: Kind
    lr: float | None
    loss: float | None
    zone: tuple[float, float] | None
    interval: tuple[float, float] | None
    edge: float | None
    mine: Verdict | None
    tried: tuple[float, float] | None
    rungs: tuple[RungFacts, ...]
    settings: int
    best_seen: float | None
    measure: str
    has_curves: bool
    mixed: bool = False

    @property
    def maximised(self) -> bool:
        """Whether losses are a negated metric."""
        return self.record.goal == "max"

    @property
    def init(self) -> float | None:
        """The raw loss at init, where it is known and finite."""
        init = self.record.init_loss
        return init if init is not None and math.isfinite(init) else None

    @property
    def edge_in_words(self) -> str:
        """Where it diverges from: "about", where short runs alone tell; empty without an edge."""
        if self.edge is None:
            return ""
        told = isinstance(self.record, Finding) and self.record.edge_interval is not None
        return f"{'about ' if told else ''}{n.lr(self.edge)}"

    def shown(self, loss: float) -> float:
        """The number a reader knows: the loss, or the metric where the loss is a negated one."""
        return -loss if self.maximised else loss

    def drop(self, loss: float) -> float | None:
        """The normalised loss: the share of the drop from init to the best seen; None if unknown."""
        if self.init is None or self.best_seen is None or not math.isfinite(loss):
            return None
        whole = self.init - self.best_seen
        return (self.init - loss) / whole if whole > 0 else None

    def fate(self, curve: Curve) -> Fate:
        """Where the lr of a curve lies at the full horizon, unless the curve itself diverged.

        Where settings differ in more than the lr, only whether it is as good as the best.
        """
        if curve.diverged:
            return "diverges"
        if self.mixed and isinstance(self.record, Sweep):
            return "just right" if curve.loss <= self.record.best[1] + self.record.tolerance else "unjudged"
        return self.place(curve.lr)

    def place(self, lr: float) -> Fate:
        """Where an lr lies at the full horizon: by `Finding.judge`, or by the zone and edge of a sweep."""
        if isinstance(self.record, Finding):
            return _FATES[self.record.judge(lr).verdict]
        if self.zone is None:
            return "unjudged"
        if self.edge is not None and lr >= self.edge * (1 - 1e-9):
            return "diverges"
        if lr < self.zone[0] * (1 - 1e-9):
            return "too small"
        return "just right" if lr <= self.zone[1] * (1 + 1e-9) else "too large"


def facts_of(record: Evidence) -> Facts:
    """Work out what a record says."""
    rungs = tuple(_rung(record, i) for i in range(len(record.rungs)))
    curves = [c for rung in record.rungs for c in rung.curves]
    lrs = [c.lr for c in curves]
    finite = [c.loss for c in curves if not c.diverged]
    kind: Kind = "unanswered"
    mixed = any(c.options for c in curves)
    lr = loss = zone = interval = edge = mine = None
    if isinstance(record, Finding):
        kind, lr, loss, mine = "finding", record.lr, record.loss, record.mine
        zone, interval, edge = _pair(record.zone), _pair(record.interval), record.edge
    elif isinstance(record, Sweep) and rungs and rungs[0].lrs:
        kind = "sweep"
        if rungs[0].lowest is not None:
            lr, loss = rungs[0].lowest
        if not mixed:  # else they hold for the best lane's options alone
            zone, edge = None if lr is None else record.zone, record.edge
    elif isinstance(record, Unanswered) and rungs:
        edge = _edge(rungs)
    return Facts(
        record=record,
        kind=kind,
        lr=lr,
        loss=loss if loss is not None and math.isfinite(loss) else None,
        zone=zone,
        interval=interval,
        edge=edge,
        mine=mine,
        tried=(min(lrs), max(lrs)) if lrs else None,
        rungs=rungs,
        settings=len(curves),
        best_seen=min(finite) if finite else None,
        measure=_measure(record, curves),
        has_curves=any(len(c.train) > 1 or len(c.val) > 1 for c in curves),
        mixed=mixed,
    )


def _rung(record: Evidence, index: int) -> RungFacts:
    rung = record.rungs[index]
    by_lr = dict.fromkeys(rung.lrs, math.inf)
    for lane in rung.lanes:
        by_lr[lane.lr] = min(by_lr[lane.lr], lane.mean if math.isfinite(lane.mean) else math.inf)
    means = tuple(by_lr.values())
    lowest = min(zip(means, by_lr, strict=True), default=(math.inf, 0.0))
    return RungFacts(
        steps=rung.steps,
        settings=len(rung.curves),
        lrs=tuple(by_lr),
        means=means,
        lowest=(lowest[1], lowest[0]) if math.isfinite(lowest[0]) else None,
        diverged=sum(c.diverged for c in rung.curves),
        cost=sum(c.trained for c in rung.curves) / max(record.horizon, 1),
    )


def _edge(rungs: tuple[RungFacts, ...]) -> float | None:
    """Without an answer the edge is read off the widest rung, the first."""
    bad = [not math.isfinite(m) for m in rungs[0].means]
    if not bad or not bad[-1]:
        return None
    first = next(i for i in range(len(bad)) if all(bad[i:]))
    return rungs[0].lrs[first]


def _measure(record: Evidence, curves: list[Curve]) -> str:
    if record.goal == "max":
        return "metric"
    if any(c.val for c in curves):
        return "validation loss"
    return "loss" if record.engine.engine == "callable" or not curves else "training loss"


def _pair(ends: tuple[float, float]) -> tuple[float, float]:
    return float(ends[0]), float(ends[1])
