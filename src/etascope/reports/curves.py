"""Curves of single trainings: the four examples, and every setting of a rung in small."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import numbers as n
from ..records import Curve
from .facts import Facts, Fate
from .fates import Example
from .scales import Scale, loss_scale
from .svg import Canvas, Point, text_width, thin

__all__ = ["COLOURS", "Panels", "drawable", "example_panels", "rung_panels"]

COLOURS: dict[Fate, str] = {
    "too small": "small",
    "just right": "good",
    "too large": "large",
    "diverges": "bad",
    "unjudged": "plain",
}
Panels = list[tuple[float, str]]  # (lr, svg)
_POINTS = 36_000  # of all small panels of a page together: keeps the page well under 1 MB


def drawable(curve: Curve) -> bool:
    """Whether a curve has any line to draw."""
    return len(curve.train) > 1 or len(curve.val) > 1


def example_panels(facts: Facts, examples: Sequence[Example]) -> list[Canvas | None]:
    """One picture per example, all on the same loss scale; None where there is no curve to draw."""
    curves = [e.curve for e in examples if e.curve is not None]
    own_scale = facts.maximised and any(c.val for c in curves)  # a metric and a loss share no axis
    top, bottom = 14.0, 170.0
    split = (top, 104.0, 122.0) if own_scale else (top, bottom, bottom)
    values = [facts.shown(v) for c in curves for _, v in c.val]
    losses = [v for c in curves for _, v in c.train]
    if own_scale:
        y = _scale(values, split[1], split[0], None)
        y_train = _scale(losses, bottom, split[2], None)
    else:
        y = y_train = _scale(values + losses, bottom, top, facts.init, _air(facts))
    count = 3 if own_scale else 4
    labels = [t for scale in (y, y_train) for t in n.ticks(scale.ticks(count, gap=19))]
    left = 10 + max((text_width(t, 12.5) for t in labels), default=24.0)
    out: list[Canvas | None] = []
    for example in examples:
        curve = example.curve
        if curve is None or not drawable(curve):
            out.append(None)
            continue
        c = Canvas(270, 196, f"{example.title}: lr {n.lr(curve.lr)}. {example.sentence}")
        shown = curve.steps if curve.diverged_at is None else min(curve.steps, 3 * max(curve.diverged_at, 1))
        x = Scale(0, max(shown, 1), left, 262)
        for scale in (y, y_train) if own_scale else (y,):
            values = scale.ticks(count, gap=19)
            for tick, said in zip(values, n.ticks(values), strict=True):
                c.line((left, scale(tick)), (262, scale(tick)), "grid")
                c.text((left - 6, scale(tick) + 4), said, "soft", "end", 12.5)
        c.line((left, bottom), (262, bottom), "axis")
        c.text((left, 188), "0", "soft", "middle", 12.5)
        end = n.steps(shown) if shown == curve.steps else f"step {shown:,} of {curve.steps:,}"
        c.text((262, 188), end, "soft", "end", 12.5)
        stroke = f"s-{COLOURS[example.fate]}"
        with c.clip((left, 4, 264, bottom + 1)):
            bold = "val " + stroke
            c.path(_line(curve.train, x, y_train, 1, 120), "train" if curve.val else bold)
            c.path(_line(curve.val, x, y, -1 if facts.maximised else 1, 120), bold)
        _blow_up(c, curve, x, (4.0, bottom), facts.maximised and bool(curve.val))
        if curve.diverged_at is not None:
            at = min(max(x(curve.diverged_at), x.start + 5), x.end - 5)
            level = bottom - 3.5 if facts.maximised and curve.val else 14.5
            places = [((at + 10, level), "start"), ((at - 10, level), "end")]
            for text in (f"not finite at step {curve.diverged_at:,}", f"step {curve.diverged_at:,}"):
                if c.free(places, text, "t-bad", (left, 2, 264, bottom), 12.5):
                    break
        out.append(c)
    return out


def rung_panels(facts: Facts, index: int) -> Panels:
    """Every lr of a rung (with its options) in small, its seeds together, all on the rung's own scale."""
    rung = facts.record.rungs[index]
    curves = [c for c in rung.curves if drawable(c)]
    if not curves:
        return []
    limit = max(8, min(80, _POINTS // (2 * max(facts.settings, 1))))
    flip = facts.maximised and any(c.val for c in curves)
    train = [] if flip else [v for c in curves for _, v in c.train]
    y = _scale([facts.shown(v) for c in curves for _, v in c.val] + train, 84, 26, None if flip else facts.init)
    lowest = facts.rungs[index].lowest
    out: Panels = []
    for lane in rung.lanes:
        lr, mine, mean = lane.lr, lane.curves, lane.mean
        fates = [facts.fate(c) for c in mine]
        fate: Fate = "diverges" if "diverges" in fates else fates[0]
        colour = COLOURS[fate]
        said = n.loss(facts.shown(mean)) if math.isfinite(mean) else "diverged"
        named = f", {n.options(lane.options)}" if lane.options else ""
        c = Canvas(150, 90, f"lr {n.lr(lr, 3)}{named}: {said}")
        c.text((2, 14), n.lr(lr, 3), f"strong t-{colour}", size=12.5)
        c.text((148, 14), said, "soft", "end", 11.5)
        c.line((2, 84), (148, 84), "grid")
        if lowest is not None and y.holds(facts.shown(lowest[1])) and not (facts.maximised and not flip):
            level = y(facts.shown(lowest[1]))
            c.line((2, level), (148, level), "ref")
        x = Scale(0, max(rung.steps, 1), 2, 148)
        with c.clip((0, 22, 150, 86)):
            for curve in mine:
                bold = f"val thin s-{colour}"
                if not flip:
                    c.path(_line(curve.train, x, y, 1, limit), "train" if curve.val else bold)
                c.path(_line(curve.val, x, y, -1 if facts.maximised else 1, limit), bold)
        for curve in mine:
            _blow_up(c, curve, x, (22.0, 84.0), flip, 3.0)
        out.append((lr, c.svg()))
    return out


def _blow_up(c: Canvas, curve: Curve, x: Scale, ends: tuple[float, float], down: bool, radius: float = 4.5) -> None:
    """A cross where the loss stopped being a number."""
    if curve.diverged_at is not None:
        y = ends[1] - radius - 2 if down else ends[0] + radius + 2
        at = min(max(x(curve.diverged_at), x.start + radius), x.end - radius)
        c.cross((at, y), radius, "cross", f"not finite from step {curve.diverged_at:,}")


def _scale(values: Sequence[float], bottom: float, top: float, init: float | None, air: float = 0.25) -> Scale:
    known = [v for v in values if math.isfinite(v)]
    cap = None
    if init is not None and known:
        cap = init + max(air * abs(init - min(known)), 0.05 * abs(init))
    return loss_scale(known, bottom, top, cap, steep=6)


def _air(facts: Facts) -> float:
    """Room above the loss at init, as a share of the drop: more where a log scale makes it cheap."""
    init, best = facts.init, facts.best_seen
    if best is None:
        return 20.0
    return 1.5 if init is not None and 0 < 6 * best < init else 0.5


def _line(points: Sequence[tuple[int, float]], x: Scale, y: Scale, sign: int, limit: int) -> list[Point]:
    drawn = [(x(s), y(sign * v) if math.isfinite(v) else math.nan) for s, v in points]
    return thin(drawn, limit)
