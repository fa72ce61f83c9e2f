"""`etascope sweep`: every learning rate of a grid, to the full horizon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import OptionError
from .job import Job, carry_out
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
    from ..records import Sweep

__all__ = ["sweep"]


def sweep(
    ctx: typer.Context,
    target: TargetArgument,
    lrs: Annotated[
        str,
        typer.Option(metavar="N|LIST", help="How many learning rates, log-spaced; or a list, as 1e-3,1e-2."),
    ] = "25",
    seeds: Annotated[str, typer.Option(metavar="LIST", help="The seeds, as 0,1,2.")] = "0",
    json: JsonOption = False,
    engine: EngineOption = EngineChoice.auto,
    device: Device = "auto",
    lr_min: LrMin = None,
    lr_max: LrMax = None,
    horizon: Horizon = None,
    out: Out = None,
    traceback: TracebackOption = False,
) -> None:
    """Train every learning rate of a grid to the full horizon: the dense truth."""
    job = Job.of(ctx, target, out=out, json=json, traceback=traceback)

    def work() -> Sweep:
        from .. import finder
        from .target import resolve

        grid, numbers = count_or_list(lrs), whole_numbers(seeds)
        found = resolve(target, horizon)
        return finder.sweep(
            found.task,
            horizon=found.horizon,
            lrs=grid,
            seeds=numbers,
            engine=engine.value,
            device=device,
            lr_min=lr_min,
            lr_max=lr_max,
            out=job.choose_folder(found.name),
            progress=True,
            name=found.name,
        )

    carry_out(job, work)


def count_or_list(text: str) -> int | list[float]:
    """`25` as a number of learning rates, `1e-3,1e-2` (or `0.01`) as themselves."""
    try:
        if text.strip().isdecimal():
            return int(text)
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise OptionError(
            f"--lrs is {text!r}.", "Give how many, as 25, or the learning rates, as 1e-3,1e-2,0.1."
        ) from None


def whole_numbers(text: str) -> tuple[int, ...]:
    """`0,1,2` as numbers."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = ()
    if not numbers:
        raise OptionError(f"--seeds is {text!r}.", "Give the seeds as whole numbers, as 0,1,2.")
    return numbers
