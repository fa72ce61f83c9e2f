"""A small kit for drawing inline SVG: shapes, text, labels that keep clear of each other.

Colours come from the classes of `templates/plot.css` alone, so that one picture serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

__all__ = ["Canvas", "Label", "stack", "text_width", "thin"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom


def text_width(text: str, size: float = 12) -> float:
    """Roughly how wide a text is; a little too much rather than too little."""
    return sum(0.34 if c in " .,:;'()|il" else 0.62 if c.isalnum() else 0.7 for c in text) * size


def thin(points: Sequence[Point], limit: int) -> list[Point]:
    """At most about `limit` points, keeping both ends and the extremes of each stretch.

    >>> kept = thin([(i, float(i == 50)) for i in range(100)], 10)
    >>> kept[0], kept[-1], (50, 1.0) in kept, len(kept) <= 10
    ((0, 0.0), (99, 0.0), True, True)
    """
    if len(points) <= limit:
        return list(points)
    inner = points[1:-1]
    stretches = max(1, (limit - 2) // 2)
    kept = [points[0]]
    for i in range(stretches):
        part = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        if part:
            ends = {min(part, key=_height), max(part, key=_height)}
            kept += sorted(ends, key=lambda p: p[0])
    return [*kept, points[-1]]


def _height(point: Point) -> float:
    return point[1] if math.isfinite(point[1]) else math.inf


@dataclass
class Canvas:
    """An SVG picture under construction; scales with its container, never needs an id or a script.

    Attributes:
        width: of the view box.
        height: of the view box.
        label: what a screen reader says.
    """

    width: float
    height: float
    label: str
    parts: list[str] = field(default_factory=list)
    taken: list[Box] = field(default_factory=list)

    def line(self, a: Point, b: Point, css: str) -> None:
        """A straight line."""
        self.parts.append(f'<line x1="{_n(a[0])}" y1="{_n(a[1])}" x2="{_n(b[0])}" y2="{_n(b[1])}" class="{css}"/>')

    def path(self, points: Iterable[Point], css: str, closed: bool = False) -> None:
        """A line through points, broken where one is not finite; closed: filled."""
        out, pen = [], "M"
        for x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                out.append(f"{pen}{_n(x)},{_n(y)}")
                pen = " "
            else:
                pen = "M"
        if out:
            self.parts.append(f'<path d="{"".join(out)}{"Z" if closed else ""}" class="{css}"/>')

    def rect(self, box: Box, css: str, radius: float = 0) -> None:
        """A rectangle, given by left, top, right, bottom."""
        left, top, right, bottom = box
        size = f'width="{_n(max(right - left, 0))}" height="{_n(max(bottom - top, 0))}"'
        rounded = f' rx="{_n(radius)}"' if radius else ""
        self.parts.append(f'<rect x="{_n(left)}" y="{_n(top)}" {size}{rounded} class="{css}"/>')

    def dot(self, at: Point, radius: float, css: str, title: str = "") -> None:
        """A round point, with a tooltip."""
        self._titled(f'<circle cx="{_n(at[0])}" cy="{_n(at[1])}" r="{_n(radius)}" class="{css}"', "circle", title)
        self.taken.append((at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius))

    def cross(self, at: Point, radius: float, css: str, title: str = "") -> None:
        """A cross, for what diverged, with a tooltip."""
        (x, y), r = at, radius
        left, right, top, bottom = _n(x - r), _n(x + r), _n(y - r), _n(y + r)
        d = f"M{left},{top}L{right},{bottom}M{left},{bottom}L{right},{top}"
        self._titled(f'<path d="{d}" class="{css}"', "path", title)
        self.taken.append((x - r, y - r, x + r, y + r))

    def diamond(self, at: Point, radius: float, css: str, title: str = "") -> None:
        """A diamond, for the user's own value."""
        (x, y), r = at, radius
        d = f"M{_n(x)},{_n(y - r)}L{_n(x + r)},{_n(y)}L{_n(x)},{_n(y + r)}L{_n(x - r)},{_n(y)}Z"
        self._titled(f'<path d="{d}" class="{css}"', "path", title)

    def text(self, at: Point, text: str, css: str = "", anchor: str = "start", size: float = 12) -> None:
        """A text, standing on `at`."""
        align = "" if anchor == "start" else f' text-anchor="{anchor}"'
        look = f' class="{css}"' if css else ""
        place = f'x="{_n(at[0])}" y="{_n(at[1])}"'
        self.parts.append(f'<text {place} font-size="{_n(size)}"{align}{look}>{escape(text)}</text>')
        self.taken.append(_box(at, text, anchor, size))

    def free(self, places: Sequence[tuple[Point, str]], text: str, css: str, within: Box, size: float = 12) -> bool:
        """Write a text at the first of the places (point, anchor) where it covers nothing, if any."""
        for at, anchor in places:
            box = _box(at, text, anchor, size)
            inside = within[0] <= box[0] and box[2] <= within[2] and within[1] <= box[1] and box[3] <= within[3]
            if inside and not any(_overlap(box, other) for other in self.taken):
                self.text(at, text, css, anchor, size)
                return True
        return False

    def clip(self, box: Box) -> Clip:
        """A region outside which nothing is drawn, as a context."""
        return Clip(self, box)

    def svg(self, style: str = "", css: str = "") -> str:
        """The picture; `style` makes it stand alone."""
        inner, xmlns, edge = "", "", 0
        if style:
            xmlns, edge = ' xmlns="http://www.w3.org/2000/svg"', 14
            paper = f'<rect x="-{edge}" y="-{edge}" width="100%" height="100%" class="paper"/>'
            inner = f"<style>{style}</style>{paper}"
        box = f"-{edge} -{edge}" if edge else "0 0"
        box += f" {_n(self.width + 2 * edge)} {_n(self.height + 2 * edge)}"
        return (
            f'<svg{xmlns} class="eta eta-plot {css}" viewBox="{box}" role="img" '
            f'aria-label="{escape(self.label)}">{inner}{"".join(self.parts)}</svg>'
        )

    def _titled(self, opening: str, tag: str, title: str) -> None:
        self.parts.append(f"{opening}><title>{escape(title)}</title></{tag}>" if title else f"{opening}/>")


