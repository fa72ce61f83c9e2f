"""`etascope report`: the report, made again from the record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .job import Job, carry_out_text
from .options import TracebackOption

__all__ = ["report"]


def report(
    ctx: typer.Context,
    run_dir: Annotated[
        Path,
        typer.Argument(metavar="RUN_DIR", help="The folder of a run, or a record file.", show_default=False),
    ],
    traceback: TracebackOption = False,
) -> None:
    """Rebuild report.html from the record, and print its path."""

    def work() -> str:
        from .. import reports
        from ..records import load

        record = load(run_dir)
        if run_dir.is_dir():
            path = run_dir / "report.html"
        elif run_dir.name in ("finding.json", "sweep.json"):
            path = run_dir.with_name("report.html")
        else:  # a record under a name of its own gets a report of its own
            path = run_dir.with_suffix(".html")
        if path == run_dir:
            path = run_dir.with_name(f"{run_dir.stem}-report.html")
        return str(reports.report(record, path))

    carry_out_text(Job.of(ctx, str(run_dir), traceback=traceback), work)
