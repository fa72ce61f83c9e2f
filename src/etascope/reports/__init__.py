"""Records -> facts -> sentences, plots, reports. Never trains anything, never loads torch.

Importing this room teaches records to show themselves: `print(finding)` gives the five lines of the answer,
a notebook the answer with its plot.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .. import records
from ..records import Evidence
from ..schedules import Bound
from ..schedules.base import plot_with
from ..storage import write_atomically
from ..watcher.log import Log
from . import page, terminal
from .explain import explain
from .facts import facts_of
from .plots import loss_against_lr, worth_drawing
from .schedule_plot import curve, points_of, schedule_chart
from .svg import Canvas
from .watched import told, watched
from .words import answer, text

__all__ = ["Plot", "answer", "html", "plot", "report", "text"]


@dataclass(frozen=True)
class Plot:
    """A picture, ready to be shown: in a notebook, in a terminal (`print`), as a file.

    Attributes:
        svg: the picture as a stand-alone SVG document.
        terminal: the picture in characters.
    """

    svg: str
    terminal: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture as an SVG file, atomically, and return its path."""
        path = Path(path)
        write_atomically(path, self.svg + "\n")
        return path

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        return self.terminal


def plot(record: Evidence | Bound | Log) -> Plot:
    """Draw final loss against lr: rungs, prediction, zone, interval, edge and the answer; a bound schedule; or the log
    of a watched run: its losses, lr and decisions.
    """
    if isinstance(record, Bound):
        return _plot_schedule(record, None)
    if isinstance(record, Log):
        return Plot(watched(record).svg(style=page.plot_css()), told(record))
    facts = facts_of(record)
    if worth_drawing(facts):
        canvas = loss_against_lr(facts)
    else:
        canvas = Canvas(390, 40, "Nothing was trained.")
        canvas.text((0, 24), "Nothing was trained.", "soft")
    return Plot(canvas.svg(style=page.plot_css()), terminal.chart(facts))


def _plot_schedule(bound: Bound, lr: float | None) -> Plot:
    canvas = curve(points_of(bound), bound.horizon, lr)
    return Plot(canvas.svg(style=page.plot_css()), schedule_chart(bound, lr))


def html(record: Evidence) -> str:
    """The report as one self-contained HTML page."""
    return page.page(record)


def report(record: Evidence, path: str | os.PathLike[str]) -> Path:
    """Write the report as one self-contained HTML file, atomically, and return its path.

    Raises:
        RecordError: the file cannot be written.
    """
    path = Path(path)
    write_atomically(path, page.page(record))
    return path


records.show_with(page.card, answer, explain)
plot_with(_plot_schedule)
