"""Sentences: the answer in five lines, and all facts as plain text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import numbers as n
from ..errors import ScheduleError
from ..records import Evidence, Finding, Sweep, Unanswered
from ..schedules import Schedule
from . import terminal
from .explain import reasons
from .facts import Facts, facts_of
from .fates import four

__all__ = [
    "answer",
    "as_good",
    "best_options",
    "headline",
    "how_sure",
    "paste",
    "predicted_loss",
    "schedule_text",
    "sentence",
    "setup",
    "text",
]


def answer(record: Evidence) -> str:
    """The terminal answer: five lines, then the verdict on the user's own lr and the notes, if any."""
    facts = facts_of(record)
    spark = terminal.sparkline(facts)
    lines = [f"{record.task}: {headline(facts)}{predicted_loss(facts)}"]
    if isinstance(record, Unanswered):
        lines.append(sentence(record.reason))
    else:
        lines.append(as_good(facts))
    if spark:
        lines.append(f"{facts.measure}  {spark}")
    lines.append(how_sure(facts))
    if facts.lr is not None:
        lines.append(paste(facts))
    if facts.mine is not None:
        lines.append(f"Yours, {facts.mine.text}.")
    return "\n".join([*lines, *(f"Note: {note}" for note in record.notes)])


def text(record: Evidence) -> str:
    """The same facts as the report, as plain text."""
    facts = facts_of(record)
    parts = [answer(record), terminal.chart(facts)]
    if isinstance(record, Finding) and record.course:
        parts.append("Why this one\n" + _table([list(row) for row in reasons(record)]))
    if facts.tried is not None:
        parts.append("Four trainings\n" + _table(_four_rows(facts)))
        parts.append("Rungs\n" + _table(_rung_rows(facts)))
        parts.append("Evidence\n" + _table(_evidence_rows(facts)))
    parts.append("Settings\n" + _table([list(row) for row in setup(facts)]))
    parts.append("Versions\n" + _table([[k, v] for k, v in record.versions.items()]))
    return "\n\n".join(parts) + "\n"


def headline(facts: Facts) -> str:
    """The answer in a few words."""
    if facts.lr is None:
        return "every setting diverged" if facts.kind == "sweep" else "no honest answer"
    if facts.kind == "sweep":
        options = best_options(facts)
        return f"the best lr is {n.lr(facts.lr)}" + (f", with {options}" if options else "")
    return f"use lr {n.exact(facts.lr)}"


def best_options(facts: Facts) -> str:
    """What the best lane of a sweep has beside its lr."""
    return n.options(facts.record.best_lane.options) if isinstance(facts.record, Sweep) else ""


def predicted_loss(facts: Facts) -> str:
    """What the answer reaches, to follow the headline."""
    if facts.lr is None or facts.loss is None:
        return ""
    word = "predicted " if facts.kind == "finding" else ""
    value = n.loss(facts.shown(facts.loss))
    return f" ({word}{facts.measure} {value} after {n.steps(facts.record.horizon)})"


def as_good(facts: Facts) -> str:
    """What is as good, and from where it diverges."""
    if facts.mixed:
        return _as_good_lanes(facts)
    zone = "" if facts.zone is None else f"As good: {n.lr_range(facts.zone)}. "
    if facts.zone is not None and " to " not in zone:
        zone = "As good: nothing else that was trained. "
    if facts.edge is not None:
        return f"{zone}It diverges from {facts.edge_in_words}{_between(facts)}."
    return f"{zone}Nothing diverged up to {n.lr(facts.tried[1])}." if facts.tried else f"{zone}Nothing was trained."


def _as_good_lanes(facts: Facts) -> str:
    lanes = facts.record.rungs[0].lanes
    bad = sum(not math.isfinite(lane.mean) for lane in lanes)
    diverged = f"{bad} of {len(lanes)} lanes diverged" if bad else "Nothing diverged"
    if not isinstance(facts.record, Sweep) or facts.lr is None:
        return f"{diverged}."
    limit = facts.record.best[1] + facts.record.tolerance
    good = sum(lane.mean <= limit for lane in lanes) - 1
    return f"As good: {good if good else 'none'} of the other {len(lanes) - 1} lanes. {diverged}."


def _between(facts: Facts) -> str:
    between = facts.record.edge_interval if isinstance(facts.record, Finding) else None
    return "" if between is None else f" (90%: {n.lr_range(between)})"


