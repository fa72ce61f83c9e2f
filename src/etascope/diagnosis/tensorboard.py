"""TensorBoard's event files, through the `tensorboard` package."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import RecordError
from .columns import guess
from .log import RunLog
from .tables import joined

__all__ = ["event_files", "read_tensorboard"]

MARK = "tfevents"
SIDES = ("train", "training", "validation", "val", "eval", "test")  # what Keras calls the folders of one run
Points = list[tuple[float, float]]


def event_files(folder: Path) -> list[Path]:
    """All event files in a folder and below."""
    return sorted(path for path in folder.rglob(f"*{MARK}*") if path.is_file())


def read_tensorboard(path: Path) -> RunLog:
    """A run's scalars, from a folder or one event file.

    Args:
        path: the folder of a run, or an event file.

    Raises:
        RecordError: `tensorboard` is not installed, there are several runs, or there is no training loss.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise RecordError(
            f"{path} is TensorBoard's, and the package tensorboard is missing ({error}).",
            "pip install 'etascope[watch]'; or write the scalars into a CSV.",
        ) from None
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    folders = sorted({file.parent for file in event_files(path)}) if path.is_dir() else [path]
    runs = {}
    for folder in folders:
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        events.Reload()
        if scalars := dict(_scalars(events)):
            runs[folder] = scalars
    if not runs:
        raise RecordError(f"{path}: no scalar was written.", "Log the training loss with add_scalar, then ask again.")
    sides = {folder: folder.name for folder in runs if folder.name in SIDES}
    notes: list[str] = []
    if len(sides) == len(runs):
        merged = {f"{side}/{tag}": points for folder, side in sides.items() for tag, points in runs[folder].items()}
        return joined(merged, str(path))
    with_loss = [folder for folder, scalars in runs.items() if "loss" in guess(scalars)]
    if len(with_loss) > 1:
        raise RecordError(
            f"{path} holds {len(with_loss)} runs: {', '.join(f.name for f in with_loss[:5])}"
            + (" …" if len(with_loss) > 5 else "."),
            f"Give the folder of one of them, as {with_loss[0]}.",
        )
    chosen = with_loss[0] if with_loss else next(iter(runs))
    merged = dict(runs[chosen])
    for folder, scalars in runs.items():  # `add_scalars` puts each of its curves into a folder
        if folder != chosen:
            merged |= {f"{folder.name}/{tag}": points for tag, points in scalars.items()}
    if len(runs) > 1:
        notes.append(f"{len(runs)} folders with event files were read as one run")
    return joined(merged, str(path), notes)


def _scalars(events: Any) -> Iterator[tuple[str, Points]]:
    tags = events.Tags()
    for tag in tags.get("scalars", ()):
        yield tag, [(float(e.step), float(e.value)) for e in events.Scalars(tag)]
    for tag in tags.get("tensors", ()):  # TensorFlow 2 writes scalars as tensors
        from tensorboard.util.tensor_util import make_ndarray

        points = [(float(e.step), make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        if points and all(value.size == 1 and value.dtype.kind in "fiu" for _, value in points):
            yield tag, [(step, float(value.reshape(()))) for step, value in points]
