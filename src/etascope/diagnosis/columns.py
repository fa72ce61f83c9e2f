"""Columns of other people's logs: what they are, and their cells as numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import RecordError
from ..numbers import plural
from .log import RunLog, Series

__all__ = ["guess", "log_of_rows"]

# What a column may be called, without its case and anything but letters and figures; the first that is there is taken.
NAMES: Mapping[str, tuple[str, ...]] = {
    "step": (
        "step", "steps", "globalstep", "trainerglobalstep", "trainglobalstep", "iteration",
        "iterations", "iter", "iters", "update", "updates", "batch", "batches", "it", "trainstep", "epoch", "epochs",
        "trainepoch",
    ),
    "loss": (
        "loss", "trainloss", "trainingloss", "losstrain", "losstraining", "trainlossstep",
        "traininglossstep", "lossstep", "trainstepslossstep", "batchloss", "trainbatchloss", "trainlossbatch",
        "trainlossepoch", "lossepoch", "losstotal", "totalloss", "traintotalloss", "trainlosstotal", "nll", "trainnll",
        "objective", "cost", "trainepochloss", "epochloss", "trainingepochloss", "celoss", "mseloss", "trainmse",
    ),
    "val": (
        "valloss", "validationloss", "evalloss", "testloss", "devloss", "validloss", "lossval", "losseval",
        "lossvalidation", "losstest", "vallossepoch", "valepochloss", "evaluationloss", "valtotalloss", "validationnll",
        "validationepochloss", "testepochloss", "evalepochloss",
    ),
    "lr": (
        "lr", "learningrate", "lrpg0", "lrgroup0", "trainlr", "trainlearningrate", "optimizerlr", "lrrate", "currentlr",
        "lr0", "learningrate0", "eta", "peaklr", "epochlearningrate", "trainepochlearningrate", "trainlearningrate",
    ),
    "grad": (
        "gradnorm", "gradientnorm", "traingradnorm", "globalgradnorm", "gradnormglobal", "gradnormtotal", "totalnorm",
        "gnorm", "grad2normtotal", "gradl2norm", "traingradientnorm", "gradientnormtotal", "grad20normtotal",
    ),
    "horizon": ("maxsteps", "totalsteps", "horizon", "numsteps", "trainmaxsteps", "maxiters"),
    "optimizer": ("optimizer", "optimizername", "optim"),
}  # fmt: skip
OPTIMIZER_PREFIX = re.compile(r"^(?:lr|learningrate)(adamw|adam|sgd|rmsprop|adagrad|nadam|radam|adamax|adadelta|lion)")
MISSING = {"", "none", "null", "na", "n/a", "-", "nan", "<na>"}
INFINITE = {"inf": math.inf, "+inf": math.inf, "infinity": math.inf, "-inf": -math.inf, "-infinity": -math.inf}
SHOWN = 12


def plain(name: str) -> str:
    """A column's name without case, folders of separators and the like."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def guess(names: Iterable[str]) -> dict[str, str]:
    """What each column is, by its name.

    Args:
        names: of all columns.

    Returns:
        From "step", "loss", "val", "lr", "grad", "horizon", "optimizer" to a column's own name, for what is there.

    >>> guess(["epoch", "step", "train_loss_step", "train_loss_epoch", "val/loss", "lr-AdamW"])
    {'step': 'step', 'loss': 'train_loss_step', 'val': 'val/loss', 'lr': 'lr-AdamW'}
    """
    known: dict[str, str] = {}
    for name in names:
        for said in {plain(name), plain(name.rpartition("/")[2]) if _trains(name) else plain(name)}:
            known.setdefault(said, name)
    found: dict[str, str] = {}
    for what, wanted in NAMES.items():
        hit = next((known[w] for w in wanted if w in known), None)
        if hit is None and what == "lr":
            hit = next((name for said, name in known.items() if OPTIMIZER_PREFIX.match(said)), None)
        if hit is not None and hit not in found.values():
            found[what] = hit
    return found


def _trains(name: str) -> bool:
    """Whether a name such as "Train/Loss/total" is of training: its last part tells what it is."""
    head = plain(name.rpartition("/")[0])
    return "/" in name and not any(word in head for word in ("val", "eval", "test", "dev"))