def how_sure(facts: Facts) -> str:
    """How sure the answer is and what it cost."""
    record, size = (
        facts.record,
        f"{n.plural(facts.settings, 'setting')} in {n.plural(len(facts.rungs), 'rung')}",
    )
    if facts.interval is not None:
        sure = f"90% sure that the best lr is in {n.lr_range(facts.interval)}"
    elif facts.kind == "sweep":
        seeds = len({c.seed for rung in record.rungs for c in rung.curves})
        lrs = len({c.lr for rung in record.rungs for c in rung.curves})
        sure = f"Measured at {n.plural(lrs, 'lr')} with {n.plural(seeds, 'seed')}, each to the full horizon"
        if facts.mixed:
            sure = f"Measured in {n.plural(len(record.rungs[0].lanes), 'lane')}, each to the full horizon"
        size = n.plural(facts.settings, "run")
    else:
        sure = "No lr can be recommended on this evidence"
    if not getattr(record, "complete", True):
        sure += ", interrupted before the race was over"
    return f"{sure}. Cost: {n.cost(record.cost)}, {n.duration(record.wall_s)} ({size})."


def paste(facts: Facts) -> str:
    """The line of code that uses the answer."""
    if facts.lr is None:
        return ""
    value = n.lr(facts.lr, 3) if facts.kind == "sweep" else n.exact(facts.lr)
    line = (facts.record.paste or "lr = {lr}").replace("{lr}", value)
    options = best_options(facts)
    return f"{line}  # with {options}" if options else line


def setup(facts: Facts) -> list[tuple[str, str]]:
    """What was trained and how: (name, value) rows."""
    record, engine = facts.record, facts.record.engine
    ran = f"{engine.name}, up to {engine.chunk} at once" if engine.chunk > 1 else engine.name
    if engine.workers > 1:
        ran += f", {engine.workers} processes"
    if engine.threads:  # those of a training function are its own affair
        ran += f", {n.plural(engine.threads, 'thread')}, {engine.device}"
    rows = [
        ("task", record.task),
        ("optimizer", record.optimizer),
        ("param groups", str(record.groups) if record.groups != 1 else ""),
        ("horizon", n.steps(record.horizon)),
        ("schedule", _schedule(record)),
        ("judged by", record.judged),
        ("validation", record.validation),
        ("goal", "the larger the better" if facts.maximised else ""),
        (f"{facts.measure} at init", "unknown" if facts.init is None else n.loss(facts.shown(facts.init))),
        ("seed", str(record.seed)),
        ("engine", ran + (f" ({engine.why})" if engine.why else "")),
        ("cost", f"{n.cost(record.cost)}, {n.duration(record.wall_s)}"),
        ("of it evaluation", n.duration(record.eval_s)),
    ]
    if isinstance(record, (Finding, Unanswered)):
        rows.append(("budget", n.cost(record.budget)))
    if isinstance(record, Finding):
        rows.append(("noise", f"{n.loss(record.noise)} (one deviation of a final loss between repeats)"))
        rows.append(("drift of the best lr", f"{record.drift:+.2f} decades per decade of steps".replace("-", "−")))
    return [row for row in rows if row[1]]


def _schedule(record: Evidence) -> str:
    foreign = record.schedule.get("foreign")
    if foreign:
        return f"{foreign} (your own)"
    if not record.schedule and not record.multipliers:
        return ""
    values = [v for _, v in record.multipliers]
    if values and max(values) == min(values):
        return "constant"
    return schedule_text(record) or ""


def schedule_text(record: Evidence) -> str | None:
    """The record's schedule as `eta.Schedule.parse` reads it; None where it holds none, or one unknown here."""
    try:
        return repr(Schedule.from_json(record.schedule))
    except ScheduleError:
        return None


def _four_rows(facts: Facts) -> list[list[str]]:
    return [[e.title, n.lr(e.curve.lr, 3) if e.curve else "–", e.sentence] for e in four(facts)]


def _rung_rows(facts: Facts) -> list[list[str]]:
    rows = [["steps", "settings", "lrs", "lowest at", facts.measure, "diverged", "runs"]]
    for r in facts.rungs:
        at, low = (n.lr(r.lowest[0], 3), n.loss(facts.shown(r.lowest[1]))) if r.lowest else ("–", "–")
        ends = n.lr_range((r.lrs[0], r.lrs[-1])) if r.lrs else "–"
        rows.append([f"{r.steps:,}", str(r.settings), ends, at, low, str(r.diverged), f"{r.cost:.2f}"])
    return rows


def _evidence_rows(facts: Facts) -> list[list[str]]:
    rows = [["steps", "lr", "seed", facts.measure, "diverged at", *(["options"] if facts.mixed else [])]]
    for rung in facts.record.rungs:
        for c in (c for lane in rung.lanes for c in lane.curves):
            at = "" if not c.diverged else f"step {c.diverged_at:,}" if c.diverged_at is not None else "the end"
            loss = "diverged" if c.diverged else n.loss(facts.shown(c.loss))
            options = [n.options(c.options)] if facts.mixed else []
            rows.append([f"{rung.steps:,}", n.lr(c.lr, 3), str(c.seed), loss, at, *options])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned left, two spaces apart."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(f"  {line}".rstrip() for line in lines)


def sentence(words: str) -> str:
    """Words with a capital and a full stop."""
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")
