"""`etascope schedule`: a schedule, drawn and explained before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import numbers
from .output import say

if TYPE_CHECKING:
    from ..schedules import Bound

__all__ = ["schedule"]


def schedule(
    text: Annotated[
        str,
        typer.Argument(metavar="SCHEDULE", help='Such as "warmup(5%) >> cosine(to=0.1)".', show_default=False),
    ],
    horizon: Annotated[int, typer.Option(metavar="N", help="Steps of the complete run.", show_default=False)],
    lr: Annotated[
        float | None, typer.Option(metavar="LR", help="The peak lr; without it, multiples of the peak are shown.")
    ] = None,
    steps_per_epoch: Annotated[
        float | None, typer.Option(metavar="N", help='Optimizer steps of an epoch, for lengths such as "2ep".')
    ] = None,
    step: Annotated[
        list[int] | None, typer.Option(metavar="T", help="Explain this step; may be repeated. Default: the middle.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(metavar="N", help="Steps that the training really has, to check against.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the curve as an SVG picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print values and remarks as JSON.")] = False,
) -> None:
    """Draw a schedule, list its values, and say what is odd about it. Trains nothing."""
    from ..errors import OptionError
    from ..schedules import Schedule

    if lr is not None and not 0 < lr < float("inf"):
        raise OptionError(f"--lr is {lr}.", "Give a learning rate above 0, such as 1e-3.")
    bound = Schedule.parse(text).bind(horizon, steps_per_epoch)
    if svg is not None:
        bound.plot(lr).save(svg)
    asked = step or [bound.horizon // 2]
    say(json.dumps(_data(bound, lr, run, asked)) if as_json else _shown(bound, lr, run, asked))


def _rows(bound: Bound) -> list[int]:
    """The steps worth a row: where phases begin, the quarters, the ends."""
    last = bound.horizon - 1
    begins = {min(int(-(-span.start // 1)), last) for span in bound.laid.spans()}
    if len(begins) > 12:
        begins = set()
    return sorted(begins | {round(last * part / 4) for part in range(5)} | {min(1, last)})


def _data(bound: Bound, lr: float | None, run: int | None, asked: list[int]) -> dict[str, Any]:
    steps = sorted({*_rows(bound), *asked})
    return {
        "schedule": bound.to_json(),
        "text": repr(bound),
        "lr": lr,
        "values": [{"step": t, "multiplier": bound(t)} | ({} if lr is None else {"lr": lr * bound(t)}) for t in steps],
        "remarks": [{"code": r.code, "step": r.step, "text": str(r)} for r in bound.lint(run, lr)],
        "explanations": [bound.explain(t, lr) for t in asked],
    }


def _shown(bound: Bound, lr: float | None, run: int | None, asked: list[int]) -> str:
    head = ["step", "of the peak"] + ([] if lr is None else ["lr"])
    rows = [
        [f"{t:,}", f"{bound(t):.6g}"] + ([] if lr is None else [numbers.lr(lr * bound(t), 4)]) for t in _rows(bound)
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    table = "\n".join("  ".join(f"{cell:>{w}}" for cell, w in zip(row, widths, strict=True)) for row in [head, *rows])
    remarks = "\n".join(map(str, bound.lint(run, lr))) or "Nothing odd was seen."
    return "\n\n".join([repr(bound), str(bound.plot(lr)), table, remarks, *(bound.explain(t, lr) for t in asked)])
