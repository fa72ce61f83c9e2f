"""The race: a look over the whole range, then ever longer complete runs ever closer to the best.

Every setting of every rung is a *complete* run, its schedule rescaled to the rung's steps, since cutting a run short
compares different phases of the schedule. Rungs have seeds of their own, so that noise shows as scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engines import Setting
from .basin import Basin, Seen, axis, fit
from .edge import Edge, find_edge
from .ladder import Stage, climb, climb_on
from .session import Session

__all__ = ["Range", "Sight", "race", "sight"]

FIRST_LOOK = (-5.0, 1.0)  # log₁₀ of the first range; it grows by itself
FARTHEST = (-10.0, 4.0)  # where growing ends
RISE = 0.1  # a rung covers where at most this part more of the drop is lost than at the best …
LEAST_SPAN, MOST_SPAN = 0.25, 0.6  # … but at least and at most these decades to each side


@dataclass(frozen=True)
class Range:
    """The user's bounds; None where the race finds its own."""

    lr_min: float | None = None
    lr_max: float | None = None

    @property
    def low(self) -> float:
        """log₁₀ of the lowest lr allowed."""
        if self.lr_min is not None:
            return math.log10(self.lr_min)
        return FARTHEST[0] if self.lr_max is None else min(FARTHEST[0], math.log10(self.lr_max) - 5)

    @property
    def high(self) -> float:
        """log₁₀ of the highest lr allowed."""
        if self.lr_max is not None:
            return math.log10(self.lr_max)
        return FARTHEST[1] if self.lr_min is None else max(FARTHEST[1], math.log10(self.lr_min) + 5)

    def round(self, x: float) -> float:
        """The lr of three digits at log₁₀ `x`, or the bound that it would cross."""
        return self.hold(float(f"{10**x:.3g}"))

    def hold(self, lr: float) -> float:
        """The lr, or the bound that it crosses or as good as touches."""
        for bound in (self.lr_min, self.lr_max):
            if bound is not None and math.isclose(lr, bound, rel_tol=1e-6):
                return bound
        lr = lr if self.lr_min is None else max(lr, self.lr_min)
        return lr if self.lr_max is None else min(lr, self.lr_max)


@dataclass(frozen=True)
class Sight:
    """What is known after some rungs: the basin, and its edge.

    Attributes:
        basin: the posterior.
        seen: what it was made from.
        edge: where training starts to diverge; None where nothing did.
    """

    basin: Basin
    seen: Seen
    edge: Edge | None

    def candidates(self, bounds: Range) -> NDArray[np.float64]:
        """log₁₀ of the lrs that may be best at the full horizon: inside the bounds and, probably, below the edge."""
        x = axis(self.seen)
        top = bounds.high if self.edge is None else min(bounds.high, self.edge.at(self.seen.horizon))
        return np.asarray(x[(x >= bounds.low - 1e-9) & (x <= top + 1e-9)])


