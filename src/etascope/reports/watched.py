"""A watched run, drawn: its losses, what was decided where, and the lr that came of it."""

from __future__ import annotations

import math
from itertools import groupby
from statistics import median

from .. import numbers as n
from ..records.run import Decision
from ..watcher.log import Log, Observed
from .scales import Scale, loss_scale, lr_scale
from .svg import Canvas, thin

__all__ = ["told", "watched"]

WIDTH, LEFT, RIGHT = 940.0, 56.0, 928.0
LOSS, LR = (34.0, 244.0), (284.0, 364.0)  # top and bottom of the two panels
POINTS = 1200
EVENTS = 8  # that are written out
LETTERS = 160  # of a line


def watched(log: Log) -> Canvas:
    """The loss and the lr over the batches of a run, and the first decisions in words.

    Args:
        log: of the run.
    """
    seen = list(log.observations())
    events = episodes(log.decisions)
    height = LR[1] + 34 + 18 * min(len(events), EVENTS + 1)
    c = Canvas(WIDTH, height, "The loss and the learning rate of a watched run, and what was decided.")
    if not seen:
        c.text((0, 24), "Nothing was observed.", "soft")
        return c
    x = Scale(0, max(seen[-1].seen, 1), LEFT, RIGHT)
    losses = [o.loss for o in seen if math.isfinite(o.loss)]
    most = max(losses[0], 3 * median(losses), key=abs) if losses else 1.0  # what is far above is cut off
    y = loss_scale([min(loss, 1.5 * most) for loss in losses] or [1.0], LOSS[1], LOSS[0], cap=1.5 * most)
    _axis(c, y, "Loss", LOSS)
    with c.clip((LEFT, LOSS[0] - 6, RIGHT + 6, LOSS[1] + 1)):
        c.path(thin([(x(o.seen), y(o.loss)) for o in seen], POINTS), "train")
        c.path(_running(seen, x, y), "rung")
        for line in log.of("val"):
            if math.isfinite(float(line["loss"])):
                c.dot((x(line["seen"]), y(float(line["loss"]))), 3, "seen", f"validation {n.loss(float(line['loss']))}")
    lrs = [o.lr for o in seen if o.lr > 0]
    z = lr_scale(lrs, LR[1], LR[0])
    _axis(c, z, "Learning rate", LR)
    c.path(thin([(x(o.seen), z(o.lr) if o.lr > 0 else math.nan) for o in seen], POINTS), "predicted")
    c.taken.clear()
    for i, (decision, count) in enumerate(events[:EVENTS], start=1):
        at = x(decision.seen)
        c.line((at, LOSS[0]), (at, LR[1]), "edge")
        c.free([((at, LOSS[0] - 8), "middle"), ((at, LOSS[0] - 20), "middle")], str(i), "strong", (0, 0, WIDTH, height))
        said = f"{i}  {decision}" + (f" (and {count - 1} more)" if count > 1 else "")
        if len(said) > LETTERS:
            said = f"{said[: LETTERS - 1].rsplit(' ', 1)[0]} …"
        c.text((0, LR[1] + 40 + 18 * (i - 1)), said, "soft", size=11)
    if len(events) > EVENTS:
        c.text((0, LR[1] + 40 + 18 * EVENTS), f"… and {n.plural(len(events) - EVENTS, 'decision')} more", "soft")
    for tick in x.ticks(6, gap=60):
        c.text((x(tick), LR[1] + 18), f"{tick:,.0f}", "soft", "middle", 12)
    return c


def episodes(decisions: list[Decision]) -> list[tuple[Decision, int]]:
    """Decisions, those that follow upon each other with the same action as one, with how many they are."""
    alarms = [d for d in decisions if d.code or d.action in ("stop", "rewind")]
    groups = groupby(enumerate(alarms), key=lambda pair: (pair[1].action, pair[1].seen - pair[0]))
    return [(own[0], len(own)) for _, pairs in groups if (own := [d for _, d in pairs])]


def told(log: Log) -> str:
    """The same in a few lines."""
    seen = list(log.observations())
    lines = [f"{log.header.get('optimizer', 'a run')}: {n.plural(len(seen), 'observation')}"]
    if seen:
        lines[0] += f", loss {n.loss(seen[0].loss)} → {n.loss(seen[-1].loss)}, lr {n.lr(seen[-1].lr)} at the end"
    for decision, count in episodes(log.decisions):
        lines.append(str(decision) + (f" (and {count - 1} more)" if count > 1 else ""))
    lines += [str(note) for note in log.notes]
    return "\n".join(lines)


def _running(seen: list[Observed], x: Scale, y: Scale) -> list[tuple[float, float]]:
    """The running median of the losses, which outliers do not move."""
    window = max(5, len(seen) // 60)
    groups = [seen[i : i + window] for i in range(0, len(seen), max(1, window // 3))]
    middles = [(own[len(own) // 2].seen, median(o.loss for o in own)) for own in groups if len(own) == window]
    return [(x(at), y(loss) if math.isfinite(loss) else math.nan) for at, loss in middles]


def _axis(c: Canvas, scale: Scale, title: str, panel: tuple[float, float]) -> None:
    c.text((0, panel[0] - 12), title, "soft", size=13)
    for tick in scale.ticks(4):
        at = scale(tick)
        c.line((LEFT, at), (RIGHT, at), "grid")
        c.text((LEFT - 8, at + 4), n.lr(tick) if title == "Learning rate" else n.loss(tick), "soft", "end", 12)
