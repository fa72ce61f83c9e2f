"""`etascope find`: which learning rate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OptionError
from .job import Job, carry_out, carry_out_text
from .options import (
    Device,
    EngineChoice,
    EngineOption,
    Horizon,
    JsonOption,
    LrMax,
    LrMin,
    Out,
    TargetArgument,
    TracebackOption,
)

if TYPE_CHECKING:
    from ..records import Finding

__all__ = ["find"]


def find(
    ctx: typer.Context,
    target: TargetArgument,
    budget: Annotated[
        str,
        typer.Option(metavar="RUNS|TIME", help='Complete runs to spend, or a time such as "10min".'),
    ] = "1.0",
    seed: Annotated[int, typer.Option(help="All randomness comes from it.")] = 0,
    mine: Annotated[
        float | None,
        typer.Option(metavar="LR", help="Your present learning rate, to be judged.", show_default=False),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be trained and how long it takes, and stop there.")
    ] = False,
    json: JsonOption = False,
    engine: EngineOption = EngineChoice.auto,
    device: Device = "auto",
    lr_min: LrMin = None,
    lr_max: LrMax = None,
    horizon: Horizon = None,
    out: Out = None,
    traceback: TracebackOption = False,
) -> None:
    """Find the learning rate of a task, and show why."""
    job = Job.of(ctx, target, out=out, json=json, traceback=traceback)
    options: dict[str, Any] = {
        "budget": budget,
        "seed": seed,
        "mine": mine,
        "engine": engine.value,
        "device": device,
        "lr_min": lr_min,
        "lr_max": lr_max,
    }

    def draw_up() -> str:
        from .. import finder
        from .target import resolve

        if json:
            raise OptionError("--plan and --json do not go together.", "Leave one of them out.")
        found = resolve(target, horizon)
        return str(finder.plan(found.task, horizon=found.horizon, name=found.name, **options))

    def race() -> Finding:
        from .. import finder
        from .target import resolve

        found = resolve(target, horizon)
        folder = job.choose_folder(found.name)
        return finder.find(found.task, horizon=found.horizon, name=found.name, out=folder, progress=True, **options)

    if plan:
        carry_out_text(job, draw_up)
    else:
        carry_out(job, race)