class Cells:
    """Reads cells as numbers, and counts what is none.

    Attributes:
        text: cells by column that hold something that is no number, the first of each with its row.
    """

    def __init__(self) -> None:
        self.text: dict[str, list[tuple[int, str]]] = {}

    def number(self, cell: Any, column: str, row: int) -> float | None:
        """A cell's number; None where it is empty, or text, which is noted; NaN for NaN itself."""
        if cell is None:
            return None
        if isinstance(cell, bool):
            self._note(cell, column, row)
            return None
        if isinstance(cell, int | float):
            return float(cell)
        text = str(cell).strip().lower()
        if text in INFINITE:
            return INFINITE[text]
        if text == "nan":
            return math.nan
        if text in MISSING:
            return None
        try:
            return float(text)
        except ValueError:
            self._note(cell, column, row)
            return None

    def _note(self, cell: Any, column: str, row: int) -> None:
        self.text.setdefault(column, []).append((row, str(cell)[:30]))

    def notes(self) -> list[str]:
        """What was no number, in a sentence for each column."""
        return [
            f"column {column!r} has text in the place of a number in {plural(len(bad), 'row')}, passed over "
            f"(the first: {bad[0][1]!r} in row {bad[0][0]})"
            for column, bad in self.text.items()
        ]


def log_of_rows(rows: Sequence[Mapping[str, Any]], source: str, notes: Iterable[str] = ()) -> RunLog:
    """A log from rows in which not every column has to have a value.

    Args:
        rows: from column to cell.
        source: what errors call them.
        notes: what is already known to be wrong.

    Raises:
        RecordError: there is no training loss.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    found, notes = guess(names), list(notes)
    if "loss" not in found:
        raise RecordError(
            f"{source} has no column with the training loss; {_has(names)}.",
            'Call it "loss" or "train_loss"; beside it "step", "lr", "val_loss" and "grad_norm" are read.',
        )
    cells = Cells()
    step_of = found.get("step")
    steps = [cells.number(row.get(step_of), step_of, i) if step_of else None for i, row in enumerate(rows, 1)]
    if step_of is None:
        notes.append("there is no column with the step: rows are counted")
    clock = _clock(steps, [row.get(found["loss"]) for row in rows], step_of, notes)
    points: dict[str, list[tuple[float, float]]] = {what: [] for what in ("loss", "val", "lr", "grad")}
    for i, (row, at) in enumerate(zip(rows, clock, strict=True), 1):
        for what, column in points.items():
            name = found.get(what)
            value = cells.number(row.get(name), name, i) if name is not None else None
            if value is not None:
                column.append((at, value))
    notes += cells.notes()
    if not points["loss"]:
        raise RecordError(
            f"{source}: column {found['loss']!r} has no number in {len(rows)} rows.", "Check how the log was written."
        )
    lost = sum(1 for _, value in points["loss"] if not math.isfinite(value))
    if lost:
        notes.append(f"{lost} of {len(points['loss'])} training losses are NaN or infinite")
    horizon = [v for row in rows if (v := cells.number(row.get(found.get("horizon", "")), "horizon", 0)) and v > 0]
    return RunLog(
        loss=Series.of(points["loss"]),
        lr=Series.of(points["lr"]),
        val=Series.of(points["val"]),
        grad=Series.of(points["grad"]),
        optimizer=_optimizer(rows, found),
        horizon=horizon[-1] if horizon and math.isfinite(horizon[-1]) else None,
        columns={what: found[what] for what in ("step", *points) if what in found and (what == "step" or points[what])},
        notes=tuple(notes),
        source=source,
    )


def _clock(steps: Sequence[float | None], losses: Sequence[Any], name: str | None, notes: list[str]) -> list[float]:
    """A step for each row: the log's own where it rises, else the rows' numbers."""
    known = [s for s in steps if s is not None and math.isfinite(s)]
    logged = [s for s, cell in zip(steps, losses, strict=True) if cell not in (None, "") and s is not None]
    falls = any(b < a for a, b in itertools.pairwise(logged))
    repeats = len(set(logged)) < 0.9 * len(logged)  # as an epoch does, or a batch's number within its epoch
    if not known or falls or repeats:
        if known:
            notes.append(f"column {name!r} {'falls' if falls else 'repeats'} from row to row: rows are counted instead")
        return [float(i) for i in range(len(steps))]
    if len(known) < len(steps):
        notes.append(f"{len(steps) - len(known)} rows have no step: they count as at that of the row before")
    clock, last = [], known[0]
    for step in steps:
        last = step if step is not None and math.isfinite(step) else last
        clock.append(float(last))
    return clock


def _optimizer(rows: Sequence[Mapping[str, Any]], found: Mapping[str, str]) -> str:
    named = (
        next((str(row[found["optimizer"]]) for row in rows if row.get(found["optimizer"])), "")
        if "optimizer" in found
        else ""
    )
    if not named and "lr" in found and (hit := OPTIMIZER_PREFIX.match(plain(found["lr"]))):  # Lightning's "lr-AdamW"
        named = {"sgd": "SGD", "adamw": "AdamW"}.get(hit[1], hit[1].capitalize())
    return named


def _has(names: Sequence[str]) -> str:
    if not names:
        return "it has no columns at all"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"it has {', '.join(repr(str(n)) for n in names[:SHOWN])}{more}"
