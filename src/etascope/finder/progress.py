"""How a race tells what it is doing: the plan, a line after each rung, and a bar. No torch.

    Progress         the protocol
    ├── Silent       says nothing
    └── Terminal     lines on standard error, and a bar where that is a terminal

A race is given one of these, or anything that has their methods.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import rich.progress

__all__ = ["Progress", "Silent", "Terminal", "choose"]

REFRESH_S = 0.2
WIDE = 60  # columns that a bar with description, steps and time needs


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

    def stop(self) -> None:
        """Say nothing."""


class Terminal:
    """Lines on standard error, and below them a bar with steps done and time left where that is a terminal.

    In a pipe or a file only the lines are written, whole and without colour codes. The bar is drawn by `tick`
    itself, at most five times a second: a drawing thread could hold a lock while a data loader forks.
    """

    def __init__(self) -> None:
        self._bar: rich.progress.Progress | None = None
        self._id: rich.progress.TaskID | None = None
        self._drawn = 0.0

    def plan(self, line: str) -> None:
        """Print the plan."""
        self._print(line)

    def start(self, steps: int) -> None:
        """Show the bar, or give it a new total."""
        if not _is_terminal():
            return
        if self._bar is None or self._id is None:
            self._bar = _bar()
            self._id = self._bar.add_task("training", total=steps)
            self._bar.start()
        else:
            self._bar.update(self._id, total=steps)
        self._draw()

    def tick(self, steps: int) -> None:
        """Move the bar."""
        if self._bar is not None and self._id is not None:
            self._bar.update(self._id, advance=steps)
            if time.monotonic() - self._drawn > REFRESH_S:
                self._draw()

    def rung(self, line: str) -> None:
        """Print a line above the bar."""
        self._print(line)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._id = None

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
        self._drawn = time.monotonic()

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


def _bar() -> rich.progress.Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    wide = console.width >= WIDE  # where not all has room, rich would cut the time
    picture = [TextColumn("{task.description}"), BarColumn(bar_width=min(40, console.width - 50))] if wide else []
    return Progress(
        *picture,
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}}{' steps' if wide else ''},"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=console,
        auto_refresh=False,
        transient=True,
    )
