"""Loss against lr: the one picture that holds the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from .. import numbers as n
from ..records import Finding
from .facts import Facts
from .scales import Scale, loss_scale, lr_scale
from .svg import Canvas, Label, Point, stack, text_width

__all__ = ["loss_against_lr", "worth_drawing"]

_STRIP = 19  # height of one bar with its text, under the plot


def worth_drawing(facts: Facts) -> bool:
    """Whether there is any setting to put on the plot."""
    return facts.tried is not None


def loss_against_lr(facts: Facts, narrow: bool = False) -> Canvas:
    """Final loss against lr: a line per rung, the prediction with its band, zone, interval, edge, the answer.

    Args:
        facts: of a record with at least one setting.
        narrow: drawn for a phone.
    """
    return _LossAgainstLr(facts, narrow).draw()


class _LossAgainstLr:
    """The pieces of the picture, each drawn by one method, all on one canvas."""

    def __init__(self, facts: Facts, narrow: bool) -> None:
        self.facts, self.narrow = facts, narrow
        self.size = 12.0 if narrow else 13.0
        width = 390.0 if narrow else 940.0
        self.left, self.right = (46.0, width - 10) if narrow else (58.0, width - 16)
        self.left = max(self.left, self._margin())
        self.x = lr_scale(self._lrs(), self.left, self.right)
        self.header = stack(self._headers(), self.left, self.right)
        rows = 1 + max((row for row, _, _ in self.header), default=-1)
        self.top = 30 + rows * 19.0
        self.empty = facts.best_seen is None and not self._predicted()
        self.bottom = self.top + (60 if self.empty else 230 if narrow else 300)
        self.bars = self._bars()
        height = self.bottom + 8 + _STRIP * len(self.bars) + 44
        self.canvas = Canvas(width, height, self._spoken())
        crosses = 20 if any(r.diverged for r in facts.rungs) else 4
        low, high = (self.bottom - crosses, self.top + 6) if facts.maximised else (self.bottom - 6, self.top + crosses)
        self.bad = self.bottom - 10 if facts.maximised else self.top + 10
        raw = loss_scale(self._losses(), low, high, self._cap())
        self.y = Scale(-raw.hi, -raw.lo, low, high) if facts.maximised else raw

    def draw(self) -> Canvas:
        self._ground()
        self._axes()
        self._prediction()
        self._rungs()
        self._answer()
        self._names()
        self._strip()
        return self.canvas

    # ------------------------------------------------------------------------------ what to show

    def _lrs(self) -> list[float]:
        facts = self.facts
        extra = [v for v in (facts.lr, facts.mine.lr if facts.mine else None) if v is not None]
        return [*(facts.tried or ()), *extra]

    def _losses(self) -> list[float]:
        seen = [c.loss for rung in self.facts.record.rungs for c in rung.curves]
        marked = [self.facts.loss, self.facts.mine.loss if self.facts.mine else None]
        return [*seen, *(raw for _, raw, _, _ in self._predicted()), *(v for v in marked if v is not None)]

    def _margin(self) -> float:
        """Room for the longest number on the loss axis."""
        raw = loss_scale(self._losses(), 300, 0, self._cap())
        return 12 + max((text_width(t, self.size - 1) for t in n.ticks(raw.ticks())), default=0)

    def _cap(self) -> float | None:
        """Losses above the one at init are not worth room; without it, `loss_scale` leaves outliers out."""
        return self.facts.init

    def _predicted(self) -> list[tuple[float, float, float, float]]:
        """The part of the prediction within what was tried and below the edge."""
        record, tried = self.facts.record, self.facts.tried
        if not isinstance(record, Finding) or tried is None:
            return []
        p, edge = record.predicted, self.facts.edge or math.inf
        rows = zip(p.lrs, p.loss, p.low, p.high, strict=True)
        return [r for r in rows if tried[0] * 0.999 <= r[0] <= tried[1] * 1.001 and r[0] < edge and _finite(r[1])]

    def _headers(self) -> list[Label]:
        facts, out = self.facts, []
        if facts.lr is not None:
            word = "best" if facts.kind == "sweep" else "use"
            out.append(Label(self.x(facts.lr), f"{word} {n.lr(facts.lr)}", "strong t-good", self.size + 3))
        if facts.mine is not None:
            out.append(Label(self.x(facts.mine.lr), f"yours {n.lr(facts.mine.lr, 3)}", "t-mine", self.size))
        if facts.edge is not None:
            out.append(Label(self.x(facts.edge), f"diverges from {facts.edge_in_words}", "t-bad", self.size))
        return out

    def _bars(self) -> list[tuple[tuple[float, float], str, str, str]]:
        """(ends, class, long text, short text) of the bars under the plot."""
        facts, out = self.facts, []
        if facts.zone is not None:
            out.append((facts.zone, "zonebar", f"as good: {n.lr_range(facts.zone)}", "as good"))
        if facts.interval is not None:
            text = f"90% sure the best is in {n.lr_range(facts.interval)}"
            out.append((facts.interval, "interval", text, "90% interval"))
        return out

    def _spoken(self) -> str:
        facts = self.facts
        text = f"{facts.measure} against learning rate for {facts.record.task}."
        if facts.lr is not None:
            text += f" The answer is {n.lr(facts.lr)}."
        if facts.zone is not None:
            text += f" As good: {n.lr_range(facts.zone)}."
        if facts.edge is not None:
            text += f" Diverges from {facts.edge_in_words}."
        return text

    # ---------------------------------------------------------------------------------- drawing

    def _ground(self) -> None:
        facts, c = self.facts, self.canvas
        if facts.zone is not None:
            box = (self._in(facts.zone[0]), self.top, self._in(facts.zone[1]), self._floor())
            c.rect(box, "zone")
        if facts.edge is not None:
            x = self._in(facts.edge)
            c.rect((x, self.top, self.right, self.bottom), "danger")

    def _axes(self) -> None:
        c, facts = self.canvas, self.facts
        c.text((0, 15), self._title(), "soft", size=self.size)
        values = [] if self.empty else self.y.ticks(4 if self.narrow else 5)
        for value, said in zip(values, n.ticks(values), strict=True):
            y = self.y(value)
            c.line((self.left, y), (self.right, y), "grid")
            c.text((self.left - 8, y + 4), said, "soft", "end", self.size - 1)
        floor = self._floor()
        c.line((self.left, self.bottom), (self.right, self.bottom), "axis")
        for value in self.x.ticks(4 if self.narrow else 8, gap=38):
            x = self.x(value)
            c.line((x, floor), (x, floor + 5), "axis")
            c.text((x, floor + 19), n.lr(value), "soft", "middle", self.size - 1)
        c.text((self.right, floor + 37), "learning rate", "soft", "end", self.size)
        if facts.init is not None and not self.empty:
            shown = facts.shown(facts.init)
            if self.y.holds(shown):
                y = self.y(shown)
                c.line((self.left, y), (self.right, y), "ref")
                self._keep_clear([(self.left, y), (self.right, y)])

    def _title(self) -> str:
        facts = self.facts
        lengths = {r.steps for r in facts.rungs}
        text = facts.measure[0].upper() + facts.measure[1:] + " at the end of a run"
        if len(lengths) == 1:
            text += f" of {n.steps(lengths.pop())}"
        return text + (", higher is better" if facts.maximised and not self.narrow else "")

    def _prediction(self) -> None:
        rows = self._predicted()
        if len(rows) < 2:
            return
        c, shown = self.canvas, self.facts.shown
        low = [(self.x(lr), self.y(shown(v))) for lr, _, v, _ in rows if _finite(v)]
        high = [(self.x(lr), self.y(shown(v)) if _finite(v) else self.bad) for lr, _, _, v in rows]
        with c.clip((self.left, self.top, self.right, self.bottom)):
            c.path([*low, *reversed(high)], "band", closed=True)
            c.path(self._predicted_line(), "predicted")

    def _predicted_line(self) -> list[Point]:
        return [(self.x(lr), self.y(self.facts.shown(v))) for lr, v, _, _ in self._predicted()]

    def _rungs(self) -> None:
        c, facts = self.canvas, self.facts
        crosses: dict[float, list[str]] = {}
        for i, rung in enumerate(facts.record.rungs):
            age = min(3, len(facts.rungs) - 1 - i)
            css = "predicted" if facts.kind == "sweep" else f"rung f{age}"
            with c.clip((self.left, self.top, self.right, self.bottom)):
                c.path(self._rung_line(i), css)
            for curve in rung.curves:
                named = f"{n.options(curve.options)}, " if curve.options else ""
                said = f"lr {n.lr(curve.lr, 3)}, {named}seed {curve.seed}, {n.steps(curve.steps)}: "
                if curve.diverged:
                    crosses.setdefault(curve.lr, []).append(said + "diverged")
                    continue
                shown = facts.shown(curve.loss)
                y = self.y(shown) if self.y.holds(shown) else self.bad
                radius = (2.4 if len(rung.lrs) > 60 else 3.2) - 0.3 * age
                c.dot((self.x(curve.lr), y), radius, f"seen f{age}", said + n.loss(shown))
        for lr, each in crosses.items():
            c.cross((self.x(lr), self.bad), 3.6, "cross", "; ".join(each))

    def _rung_line(self, index: int) -> list[Point]:
        rung = self.facts.rungs[index]
        pairs = zip(rung.lrs, rung.means, strict=True)
        return [(self.x(lr), self.y(self.facts.shown(v)) if _finite(v) else math.nan) for lr, v in pairs]

    def _answer(self) -> None:
        c, facts = self.canvas, self.facts
        for row, x, label in self.header:
            y = self.top - 8 - row * 19
            c.text((x, y), label.text, label.css, "middle", label.size)
        if facts.edge is not None:
            x = self._in(facts.edge)
            c.line((x, self._lead("t-bad")), (x, self.bottom), "edge")
        if facts.mine is not None:
            x = self.x(facts.mine.lr)
            y = self._on_curve(facts.mine.lr, facts.mine.loss)
            c.line((x, self._lead("t-mine")), (x, y), "minedrop")
            c.diamond((x, y), 6.5, "mine", f"your lr {n.lr(facts.mine.lr, 3)}: {facts.mine.verdict}")
        if facts.lr is not None:
            x, y = self.x(facts.lr), self._on_curve(facts.lr, facts.loss)
            c.line((x, self._lead("strong t-good")), (x, y), "drop")
            c.dot((x, y), 6, "answer", f"lr {n.lr(facts.lr)}: {self.facts.measure} {self._said(facts.loss)}")

    def _lead(self, css: str) -> float:
        """Where the line down from a header begins: at its text, or at the plot if a text is in between."""
        row, at = next((row, label.x) for row, _, label in self.header if label.css == css)
        for below, x, label in self.header:
            if below < row and abs(x - at) < text_width(label.text, label.size) / 2 + 3:
                return self.top
        return self.top - 3 - row * 19

    def _on_curve(self, lr: float, loss: float | None) -> float:
        if loss is None or not _finite(loss):
            return self.bad
        shown = self.facts.shown(loss)
        return self.y(shown) if self.y.holds(shown) else min(self.bottom - 6, max(self.top + 6, self.y(shown)))

    def _names(self) -> None:
        """Each line's name, written beside it where there is room; longest first, for it matters most."""
        c, facts = self.canvas, self.facts
        predicted = self._predicted_line()
        upright = [self._in(v) for v in (facts.lr, facts.edge, facts.mine.lr if facts.mine else None) if v is not None]
        for x in upright:
            self._keep_clear([(x, self.top), (x, self.bottom)])
        for line in (predicted, *(self._rung_line(i) for i in range(len(facts.rungs)))):
            self._keep_clear(line)
        within = (self.left + 2, self.top + 2, self.right, self.bottom - 2)
        if len(predicted) > 1:
            for text in (f"predicted for {n.steps(facts.record.horizon)}", "predicted"):
                if c.free(_beside(predicted), text, "strong t-good", within, self.size - 1):
                    break
        if facts.init is not None and not self.empty and self.y.holds(facts.shown(facts.init)):
            y = self.y(facts.shown(facts.init))
            c.free(
                [((self.right - 4, y + 16), "end"), ((self.right - 4, y - 6), "end")],
                "at init",
                "soft",
                within,
                self.size - 2,
            )
        if len(facts.rungs) < 2:
            return
        for i in reversed(range(len(facts.rungs))):
            age = min(3, len(facts.rungs) - 1 - i)
            line = [p for p in self._rung_line(i) if math.isfinite(p[1])]
            if line:
                text = n.steps(facts.rungs[i].steps)
                c.free(_beside(line), text, "" if age == 0 else "soft", within, self.size - 1)

    def _keep_clear(self, line: Sequence[Point]) -> None:
        for (x0, y0), (x1, y1) in pairwise(line):
            if not (math.isfinite(y0) and math.isfinite(y1)):
                continue
            parts = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / 4))
            for k in range(parts + 1):
                x, y = x0 + (x1 - x0) * k / parts, y0 + (y1 - y0) * k / parts
                self.canvas.taken.append((x - 1, y - 1, x + 1, y + 1))

    def _strip(self) -> None:
        c, y = self.canvas, self.bottom + 8
        for ends, css, long, short in self.bars:
            a, b = self._in(ends[0]), self._in(ends[1])
            if b - a < 4:
                a, b = (a + b) / 2 - 2, (a + b) / 2 + 2
            c.rect((a, y + 2, b, y + 11), css, 2)
            for text in (long, short):
                width = text_width(text, self.size - 1) + 8
                if b + width <= self.right:
                    c.text((b + 8, y + 11), text, "", "start", self.size - 1)
                    break
                if a - width >= self.left:
                    c.text((a - 8, y + 11), text, "", "end", self.size - 1)
                    break
            y += _STRIP

    def _floor(self) -> float:
        return self.bottom + (8 + _STRIP * len(self.bars) if self.bars else 0)

    def _in(self, lr: float) -> float:
        return min(self.right, max(self.left, self.x(lr)))

    def _said(self, loss: float | None) -> str:
        return n.loss(None if loss is None else self.facts.shown(loss))


def _beside(line: Sequence[Point]) -> list[tuple[Point, str]]:
    """Places for a line's name: near its left end, near its right end, then anywhere along it."""
    (x0, y0), (x1, y1) = line[0], line[-1]
    places: list[tuple[Point, str]] = [
        ((x0 - 8, y0 + 4), "end"),
        ((x0 - 3, y0 - 8), "start"),
        ((x0 - 3, y0 + 17), "start"),
        ((x1 + 8, y1 + 4), "start"),
        ((x1, y1 - 9), "end"),
    ]
    for x, y in line[1:-1]:
        places += [
            ((x + 8, y - 6), "start"),
            ((x - 8, y + 16), "end"),
            ((x - 8, y - 6), "end"),
            ((x + 8, y + 16), "start"),
        ]
    return places


def _finite(value: float) -> bool:
    return math.isfinite(value)
