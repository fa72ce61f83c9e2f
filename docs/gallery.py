"""Draws every schedule and writes docs/schedules.md, from the docstrings: `python docs/gallery.py`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import etascope as eta
from etascope import schedules
from etascope.schedules import factors
from etascope.schedules.names import NAMES, SHAPES

HERE = Path(__file__).parent
HORIZON, EPOCH = 400, 40
GROUPS = {
    "Smooth": "linear cosine polynomial sqrt_cooldown exponential inverse_time inverse_sqrt tanh "
    "constant hold anneal warmup",
    "With drops": "step_decay multistep piecewise",
    "In cycles": "restarts triangular exp_range one_cycle wave",
    "At random": "noise",
    "Recipes: compositions with a name": "wsd flat_cosine noam tri_stage triangular2",
}
DRAWN = {
    "constant": "constant()",
    "hold": "linear(50%, to=0.2) >> hold()",
    "anneal": "cosine(75%, to=0.4) >> anneal(10%, to=0.15) >> hold()",
    "exponential": "exponential(to=0.01)",
    "inverse_time": "inverse_time(10%)",
    "inverse_sqrt": "warmup(10%) >> inverse_sqrt(10%)",
    "sqrt_cooldown": "warmup(5%) >> constant() >> sqrt_cooldown(20%)",
    "warmup": "warmup(20%) >> constant()",
    "step_decay": "step_decay(30%, factor=0.3)",
    "multistep": "multistep([50%, 75%], factor=0.3)",
    "piecewise": "piecewise([10%, 60%], [0.2, 1, 0.3], by=linear)",
    "restarts": "restarts(1ep, growth=2, peak_factor=0.8)",
    "triangular": "triangular(2ep)",
    "exp_range": "exp_range(2ep, factor=0.998)",
    "wave": "wave(40%)",
    "noise": "cosine() * noise(0.2, every=2%)",
    "noam": "noam(10%)",
    "triangular2": "triangular2(2ep)",
}  # the others as they are by default


FACTORS = {"plateau": factors.plateau, "greedy": factors.greedy}
WRITTEN = {**NAMES, **FACTORS}


def sections(name: str) -> dict[str, str]:
    """What a docstring says: "head" (its first paragraph), "use", "more", "Args", "Raises", "Source", "example"."""
    text = inspect.getdoc(WRITTEN[name]) or ""
    text, _, example = text.partition("\n>>> ")
    out = {"example": ">>> " + example.strip(), "more": ""}
    for paragraph in re.split(r"\n\n+", text.strip()):
        title = re.match(r"(Args|Raises|Source): ?", paragraph)
        if "head" not in out:
            out["head"] = " ".join(paragraph.split())
        elif title:
            out[title[1]] = paragraph[title.end() :].strip("\n")
        elif paragraph.startswith("Use it"):
            out["use"] = " ".join(paragraph.split())
        else:
            out["more"] += " ".join(paragraph.split()) + "\n\n"
    return out


def entry(name: str) -> str:
    """A shape's part of the page."""
    said, drawn = sections(name), DRAWN.get(name, f"{name}()")
    where = "eta" if name in eta.__all__ else "etascope.schedules"
    call = f"{where}.{name}{signature(name)}"
    return (
        f"### {name}\n\n`{call}`\n\n{said['head']}\n\n{said['use']}\n\n"
        f"![{drawn}](schedules/{name}.svg)\n\n*Drawn: `{drawn}`, {HORIZON:,} steps of {EPOCH} an epoch.*\n\n"
        f"{said['more']}{arguments(said)}Source: {' '.join(said['Source'].split())}\n\n"
        f"```pycon\n{said['example']}\n```\n"
    )


def factor(name: str) -> str:
    """A metric-driven factor's part of the page."""
    said = sections(name)
    return (
        f"### {name}\n\n`eta.{name}{signature(name)}`\n\n{said['head']}\n\n{said['more']}{arguments(said)}"
        f"Source: {' '.join(said['Source'].split())}\n"
    )


def signature(name: str) -> str:
    """The call with its defaults, without annotations."""
    parameters = inspect.signature(WRITTEN[name]).parameters.values()
    return "(" + ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters) + ")"


def arguments(said: dict[str, str]) -> str:
    """The arguments as a list."""
    if "Args" not in said:
        return ""
    lines: list[str] = []
    for line in inspect.cleandoc(said["Args"]).splitlines():
        if line.startswith(" "):
            lines[-1] += " " + line.strip()
        else:
            name, _, text = line.partition(": ")
            lines.append(f"- `{name}`: {text}")
    return "\n".join(lines) + "\n\n"


def page() -> str:
    """The whole gallery."""
    parts = [
        "# Schedules",
        "*Written by `python docs/gallery.py` from the docstrings.*",
        "A schedule multiplies the peak lr. `a >> b` runs one after the other, `a * b` both at once. Lengths are "
        'steps (`500`), parts of the whole horizon (`"5%"`) or epochs (`"2ep"`); a phase without one takes the rest. '
        "u is the time since a phase began and n its length, in steps; p = u / n. Past the end the last value stays.",
        'Everything here can be written as text too: `eta.Schedule.parse("warmup(5%) >> cosine(to=0.1)")`, and '
        '`etascope schedule "warmup(5%) >> cosine(to=0.1)" --horizon 2000` draws it.',
    ]
    for title, names in GROUPS.items():
        links = " · ".join(f"[{name}](#{name})" for name in names.split())
        parts += [f"## {title}", links, *map(entry, names.split())]
    parts += [
        "## By a metric",
        "Factors on the lr of an attached schedule, whatever its shape: "
        "`handle = eta.attach(schedule, optimizer, horizon=20_000, factors=[eta.plateau(patience=5)])`, and after each "
        "validation `handle.observe(val_loss)`.",
        *map(factor, FACTORS),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def curves() -> dict[str, str]:
    """An SVG picture for each name."""
    bound = {
        name: schedules.Schedule.parse(DRAWN.get(name, f"{name}()")).bind(HORIZON, EPOCH)
        for names in GROUPS.values()
        for name in names.split()
    }
    return {name: b.plot().svg + "\n" for name, b in bound.items()}


if __name__ == "__main__":
    drawn = curves()
    assert drawn.keys() == NAMES.keys() >= SHAPES.keys()
    (HERE / "schedules").mkdir(exist_ok=True)
    for name, svg in drawn.items():
        (HERE / "schedules" / f"{name}.svg").write_text(svg, encoding="utf-8")
    (HERE / "schedules.md").write_text(page(), encoding="utf-8")
