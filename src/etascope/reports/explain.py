"""What pulled an answer where: rung by rung, then what stands beside them. One fact a line."""

from __future__ import annotations

import math

from .. import numbers as n
from ..records import Finding, Rung, Verdict, Waypoint

__all__ = ["explain", "reasons"]


def explain(found: Finding) -> str:
    """Why this lr and no other, in lines that a reader can check against the record."""
    head = f"{found.task}: lr {n.exact(found.lr)} for {n.steps(found.horizon)}, and why."
    return "\n".join([head, *(f"{name}: {said}" for name, said in reasons(found))])


def reasons(found: Finding) -> list[tuple[str, str]]:
    """(what, sentence) of all that pulled the answer somewhere, and of what the usual finders say."""
    drop = math.nan if found.init_loss is None else found.init_loss - found.loss
    said = [
        *(
            (f"rung {i}", _rung(rung, stood, found))
            for i, rung, stood in ((stood.rung + 1, found.rungs[stood.rung], stood) for stood in found.course)
        ),
        ("drift", _drift(found)),
        ("noise", _noise(found, drop)),
        ("safety", _middle(found)),
        ("edge", _edge(found)),
        *((name, _heuristic(verdict)) for name, verdict in found.heuristics.items()),
    ]
    return [(name, sentence) for name, sentence in said if sentence]


def _rung(rung: Rung, stood: Waypoint, found: Finding) -> str:
    gone = sum(c.diverged for c in rung.curves)
    best = min((c for c in rung.curves if not c.diverged), key=lambda c: c.loss, default=None)
    said = f"{n.plural(len(rung.curves), 'setting')} x {n.steps(rung.steps)}"
    said += f", {gone} diverged" if gone else ""
    said += f", lowest at {n.lr(best.lr)}" if best else ", none trained"
    said += f"; the best there is about {n.lr(stood.at_rung)}" if rung.steps < found.horizon else ""
    return f"{said}. For {n.steps(found.horizon)} this says {n.lr(stood.lr)}, 90% {n.lr_range(stood.interval)}."


def _drift(found: Finding) -> str:
    if not found.course:
        return ""
    last = found.course[-1]
    longest, there = found.rungs[last.rung].steps, last.at_rung
    if longest >= found.horizon:
        return "runs of the full horizon were seen, so none had to be assumed."
    times = found.horizon / longest
    pulled = found.lr / there
    way = f"{n.lr(max(pulled, 1 / pulled))} times {'above' if pulled > 1 else 'below'} that"
    rate = f"{found.drift:+.2f}".replace("-", "−")
    return (
        f"the longest runs seen are {n.lr(times)} times shorter than the horizon, and their best lr about "
        f"{n.lr(there)}; it moves by {rate} decades per decade of steps. The answer lies {way}."
    )


def _noise(found: Finding, drop: float) -> str:
    part = f" ({n.percent(found.noise / drop)} of the drop)" if drop > 0 else ""
    return f"a final loss strays by {n.loss(found.noise)}{part}; lrs that differ by less count as equal."


def _middle(found: Finding) -> str:
    p = found.predicted
    lowest = min(zip(p.loss, p.lrs, strict=True))[1]
    if abs(math.log10(lowest / found.lr)) < 0.1:
        return ""
    side = "below" if found.lr < lowest else "above"
    return (
        f"the expected loss is lowest at {n.lr(lowest)}, and {n.exact(found.lr)} lies {side} "
        "it, where more of what the evidence allows is within 2% of the best."
    )


def _edge(found: Finding) -> str:
    if found.edge is None:
        return "nothing diverged, so no lr was ruled out by it."
    between = "" if found.edge_interval is None else f" (90%: {n.lr_range(found.edge_interval)})"
    away = found.edge / found.lr
    near = (
        "; so near that it may have held the answer down"
        if found.edge_interval and found.edge_interval[0] < found.zone[1]
        else ""
    )
    return f"from about {n.lr(found.edge)} on training diverges{between}, {n.lr(away)} times the answer{near}."


def _heuristic(verdict: Verdict | None) -> str:
    return "no suggestion." if verdict is None else f"{verdict}."
