"""How a race tells what it is doing: the plan, a line after each rung, and a bar. No torch.

    Progress         the protocol
    ├── Silent       says nothing
    └── Terminal     lines on standard error, and a bar where that is a terminal

A race is given one of these, or anything that has the protocol's methods. Where it has a method `lanes(live, dropped)`
as well, it is told how many settings are being trained, or about to be, and how many have diverged so far.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import rich.progress

__all__ = ["Progress", "Silent", "Terminal", "choose"]

REFRESH_S = 0.2
LATELY_S = 30  # what the pace is a mean over
TEXT = 66  # columns that all numbers need; where there are more, they go to a picture of the bar
PICTURE = (10, 40)  # its least and its largest width


@runtime_checkable
class Progress(Protocol):
    """What a race tells while it runs. Every method returns at once and never raises."""

    def plan(self, line: str) -> None:
        """What will be trained, in one line, before the race."""

    def start(self, steps: int) -> None:
        """Training steps to expect in all; again with a new total when the plan changes."""

    def tick(self, steps: int) -> None:
        """So many more training steps are done."""

    def rung(self, line: str) -> None:
        """What is known after a rung, in one line."""

    def stop(self) -> None:
        """The race is over, well or not; more than one call does no harm."""


class Silent:
    """Says nothing."""

    def plan(self, line: str) -> None:
        """Say nothing."""

    def start(self, steps: int) -> None:
        """Say nothing."""

    def tick(self, steps: int) -> None:
        """Say nothing."""

    def rung(self, line: str) -> None:
        """Say nothing."""

    def lanes(self, live: int, dropped: int) -> None:
        """Say nothing."""

    def stop(self) -> None:
        """Say nothing."""


class Terminal:
    """Lines on standard error, and below them a bar where that is a terminal.

    It shows lanes live and dropped, steps done, steps per second of all lanes together, and the time left at that pace;
    what a narrow terminal has no room for is left out. The pace is a mean over the last half minute of training, so
    neither what an earlier process did nor the time between rungs counts.

    In a pipe or a file only the lines are written, whole and without colour codes. The bar is drawn by `tick`
    itself, at most five times a second: a drawing thread could hold a lock while a data loader forks.
    """

    def __init__(self) -> None:
        self._bar: rich.progress.Progress | None = None
        self._id: rich.progress.TaskID | None = None
        self._drawn = 0.0
        self._done = self._total = 0
        self._lanes: tuple[int, int] | None = None  # live and dropped, once they are told
        self._pace: float | None = None
        self._lately = deque[tuple[float, int]](maxlen=round(LATELY_S / REFRESH_S))  # times, and steps done by then

    def plan(self, line: str) -> None:
        """Print the plan."""
        self._print(line)

    def start(self, steps: int) -> None:
        """Show the bar, or give it a new total."""
        if not _is_terminal():
            return
        self._total = steps
        if self._bar is None or self._id is None:
            self._done, self._pace = 0, None
            self._bar = _bar()
            self._id = self._bar.add_task("", total=steps)
            self._bar.start()
        self._draw()

    def tick(self, steps: int) -> None:
        """Move the bar."""
        self._done += steps
        if self._bar is not None and time.monotonic() - self._drawn > REFRESH_S:
            self._draw()

    def lanes(self, live: int, dropped: int) -> None:
        """Show how many lanes are live, and how many were dropped; the pace is taken while there are any."""
        if live == 0:
            self._lately.clear()
        elif not self._lately:
            self._lately.append((time.monotonic(), self._done))
        self._lanes = live, dropped

    def rung(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(line)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._id = None

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._bar is None or self._id is None:
            return
        if self._lately:
            since, done = self._lately[0]
            if self._drawn - since > REFRESH_S and self._done > done:
                self._pace = (self._done - done) / (self._drawn - since)
                self._lately.append((self._drawn, self._done))
        width = self._bar.console.width
        said = in_words(self._done, self._total, self._lanes, self._pace, width - _picture(width) - 1)
        self._bar.update(self._id, completed=self._done, total=self._total, description=said)
        self._bar.refresh()

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif sys.stderr is not None:
            with suppress(OSError):  # nobody reads it (a closed pipe, a full disk): no reason to end a race
                print(line, file=sys.stderr, flush=True)


def choose(progress: bool | Progress | None) -> Progress:
    """The progress that `find(progress=...)` means.

    Args:
        progress: True for `Terminal`, False for `Silent`, None for `Terminal` where standard error is a
            terminal and `Silent` elsewhere; or a progress of one's own.
    """
    if progress is None:
        progress = _is_terminal()
    if isinstance(progress, bool):
        return Terminal() if progress else Silent()
    return progress


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def in_words(done: int, total: int, lanes: tuple[int, int] | None, pace: float | None, width: int) -> str:
    """As many of the bar's numbers as there is room for; steps and the time left always.

    >>> in_words(6_000, 18_000, (18, 6), 1_000.0, 80)
    '18 live, 6 dropped, 6,000 of 18,000 steps, 1,000/s, 0:12 left'
    >>> in_words(6_000, 18_000, (18, 6), 1_000.0, 40)
    '6,000 of 18,000, 1,000/s, 0:12 left'
    """
    of_all = f"{done:,} of {total:,}"
    trained = "" if lanes is None else f"{lanes[0]} live, {lanes[1]} dropped"
    rate = "" if pace is None else f"{pace:,.0f}/s" if pace >= 10 else f"{pace:.1f}/s"
    left = f"{'-:--' if pace is None else _clock(max(total - done, 0) / pace)} left"
    rows = (
        (trained, f"{of_all} steps", rate, left),
        (trained, of_all, rate, left),
        (trained, of_all, left),
        (of_all, rate, left),
        (of_all, left),
    )
    texts = [", ".join(filter(None, row)) for row in rows]
    return next((text for text in texts if len(text) <= width), texts[-1])


def _picture(width: int) -> int:
    """Columns of the picture of the bar; 0 where there is no room for one."""
    least, largest = PICTURE
    room = min(largest, width - TEXT)
    return room if room >= least else 0


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def _bar() -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    picture = _picture(console.width)
    return Progress(
        *([BarColumn(bar_width=picture)] if picture else []),
        TextColumn("{task.description}", markup=False),
        console=console,
        auto_refresh=False,
        transient=True,
    )