def race(session: Session, total: int, bounds: Range) -> Iterator[Sight | None]:
    """Run the race for `total` training steps; yields what is in sight after each rung (None: nothing trains)."""
    ladder = climb(total, session.horizon)
    session.progress.start(total)
    before = session.spent
    _scout(session, ladder.scout, bounds, total // 2)
    now = sight(session)
    yield now
    if now is None:
        return
    stages = climb_on(total - (session.spent - before), ladder.scout.steps, session.horizon)
    for number in range(1, len(stages) + 1):
        stage = _in_time(number, stages[number - 1 :], session)
        if stage is None or now is None:
            return
        seed = session.seed + 1000 * number
        lrs = _near(now, stage, bounds)
        session.train(number, [Setting(seed, lr) for lr in lrs], stage.steps)
        now = sight(session)
        yield now


def _scout(session: Session, stage: Stage, bounds: Range, most: int) -> None:
    """Rung 0: log-spaced settings over a range that grows until it holds the useless, the best and the edge.

    It takes `stage.settings` settings; more, up to `most` training steps, only while the best may lie outside.
    """
    lanes = min(stage.settings - 4, 7) if stage.settings >= 9 else stage.settings
    low, high = FIRST_LOOK
    if bounds.lr_min is not None:
        low, high = bounds.low, max(high, bounds.low + 1)
    if bounds.lr_max is not None:
        low, high = low if bounds.lr_min is not None else min(low, bounds.high - 1), bounds.high
    wave = np.linspace(low, high, lanes).tolist()
    spacing, tried = (high - low) / (lanes - 1), set[float]()
    while fresh := [lr for lr in dict.fromkeys(map(bounds.round, wave)) if lr not in tried]:
        limit = max(stage.settings, most // stage.steps if _lost(session) else 0) - len(tried)
        if limit <= 0:
            return
        fresh = fresh[:limit]
        tried.update(fresh)
        session.train(0, [Setting(session.seed, lr) for lr in fresh], stage.steps)
        session.must_train(session.rungs[0].curves)
        wave = _wanted(session, bounds, spacing)


def _lost(session: Session) -> bool:
    """Whether the best lies at the border of what was tried, or nothing trained."""
    curves = session.rungs[0].curves if session.rungs else ()
    alive = [c for c in curves if not c.diverged]
    return not alive or min(alive, key=lambda c: c.loss).lr in (curves[0].lr, curves[-1].lr)


def _wanted(session: Session, bounds: Range, spacing: float) -> list[float]:
    """The next look: outwards while the best or the edge lies beyond, then inwards around both."""
    curves = session.rungs[0].curves  # ascending in lr
    x = [math.log10(c.lr) for c in curves]
    alive = [i for i, c in enumerate(curves) if not c.diverged]
    if not alive:
        return [v for v in (x[0] - 1, x[0] - 2) if v >= bounds.low - 1e-9]
    best = min(alive, key=lambda i: curves[i].loss)
    init = session.init(curves[0])
    out = []
    if best == 0 and not curves[0].loss > init - 1e-3 * abs(init):
        out.append(x[0] - 1)
    if alive[-1] == len(x) - 1:
        out.append(x[-1] + 1)
    if out := [v for v in out if bounds.low - 1e-9 <= v <= bounds.high + 1e-9]:
        return out
    if alive[-1] + 1 < len(x) and (gap := x[alive[-1] + 1] - x[alive[-1]]) > 0.3:
        out.append(x[alive[-1]] + gap / 2)  # the edge, halved
    for j in (best + 1, best - 1):
        if 0 <= j < len(x) and abs(x[j] - x[best]) > max(spacing / 2, 0.3):
            out.append((x[best] + x[j]) / 2)
    return out


def _in_time(number: int, to_come: Sequence[Stage], session: Session) -> Stage | None:
    """The first of the stages to come, shortened where the deadline is too soon for all; None where nothing is left.

    A rung that an earlier process began keeps its steps.
    """
    stage = to_come[0]
    if session.journal.ended is not None and number >= session.journal.ended:
        return None
    if (begun := session.journal.steps_of(number)) is not None:
        return Stage(stage.settings, begun)
    part = min(1.0, session.affordable / sum(s.cost for s in to_come))
    return Stage(stage.settings, steps) if (steps := int(part * stage.steps)) else None


def _near(now: Sight, stage: Stage, bounds: Range) -> list[float]:
    """A rung's settings: evenly over the basin that its horizon is expected to have, below the edge."""
    x = axis(now.seen)
    low, high = now.basin.span(x, RISE, stage.steps)
    middle = float(now.basin.best(x, stage.steps).mean())
    low, high = min(low, middle - LEAST_SPAN), max(high, middle + LEAST_SPAN)
    low, high = max(low, middle - MOST_SPAN, bounds.low), min(high, middle + MOST_SPAN, bounds.high)
    if now.edge is not None:
        high = min(high, now.edge.at(stage.steps) - 0.1)
    low = max(min(low, high - 2 * LEAST_SPAN), bounds.low)
    return list(dict.fromkeys(bounds.round(v) for v in np.linspace(low, max(high, low), stage.settings)))


def sight(session: Session) -> Sight | None:
    """What the rungs so far show; None when no setting ended below the loss at init, or no two can be told apart."""
    facts, rungs = session.facts, session.rungs
    if all(c.diverged for rung in rungs for c in rung.curves):
        return None
    seen = _seen(session)
    if not (seen.init[seen.rung] > seen.loss).any():
        return None
    edge = find_edge(rungs, session.horizon, facts.init_loss, decays=facts.decays, adapts=_adapts(facts.optimizer))
    return Sight(fit(seen), seen, edge)


def _adapts(optimizer: str) -> bool:
    """Whether an optimizer adapts its steps, by its name; one that is not known, of a training function, may."""
    return "SGD" not in optimizer.partition("(")[0]


def _seen(session: Session) -> Seen:
    rungs = session.rungs
    alive = [(k, c) for k, rung in enumerate(rungs) for c in rung.curves if not c.diverged]
    starts = [[v for c in rung.curves if not math.isnan(v := session.init(c))] for rung in rungs]
    ceiling = np.full(len(rungs), math.inf)
    for k, rung in enumerate(rungs):
        trains = max((c.lr for c in rung.curves if not c.diverged), default=0.0)
        above = [c.lr for c in rung.curves if c.lr > trains]
        if above:
            ceiling[k] = math.log10(min(above))
    return Seen(
        x=np.array([math.log10(c.lr) for _, c in alive]),
        loss=np.array([c.loss for _, c in alive]),
        rung=np.array([k for k, _ in alive]),
        steps=np.array([float(r.steps) for r in rungs]),
        init=np.array([max(values) for values in starts]),
        ceiling=ceiling,
        horizon=session.horizon,
        decays=session.facts.decays,
    )
