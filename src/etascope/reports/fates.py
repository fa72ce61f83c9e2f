"""Four curves worth looking at: too small, just right, too large, diverges. Chosen, and one sentence each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .. import numbers as n
from ..records import Curve
from .facts import Facts, Fate

__all__ = ["Example", "four"]


@dataclass(frozen=True)
class Example:
    """One of the four: a title, its curve (None without evidence) and one sentence.

    `fate` gives the colour; the title differs from it only where nothing can be judged.
    """

    fate: Fate
    title: str
    curve: Curve | None
    sentence: str


def four(facts: Facts) -> tuple[Example, Example, Example, Example]:
    """Choose the four curves, each from the longest rung that has one of its sort."""
    if facts.zone is None or facts.lr is None or facts.mixed:
        return _unjudged(facts)
    lo, hi = facts.zone
    beyond = facts.edge if facts.edge is not None else hi * 9
    return (
        _example(facts, "too small", lo / 5, "No smaller lr than the zone was trained."),
        _example(facts, "just right", facts.lr, "No lr inside the zone was trained; it is interpolated."),
        _example(facts, "too large", math.sqrt(hi * max(beyond, hi)), _no_large(facts)),
        _diverges(facts),
    )


def _example(facts: Facts, fate: Fate, target: float, absent: str) -> Example:
    curve = _longest(facts, lambda c: facts.fate(c) == fate, lambda c: abs(math.log(c.lr / target)))
    return Example(fate, fate, curve, absent if curve is None else _sentence(facts, fate, curve))


def _diverges(facts: Facts) -> Example:
    curve = _longest(facts, lambda c: c.diverged, lambda c: c.lr)
    return Example("diverges", "diverges", curve, _no_edge(facts) if curve is None else _blown(curve))


def _unjudged(facts: Facts) -> tuple[Example, Example, Example, Example]:
    """Nothing is right where there is no answer, or more than the lr differs: show the extremes, and claim no more."""

    def trains(c: Curve) -> bool:
        return not c.diverged

    picks: tuple[tuple[str, Callable[[Curve], float]], ...] = (
        ("smallest that trains", lambda c: c.lr),
        ("lowest of all", lambda c: c.loss),
        ("largest that trains", lambda c: -c.lr),
    )
    found = []
    for title, key in picks:
        curve = _longest(facts, trains, key)
        text = "No setting trained without diverging." if curve is None else _ended(facts, curve)
        found.append(Example("unjudged", title, curve, text))
    return found[0], found[1], found[2], _diverges(facts)


def _longest(facts: Facts, wanted: Callable[[Curve], bool], key: Callable[[Curve], float]) -> Curve | None:
    """The best by `key` of the longest rung with a clear case of the wanted; one with points first."""
    for plain in (True, False):
        for rung in sorted(facts.record.rungs, key=lambda r: -r.steps):
            found = [c for c in rung.curves if wanted(c) and (_plain_to_see(facts, c) or not plain)]
            if found:
                return min(found, key=lambda c: (not (c.train or c.val), key(c), c.seed))
    return None


def _plain_to_see(facts: Facts, curve: Curve) -> bool:
    """Whether a curve is no borderline case: in the zone, diverged, or beyond the zone by a factor of two."""
    if facts.zone is None or curve.diverged or facts.zone[0] <= curve.lr <= facts.zone[1]:
        return True
    return curve.lr <= facts.zone[0] / 2 or curve.lr >= facts.zone[1] * 2


def _sentence(facts: Facts, fate: Fate, curve: Curve) -> str:
    after, value = n.steps(curve.steps), n.loss(facts.shown(curve.loss))
    peer = _peer(facts, curve)
    if fate == "just right":
        falls = "rises" if facts.maximised else "falls"
        rest = ", the best of its rung" if peer is None else f" ({n.lr(peer[0])}: {n.loss(facts.shown(peer[1]))})"
        return f"The {facts.measure} {falls} to {value} in {after}{rest}."
    slow = "It learns, but too slowly" if fate == "too small" else "Its steps are too large to settle"
    if peer is None:
        whole = n.steps(facts.record.horizon)
        return f"In {after} it still does best ({value}), but over all {whole} it is predicted to fall behind."
    best = f"{n.lr(peer[0])} reaches {n.loss(facts.shown(peer[1]))}"
    return f"{slow}: {value} after {after}, where {best}."


def _peer(facts: Facts, curve: Curve) -> tuple[float, float] | None:
    """(lr, loss) of the best of the same length, or None where the curve itself is the best."""
    lowest = [r.lowest for r in facts.rungs if r.steps == curve.steps and r.lowest is not None]
    if not lowest or lowest[0][0] == curve.lr or lowest[0][1] >= curve.loss:
        return None
    return lowest[0]


def _ended(facts: Facts, curve: Curve) -> str:
    beside = f", with {n.options(curve.options)}" if curve.options else ""
    return f"It ends at {n.loss(facts.shown(curve.loss))} after {n.steps(curve.steps)}{beside}."


def _blown(curve: Curve) -> str:
    if curve.diverged_at is not None:
        return f"The loss is no longer a finite number at step {curve.diverged_at:,} of {curve.steps:,}."
    return f"After {n.steps(curve.steps)} it is worse off than before the first."


def _no_edge(facts: Facts) -> str:
    return "Nothing was trained." if facts.tried is None else f"Nothing diverged up to {n.lr(facts.tried[1])}."


def _no_large(facts: Facts) -> str:
    if facts.edge is not None:
        return f"No lr between the zone and the edge at {n.lr(facts.edge)} was trained."
    return "No larger lr than the zone was trained."
