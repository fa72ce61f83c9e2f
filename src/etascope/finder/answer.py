"""From what a race saw to the answer, or to the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import numbers as n
from ..records import Finding, Predicted, RangeTest, Unanswered, Waypoint
from .basin import Seen, axis, quantiles
from .edge import Edge
from .race import Range, Sight
from .range_test import rule_of_thumb
from .session import Session

__all__ = ["Pick", "Reason", "finding", "no_answer_reason", "pick", "round_lr", "unanswered", "waypoint", "zone_line"]

Floats = NDArray[np.float64]
TOLERANCE = 0.02  # the zone's height, as a part of the drop
SURE = 2 / 3  # an lr of the zone is that close to the best with at least this part of the answer's own probability
# The best is said to lie outside the range that was given from this probability on that it is better there by more than
# the zone's height, or from this one on that it is better by anything, if more than noise is expected.
BEYOND, SURELY = 2 / 3, 0.85
POINTS = 61  # of the predicted curve
# Noise may be all there is from this scatter of neighbours on, if the best basin leaves so much of it: a few settings
# far apart scatter by their curve alone. Or from so large a residue on. All are parts of the drop.
SCATTER, RESIDUE, MOST_RESIDUE = 0.2, 0.05, 0.1
SLOWING = 0.3  # the best loss falls with the horizon, less and less: by this rate per e-fold of steps


@dataclass(frozen=True)
class Pick:
    """What a sight says of the full horizon.

    Attributes:
        x: log₁₀ of the lr, before rounding.
        lr: the learning rate, a round number inside the zone.
        interval: the 90% interval for the best lr.
        zone: what is as good.
    """

    x: float
    lr: float
    interval: tuple[float, float]
    zone: tuple[float, float]


def pick(sight: Sight, bounds: Range) -> Pick:
    """The lr that most probably loses no more than a fiftieth of the drop and does not diverge, and the zone around it.

    That is over all that the race leaves possible; in the zone it is at least two thirds as probable. Of several that
    are equally probable it is the one of the least expected loss.
    """
    basin, x, horizon = sight.basin, sight.candidates(bounds), sight.seen.horizon
    low, high = quantiles(basin.best(x), [0.05, 0.95])
    rho = basin.rho(x)
    good = rho - rho.min(axis=1, keepdims=True) <= max(TOLERANCE, basin.noise)
    probable = good.mean(axis=0)
    if sight.edge is not None:
        probable = probable * sight.edge.above(x, horizon)
    equals = probable >= probable.max() - 1e-9
    best = int(np.argmin(np.where(equals, rho.mean(axis=0), math.inf)))
    zone = _around(x, best, probable >= SURE * probable[best])
    lr = bounds.hold(round_lr(10 ** x[best], 10 ** zone[0], 10 ** zone[1]))
    return Pick(
        float(x[best]),
        lr,
        interval=(min(10**low, lr), max(10**high, lr)),
        zone=(min(10 ** zone[0], lr), max(10 ** zone[1], lr)),
    )


def waypoint(sight: Sight, bounds: Range) -> Waypoint:
    """Where the race stands."""
    picked, steps = pick(sight, bounds), float(sight.seen.steps[-1])
    at_rung = quantiles(sight.basin.best(sight.candidates(bounds), steps), [0.5])[0]
    return Waypoint(len(sight.seen.steps) - 1, 10**at_rung, picked.lr, picked.interval)


def finding(
    session: Session,
    sight: Sight,
    budget: float,
    bounds: Range,
    *,
    course: Sequence[Waypoint] = (),
    look: RangeTest | None = None,
    complete: bool = True,
) -> Finding:
    """The answer at the full horizon."""
    basin, x = sight.basin, sight.candidates(bounds)
    edge = None if sight.edge is None else sight.edge.at(session.horizon)
    picked = pick(sight, bounds)
    floor, init = _floor(sight.seen), float(sight.seen.init[-1])
    predicted = _predicted(sight, picked.x, floor, init, edge)
    return Finding(
        **_with_notes(session, _notes(sight, bounds, picked.x)),
        lr=picked.lr,
        interval=picked.interval,
        zone=picked.zone,
        edge=None if edge is None else 10**edge,
        edge_interval=None if sight.edge is None else _between(sight.edge, session.horizon),
        loss=float(np.interp(math.log10(picked.lr), np.log10(predicted.lrs), predicted.loss)),
        budget=budget,
        drift=basin.drift(x),
        noise=basin.noise * max(init - floor, 0.0),
        predicted=predicted,
        complete=complete,
        course=tuple(course),
        range_test=look,
        defaults=_defaults(session),
    )


def _defaults(session: Session) -> dict[str, float]:
    facts = session.facts
    known = {"default": facts.default_lr, "rule of thumb": rule_of_thumb(facts.optimizer.partition("(")[0])}
    return {name: lr for name, lr in known.items() if lr is not None}


@dataclass(frozen=True)
class Reason:
    """Why no answer can honestly be given.

    Attributes:
        kind: a code, as `Unanswered.kind` has it.
        cause: the same in words.
        next_move: what the reader can do about it.
    """

    kind: str
    cause: str
    next_move: str


def unanswered(session: Session, budget: float, reason: Reason, *, complete: bool = True) -> Unanswered:
    """The record of a race without an answer."""
    return Unanswered(**session.evidence(), budget=budget, reason=reason.cause, kind=reason.kind, complete=complete)


def no_answer_reason(session: Session, sight: Sight | None, bounds: Range) -> Reason | None:
    """Why no answer can honestly be given, and the next move; None if one can."""
    curves = [c for rung in session.rungs for c in rung.curves]
    tried = n.lr_range((min(c.lr for c in curves), max(c.lr for c in curves)))
    longest = max(rung.steps for rung in session.rungs)
    more = (
        f"Give a larger budget (a complete run has {session.horizon:,} steps); or check"
        if longest < session.horizon
        else "Check"
    )
    gone = all(c.diverged for c in curves)
    if gone and not _unmoved(session):
        return Reason(
            "diverges",
            f"everything diverges: none of {len(curves)} settings from {tried} ended below the loss at init.",
            "Check the data, the initialisation and the loss; a lower --lr-min helps if the scale is unusual.",
        )
    if gone or sight is None or _flat(session):
        return Reason(
            "flat",
            f"the loss is flat: from {tried} no learning rate lowers it in {n.steps(longest)}.",
            f"{more} that the loss reaches the parameters, that the model is not trained already, and the range of "
            "lrs.",
        )
    scatter, residue = _scatter(session), sight.basin.noise
    if residue > MOST_RESIDUE or (scatter > SCATTER and residue > RESIDUE):
        return Reason(
            "noise",
            f"noise is larger than the effect: from {tried} the loss after {n.steps(longest)} strays by "
            f"{n.percent(max(scatter, residue))} of all that is gained, whatever the learning rate.",
            f"{more} that the labels belong to the inputs; judge on more validation data, or by a smoother metric.",
        )
    if not len(sight.candidates(bounds)):
        return Reason(
            "diverges",
            f"everything tried diverges in longer runs: of {tried} none is left at {n.steps(session.horizon)}.",
            "Give a lower --lr-min (lr_min=), or check what a long run meets that a short one does not.",
        )
    return _border(sight, bounds)


def _border(sight: Sight, bounds: Range) -> Reason | None:
    """Whether the best lr lies, probably and by much or as good as surely, beyond a bound that the user gave."""
    if bounds.lr_min is None and bounds.lr_max is None:
        return None
    x = axis(sight.seen, above=1.0)
    x = x if sight.edge is None else x[x <= sight.edge.at(sight.seen.horizon) + 1e-9]
    low = -math.inf if bounds.lr_min is None else bounds.low
    high = math.inf if bounds.lr_max is None else bounds.high
    rho, inside = sight.basin.rho(x), (x >= low - 1e-9) & (x <= high + 1e-9)
    if not inside.any():
        return None
    lost = rho[:, inside].min(axis=1) - rho.min(axis=1)
    best, noise = sight.basin.best(x), sight.basin.noise
    much, beyond = lost > max(TOLERANCE, noise), lost > 0.0
    if much.mean() < BEYOND and not (beyond.mean() > SURELY and np.median(lost) > noise):
        return None
    above = float((best[beyond] > x[inside].max()).mean()) > 0.5
    name, bound, move = ("lr_max", bounds.lr_max, "larger") if above else ("lr_min", bounds.lr_min, "smaller")
    return Reason(
        "border",
        f"the best lies at the border you set, {name}={bound:g}: beyond it about "
        f"{n.percent(float(np.median(lost[beyond])))} more would be gained.",
        f"Give a {move} --{name.replace('_', '-')} ({name}=), or none; or the bound itself as lr, if it must hold.",
    )


def _unmoved(session: Session) -> bool:
    """Whether the least lr ended where it began, but for rounding: then nothing diverged, nothing trained."""
    ends = {c.lr: (c.ended, session.init(c)) for rung in session.rungs for c in rung.curves if c.ended is not None}
    if not ends or min(ends) > min(c.lr for rung in session.rungs for c in rung.curves):
        return False
    ended, init = ends[min(ends)]
    return abs(ended - init) <= 1e-4 * max(max(abs(end), abs(start)) for end, start in ends.values())


def _flat(session: Session) -> bool:
    """Whether no setting gained on its own start, or all ended alike."""
    alive = [[c for c in rung.curves if not c.diverged] for rung in session.rungs]
    start = max(abs(session.init(c)) for rung in alive for c in rung)
    losses = [[c.loss for c in rung] for rung in alive if len(rung) > 1]
    apart = max((max(v) - min(v) for v in losses), default=math.inf)
    return min(_gain(session), apart) <= 1e-4 * start


def _gain(session: Session) -> float:
    """The most that a setting gained on its own start."""
    return max(session.init(c) - c.loss for rung in session.rungs for c in rung.curves if not c.diverged)


def _scatter(session: Session) -> float:
    """One deviation of a final loss from the middle between its neighbours', as a part of the largest gain.

    The median tells it, over all rungs: a basin is smooth but for its cliffs, and noise is not.
    """
    gain, strays = _gain(session), list[float]()
    for rung in session.rungs:
        ends = [(c.loss if c.ended is None else c.ended) - session.init(c) for c in rung.curves]
        y = np.minimum(ends, gain) / gain
        strays += np.abs(y[1:-1] - (y[:-2] + y[2:]) / 2).tolist()
    return float(np.median(strays)) / (0.6745 * math.sqrt(1.5)) if strays else 0.0


def zone_line(session: Session, sight: Sight | None, bounds: Range) -> str:
    """One line after a rung: the zone so far."""
    rung = session.rungs[-1]
    gone = sum(c.diverged for c in rung.curves)
    said = f"rung {len(session.rungs)}: {n.plural(len(rung.curves), 'setting')} x {n.steps(rung.steps)}"
    said += f", {gone} diverged: " if gone else ": "
    if sight is None or not len(x := sight.candidates(bounds)):
        return said + "nothing trains so far"
    low, high = quantiles(sight.basin.best(x), [0.05, 0.95])
    between = n.lr_range((10**low, 10**high))
    return f"{said}90% sure of {between}, {n.cost(session.spent / session.horizon)} spent"


def round_lr(lr: float, low: float, high: float) -> float:
    """A round number of two digits near `lr` and inside [low, high]; up to four where none is inside, and
    as it is where even those leave it.

    >>> round_lr(0.0021387, 0.0008, 0.005), round_lr(0.12345, 0.1231, 0.1239)
    (0.0021, 0.1235)
    """
    for digits in (1, 2, 3):
        if low <= (rounded := float(f"{lr:.{digits}e}")) <= high:
            return rounded
    return lr


def _around(x: Floats, best: int, inside: NDArray[np.bool_]) -> tuple[float, float]:
    """The ends of the unbroken stretch around `best` that is inside."""
    outside = np.flatnonzero(~inside)
    low, high = outside[outside < best].max(initial=-1) + 1, outside[outside > best].min(initial=len(x)) - 1
    return float(x[low]), float(x[high])


def _between(edge: Edge, horizon: int) -> tuple[float, float]:
    return 10 ** edge.at(horizon, 0.05), 10 ** edge.at(horizon, 0.95)


def _floor(seen: Seen) -> float:
    """The best loss at the full horizon H, from the lowest seen by each of the last two horizons g < h.

    Losses that are positive fall by a power of the horizon that shrinks: L_h · (L_h / L_g)^u where
    u = (1 − (H/h)^−SLOWING) / (SLOWING · log(h/g)); others, such as a negated metric, which may have a bound, by no
    more than they last did.
    """
    lowest = np.minimum.accumulate([seen.loss[seen.rung == k].min(initial=math.inf) for k in range(len(seen.steps))])
    if len(lowest) < 2 or seen.steps[-1] <= seen.steps[-2] or not np.isfinite(lowest[-2]):
        return float(lowest[-1])
    before, last = float(lowest[-2]), float(lowest[-1])
    folds = (1 - (seen.horizon / seen.steps[-1]) ** -SLOWING) / SLOWING
    folds /= math.log(seen.steps[-1] / seen.steps[-2])
    if seen.loss.min() > 0:
        return float(last * (last / before) ** folds)
    return float(last + (last - before) * min(folds, 1.0))


def _predicted(sight: Sight, best: float, floor: float, init: float, edge: float | None) -> Predicted:
    low, high = min(float(sight.seen.x.min()), best), max(float(sight.seen.x.max()), best)
    x = np.unique(np.append(np.linspace(low, high if edge is None else edge, POINTS), best))
    rho = sight.basin.rho(x)
    least = rho.mean(axis=0).min()  # the best setting loses nothing: ρ counts from it

    def losses(r: Floats) -> tuple[float, ...]:
        return tuple((floor + (init - floor) * np.clip(r - least, 0.0, 1.0)).tolist())

    band = np.quantile(rho, [0.05, 0.95], axis=0)
    return Predicted(tuple((10**x).tolist()), losses(rho.mean(axis=0)), losses(band[0]), losses(band[1]))


def _notes(sight: Sight, bounds: Range, best: float) -> list[str]:
    notes = []
    if sight.basin.longest < sight.seen.steps.max():
        notes.append(f"no run of more than {n.steps(int(sight.basin.longest))} ended below the loss at init")
    if sight.edge is None:
        notes.append(f"nothing diverged up to {n.lr(10 ** float(sight.seen.x.max()))}")
    for name, bound in (("lr_min", bounds.lr_min), ("lr_max", bounds.lr_max)):
        if bound is not None and abs(math.log10(bound) - best) < 0.05:
            notes.append(f"the best lies at the border you set, {name}={bound:g}; a wider range may hold a better one")
    return notes


def _with_notes(session: Session, notes: list[str]) -> dict[str, Any]:
    evidence = session.evidence()
    return evidence | {"notes": (*evidence["notes"], *notes)}
