"""Names beside the points of a picture, none on another, on a point or across a line. Pure geometry, in pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

LINE = 15  # height of a line of text of 12 pixels; widths of its letters, in Helvetica or Arial:
NARROW, WIDE, USUAL, CAPITAL = 3.4, 9.6, 6.7, 8.3
SIDES = [(1, 0), (-1, 0), (0, -1), (0, 1)] + [(dx, dy) for dy in (-0.6, 0.6, -1.2, 1.2) for dx in (1, -1)]

Point = tuple[float, float]


class Box(NamedTuple):
    """A rectangle."""

    x0: float
    y0: float
    x1: float
    y1: float

    def meets(self, other: Box) -> bool:
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1

    def inside(self, other: Box) -> bool:
        return other.x0 <= self.x0 and self.x1 <= other.x1 and other.y0 <= self.y0 and self.y1 <= other.y1

    def anchor(self, point: Point) -> tuple[float, str]:
        """Where a text inside begins or ends, so that it keeps to a point's side: x, and SVG's word for it."""
        if self.x0 >= point[0]:
            return self.x0, "start"
        return (self.x1, "end") if self.x1 <= point[0] else ((self.x0 + self.x1) / 2, "middle")


class Label(NamedTuple):
    """A name, its point, where it stands, and the line to it, if it stands too far off to go without."""

    text: str
    colour: str
    point: Point
    box: Box
    line: tuple[Point, Point] | None


def width(text: str) -> float:
    """Of a text of 12 pixels, rather too wide than too narrow."""
    return sum(
        NARROW if c in "fijlrt ,.-'()" else WIDE if c in "mwMW" else CAPITAL if c.isupper() else USUAL for c in text
    )


def along(start: Point, end: Point, half: float) -> list[Box]:
    """A line as small boxes."""
    count = 2 + int(math.dist(start, end) / 4)
    points = [(start[0] + (end[0] - start[0]) * i / count, start[1] + (end[1] - start[1]) * i / count)
              for i in range(count + 1)]  # fmt: skip
    return [Box(x - half, y - half, x + half, y + half) for x, y in points]


def places(x: float, y: float, wide: float) -> Iterator[tuple[Box, tuple[Point, Point] | None]]:
    """Where a name may stand, and the line to it: the nearest first."""
    for far in range(16):
        away = 7 + 9 * far
        for dx, dy in SIDES:
            cx, cy = x + dx * (away + wide / 2), y + dy * (away + LINE / 4)
            box = Box(cx - wide / 2, cy - LINE / 2, cx + wide / 2, cy + LINE / 2)
            near = min(max(x, box.x0), box.x1), min(max(y, box.y0 + 2), box.y1 - 2)
            yield box, ((x, y), near) if far > 0 else None


def placed(points: Sequence[tuple[str, str, Point]], taken: Sequence[Box], frame: Box) -> list[Label]:
    """A label for each point.

    Args:
        points: name, colour and place of each.
        taken: where no name may stand.
        frame: all of them stand inside it.
    """
    found: list[Label] = []
    marks = [Box(x - 5, y - 5, x + 5, y + 5) for *_, (x, y) in points] + list(taken)
    lines: list[Box] = []

    def neighbours(point) -> int:
        return sum(math.dist(point[2], other) < 60 for *_, other in points)

    for text, colour, at in sorted(points, key=neighbours, reverse=True):  # who has least choice goes first
        labels = [label.box for label in found]
        others = [mark for mark in marks if not mark.meets(Box(*at, *at))]
        options = [
            (box, line) for box, line in places(*at, width(text))
            if box.inside(frame) and not any(map(box.meets, [*marks, *labels, *lines]))
        ]  # fmt: skip
        uncrossed = [o for o in options if not crosses(o[1], labels)]
        clear = [o for o in uncrossed if not crosses(o[1], others)]  # in a crowd no line may keep off all points
        box, line = [*clear[:1], *uncrossed[:1], *options[:1], *places(*at, width(text))][0]
        lines += along(*line, 0.5) if line else []
        found.append(Label(text, colour, at, box, line))
    return found


def crosses(line: tuple[Point, Point] | None, boxes: Sequence[Box]) -> bool:
    return line is not None and any(part.meets(box) for part in along(*line, 0.5) for box in boxes)