class Clip:
    """What is drawn within this context is cut off at the box (a nested svg, which needs no id)."""

    def __init__(self, canvas: Canvas, box: Box) -> None:
        self.canvas, self.box = canvas, box

    def __enter__(self) -> None:
        left, top = _n(self.box[0]), _n(self.box[1])
        w, h = _n(self.box[2] - self.box[0]), _n(self.box[3] - self.box[1])
        self.canvas.parts.append(
            f'<svg x="{left}" y="{top}" width="{w}" height="{h}" viewBox="{left} {top} {w} {h}" overflow="hidden">'
        )

    def __exit__(self, *_: object) -> None:
        self.canvas.parts.append("</svg>")


@dataclass(frozen=True)
class Label:
    """A text that wants to stand centred at `x`."""

    x: float
    text: str
    css: str
    size: float = 12


def stack(labels: Sequence[Label], left: float, right: float, gap: float = 14) -> list[tuple[int, float, Label]]:
    """Rows for labels, so that none overlap: (row, centre, label), row 0 first, each within left..right."""
    rows: list[list[tuple[float, float]]] = []
    placed = []
    for label in labels:
        half = text_width(label.text, label.size) / 2
        x = max(left + half, min(right - half, label.x))
        spot = (x - half - gap / 2, x + half + gap / 2)
        free = (i for i, spans in enumerate(rows) if all(spot[1] <= a or spot[0] >= b for a, b in spans))
        row = next(free, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(spot)
        placed.append((row, x, label))
    return placed


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _box(at: Point, text: str, anchor: str, size: float) -> Box:
    w = text_width(text, size)
    left = at[0] - {"start": 0.0, "middle": w / 2, "end": w}[anchor]
    return (left, at[1] - size * 0.8, left + w, at[1] + size * 0.25)


def _n(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
