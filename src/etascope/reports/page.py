"""The report: one HTML page that needs nothing else, and the small card for notebooks."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import numbers as n
from ..records import Evidence, Finding, Unanswered
from . import words
from .curves import COLOURS, example_panels, rung_panels
from .explain import reasons
from .facts import Facts, facts_of
from .fates import four
from .lines import training_lines
from .plots import loss_against_lr, worth_drawing
from .schedule_plot import schedule

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["card", "page", "plot_css"]

_TEMPLATES = Path(__file__).parent / "templates"
_ROWS = 2000  # of the evidence table
_PANELS = 400  # small curves, over all rungs


@functools.cache
def plot_css() -> str:
    """The style of every plot: classes under `.eta` alone, light and dark."""
    return (_TEMPLATES / "plot.css").read_text(encoding="utf-8").replace("\n", "")


def page(record: Evidence) -> str:
    """The whole report as one HTML page: no script, nothing loaded from anywhere."""
    return _render("report.html.j2", facts_of(record))


def card(record: Evidence) -> str:
    """A fragment for notebooks: the answer and the main plot, its style touching nothing else."""
    return _render("card.html.j2", facts_of(record))


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = _whole
    return environment


def _whole(text: str) -> Markup:
    """Words in which no line break falls inside a number like 1.1e-2."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[\d.]+e-\d+[.,:]?", r'<span class="nb">\g<0></span>', str(escape(text))))


def _render(template: str, facts: Facts) -> str:
    data = _head(facts) | (_body(facts) if template == "report.html.j2" else {})
    return _environment().get_template(template).render(data)


def _head(facts: Facts) -> dict[str, Any]:
    record = facts.record
    drawn = worth_drawing(facts)
    return {
        "record": record,
        "facts": facts,
        "plot_css": plot_css(),
        "headline": _headline(facts),
        "reached": words.predicted_loss(facts).strip(" ()"),
        "reason": words.sentence(record.reason) if isinstance(record, Unanswered) else "",
        "as_good": words.as_good(facts) if facts.lr is not None else "",
        "how_sure": words.how_sure(facts),
        "verdict": f"{facts.mine.text}." if facts.mine is not None else "",
        "paste": words.paste(facts),
        "code": training_lines(facts),
        "wide": loss_against_lr(facts).svg(css="wide") if drawn else "",
        "narrow": loss_against_lr(facts, narrow=True).svg(css="narrow") if drawn else "",
    }


def _body(facts: Facts) -> dict[str, Any]:
    examples = four(facts)
    panels = example_panels(facts, examples)
    wide, narrow = schedule(facts), schedule(facts, narrow=True)
    rungs, left_out = _rungs(facts)
    rows = _rows(facts)
    return {
        "n": n,
        "key": _key(facts),
        "examples": [
            {
                "title": e.title,
                "colour": COLOURS[e.fate],
                "lr": n.lr(e.curve.lr, 3) if e.curve else "",
                "sentence": e.sentence,
                "svg": c.svg() if c else "",
            }
            for e, c in zip(examples, panels, strict=True)
            if e.curve is not None or e.fate != "unjudged"
        ],
        "rungs": rungs,
        "left_out": left_out,
        "schedule": {"wide": wide.svg(css="wide"), "narrow": narrow.svg(css="narrow")} if wide and narrow else None,
        "rows": rows[:_ROWS],
        "more_rows": max(0, len(rows) - _ROWS),
        "known_drop": any(row["drop"] for row in rows),
        "mixed": facts.mixed,
        "several_seeds": len({row["seed"] for row in rows}) > 1,
        "setup": words.setup(facts),
        "reasons": reasons(facts.record) if isinstance(facts.record, Finding) and facts.record.course else [],
    }


def _headline(facts: Facts) -> str:
    if facts.lr is None:
        return words.headline(facts).capitalize()
    if facts.kind == "finding":
        return f"Use {n.exact(facts.lr)}"
    options = words.best_options(facts)
    return f"Best at {n.lr(facts.lr)}" + (f", {options}" if options else "")


def _key(facts: Facts) -> list[tuple[str, str]]:
    """(class, words) of the lines in the panels of curves."""
    curves = [c for rung in facts.record.rungs for c in rung.curves]
    val, train = any(c.val for c in curves), any(c.train for c in curves)
    if not val:
        return [("bold", "training loss")]
    name = "validation metric" if facts.maximised else "validation loss"
    own = " (own scale, below)" if facts.maximised else ""
    return [("bold", name), *([("faint", f"training loss{own}")] if train else [])]


def _rungs(facts: Facts) -> tuple[list[dict[str, Any]], int]:
    """Every rung with its small panels, longest first; evenly spaced ones where a page cannot hold them all."""
    out: list[dict[str, Any]] = []
    room, left_out = _PANELS, 0
    for i in sorted(range(len(facts.rungs)), key=lambda i: -facts.rungs[i].steps):
        rung = facts.rungs[i]
        panels = rung_panels(facts, i)
        if len(panels) > room:
            left_out += len(panels) - room
            panels = [panels[i * len(panels) // room] for i in range(room)]  # over the whole range of lrs
        room -= len(panels)
        said = f"{n.plural(rung.settings, 'setting')}, {rung.cost:.2f} complete runs"
        if rung.lowest is not None:
            said += f", lowest {n.loss(facts.shown(rung.lowest[1]))} at {n.lr(rung.lowest[0], 3)}"
        if rung.diverged:
            said += f", {rung.diverged} diverged"
        open_ = facts.settings <= 60 or not out
        out.append({"open": open_, "steps": n.steps(rung.steps), "said": said, "panels": [svg for _, svg in panels]})
    return out, left_out


def _rows(facts: Facts) -> list[dict[str, str]]:
    out = []
    for i, rung in enumerate(facts.record.rungs):
        for c in (c for lane in rung.lanes for c in lane.curves):
            drop = facts.drop(c.loss)
            at = "" if not c.diverged else f"step {c.diverged_at:,}" if c.diverged_at is not None else "the end"
            out.append(
                {
                    "rung": str(i + 1),
                    "steps": f"{rung.steps:,}",
                    "lr": n.lr(c.lr, 3),
                    "seed": str(c.seed),
                    "options": n.options(c.options),
                    "loss": "diverged" if c.diverged else n.loss(facts.shown(c.loss)),
                    "drop": "" if drop is None else f"{drop * 100:.0f}%".replace("-", "−"),
                    "at": at,
                    "colour": COLOURS[facts.fate(c)],
                }
            )
    return out
