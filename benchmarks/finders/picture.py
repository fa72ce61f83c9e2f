"""The picture of the comparison: regret against cost, every method a point, etascope a curve over its budgets.

    python benchmarks/finders/picture.py            # benchmarks/results/finders.json -> docs/finders.svg

Two panels: the median regret, and that of the worst tenth. Both axes are logarithmic; what costs nothing stands at the
left edge; a regret below .03% at the bottom, a negative one too (an optimizer that does better than the task's own).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from calibration import CALIBRATED, LEARNING_RATE_FREE
from labels import Box, along, placed
from summary import Line, summaries
from truth import HALVES, RESULTS

OUT = Path(__file__).parents[2] / "docs" / "finders.svg"
WIDTH, HEIGHT, GAP = 900, 380, 64  # of a panel, and between two
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 40, 46  # margins
COSTS = (0.03, 0.1, 0.3, 1, 3, 10, 30)
REGRETS = (0.0003, 0.001, 0.01, 0.1, 1.0)
COST = "cost in complete runs; of optimizers without an lr, the training itself, which the others still have ahead"
FREE = 0.017  # where a cost of 0 is drawn
FONT = 12
INK, GRID = "#1a1a1a", "#dddddd"
COLOURS = {"etascope": "#0b57d0", "tuner": "#9a4b00", "range": "#0a6b3d", "free": "#7a1fa2", "default": "#444444"}


FRAME = Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def kind(method: str) -> str:
    """The family that a method's colour stands for."""
    if method == "etascope":
        return "etascope"
    if method.startswith(("random", "TPE", "one lr")):
        return "tuner"
    if method.removesuffix(CALIBRATED) in LEARNING_RATE_FREE:
        return "free"
    return "default" if method.startswith("torch's") else "range"


def x_of(cost: float) -> float:
    low, high = math.log(FREE), math.log(COSTS[-1] * 1.25)
    return FRAME.x0 + (math.log(max(cost, FREE)) - low) / (high - low) * (FRAME.x1 - FRAME.x0)


def y_of(regret: float) -> float:
    low, high = math.log(REGRETS[0] * 0.85), math.log(REGRETS[-1] * 1.2)
    return FRAME.y1 - (math.log(max(regret, REGRETS[0])) - low) / (high - low) * (FRAME.y1 - FRAME.y0)


def panel(lines: Sequence[Line], value: str, title: str) -> str:
    """One panel as SVG, its corner at 0, 0."""
    parts = [f'<text x="{LEFT}" y="22" font-weight="600" font-size="14">{escape(title)}</text>']
    for cost in COSTS:
        x = x_of(cost)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{FRAME.y0}" y2="{FRAME.y1}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{FRAME.y1 + 17}" text-anchor="middle">{cost:g}</text>')
    parts.append(f'<text x="{FRAME.x0}" y="{FRAME.y1 + 17}" text-anchor="middle">0</text>')
    for regret in REGRETS:
        y, said = y_of(regret), f"{'≤ ' if regret == REGRETS[0] else ''}{100 * regret:g}%"
        parts.append(f'<line x1="{FRAME.x0}" x2="{FRAME.x1}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{FRAME.x0 - 8}" y="{y + 4:.1f}" text-anchor="end">{said}</text>')
    parts.append(f'<text x="{(FRAME.x0 + FRAME.x1) / 2}" y="{FRAME.y1 + 36}" text-anchor="middle">'
                 f"{COST}</text>")  # fmt: skip

    own = sorted((line for line in lines if line.budget is not None), key=lambda line: line.cost)
    curve = [(x_of(line.cost), y_of(getattr(line, value))) for line in own]
    blue, taken = COLOURS["etascope"], []
    if len(curve) > 1:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in curve)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{blue}" stroke-width="2.5"/>')
        for start, end in itertools.pairwise(curve):
            taken += along(start, end, 4)
    named = own[len(own) // 2] if own else None
    points = []
    for line in lines:
        x, y, colour = x_of(line.cost), y_of(getattr(line, value)), COLOURS[kind(line.method)]
        size = 5 if line.method == "etascope" else 4
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}" stroke="#ffffff"/>')
        if line.method != "etascope" or line is named:
            points.append((line.method, colour, (x, y)))
        else:
            taken.append(Box(x - 6, y - 6, x + 6, y + 6))
    for text, colour, point, box, pointer in placed(points, taken, FRAME):
        if pointer:
            (x, y), (bx, by) = pointer
            parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{bx:.1f}" y2="{by:.1f}" stroke="{colour}" '
                         'stroke-width="0.8"/>')  # fmt: skip
        weight = ' font-weight="700"' if text == "etascope" else ""
        at, anchor = box.anchor(point)
        parts.append(f'<text x="{at:.1f}" y="{box.y1 - 3.5:.1f}" text-anchor="{anchor}" '
                     f'fill="{colour}"{weight}>{escape(text)}</text>')  # fmt: skip
    return "\n".join(parts)


def picture(lines: Sequence[Line]) -> str:
    """The whole picture as SVG."""
    tasks, answers = max(line.tasks for line in lines), max(line.rows for line in lines)
    panels = [
        panel(lines, "median", f"Median regret, {tasks} workloads, up to {answers} answers a method"),
        panel(lines, "p90", "Regret exceeded by one answer in ten"),
    ]
    height = 2 * HEIGHT + GAP - BOTTOM
    moved = "\n".join(
        f'<g transform="translate(0 {i * (HEIGHT + GAP - BOTTOM)})">\n{p}\n</g>' for i, p in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT}" fill="{INK}" role="img">\n'
        "<title>Regret of the learning rate against the cost of finding it</title>\n"
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n{moved}\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--half", choices=HALVES, default="fresh")
    parser.add_argument("--results", type=Path, default=RESULTS / "finders.json")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    rows = json.loads(asked.results.read_text())["rows"]
    asked.out.write_text(picture(summaries(rows, asked.half)), encoding="utf-8")


if __name__ == "__main__":
    main()
