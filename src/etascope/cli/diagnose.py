"""`etascope diagnose`: is it the learning rate? From the log of a run alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .job import Job, carry_out_text
from .options import JsonOption, TracebackOption

__all__ = ["diagnose"]


def diagnose(
    ctx: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="The log of one run: a TensorBoard folder or event file, a CSV, a JSONL, a Hugging Face "
            "trainer_state.json, or what `etascope.watch` wrote.",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Say from a run's log whether its lr was too high, too low or fine, or something else is wrong. Trains nothing."""

    def work() -> str:
        from ..diagnosis import diagnose as of

        said = of(path)
        return json.dumps(said.to_json(), allow_nan=False, indent=1) if as_json else str(said)

    carry_out_text(Job.of(ctx, str(path), json=as_json, traceback=traceback), work)
