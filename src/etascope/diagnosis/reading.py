"""Any log into a `RunLog`: which reader a path asks for."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import RecordError
from ..records import Curve, Evidence
from .log import RunLog, Series
from .tables import read_csv, read_json, read_lines
from .tensorboard import MARK, event_files, read_tensorboard
from .watch_log import is_header

__all__ = ["read"]

READS = (
    "a TensorBoard folder or event file, a CSV, a JSONL, a Hugging Face trainer_state.json, or the log of a watched run"
)


def read(source: str | os.PathLike[str] | Curve | RunLog) -> RunLog:
    """Read one run's log.

    Args:
        source: a file or folder, a `Curve` of a record, or what was read already.

    Raises:
        RecordError: it cannot be read, or has no training loss.
    """
    if isinstance(source, RunLog):
        return source
    if isinstance(source, Curve):
        return _of_curve(source)
    if isinstance(source, Evidence):
        raise RecordError(
            f"a {type(source).__name__} is many runs, and its own answer says which lr is best.",
            "Give one of its curves: record.rungs[0].curves[0].",
        )
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if MARK in path.name:
        if not path.is_file():
            raise RecordError(f"there is no {path}.", "Check the path.")
        return read_tensorboard(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}.", "Check the path.") from error
    except UnicodeDecodeError:
        raise RecordError(f"{path} is no text.", f"What can be read: {READS}.") from None
    return _read_text(text, str(path))


def _read_text(text: str, source: str) -> RunLog:
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return read_lines(text.splitlines(), source)
        if isinstance(data, dict) and str(data.get("schema", "")).startswith("etascope.") and not is_header(data):
            raise RecordError(
                f"{source} is a record of etascope ({data['schema']}), not the log of a run.",
                "etascope report shows it; of a sweep or finding, give a curve to eta.diagnose.",
            )
        if isinstance(data, dict) and "log_history" not in data and not any(isinstance(v, list) for v in data.values()):
            return read_lines([json.dumps(data)], source)
        return read_json(data, source)
    return read_csv(text.splitlines(), source)


def _read_folder(folder: Path) -> RunLog:
    if event_files(folder):
        return read_tensorboard(folder)
    states = [*folder.glob("trainer_state.json"), *folder.glob("checkpoint-*/trainer_state.json")]
    if states:  # the newest has the whole history
        return read(max(states, key=lambda path: path.stat().st_mtime))
    logs = sorted(path for pattern in ("*.jsonl", "*.csv") for path in folder.glob(pattern))
    if len(logs) == 1:
        return read(logs[0])
    inside = sorted(path.name for path in folder.iterdir())
    said = ", ".join(inside[:8]) + (" …" if len(inside) > 8 else "") if inside else "it is empty"
    raise RecordError(
        f"{folder} holds {'several logs' if logs else 'no log'}: {said}.", f"Give one file. What can be read: {READS}."
    )


def _of_curve(curve: Curve) -> RunLog:
    losses = [(float(step), loss) for step, loss in curve.train]
    if curve.diverged_at is not None:
        losses.append((float(curve.diverged_at + 1), float("nan")))
    if not losses:
        raise RecordError("the curve has no training losses.", "Those of a sweep or finding made by etascope have.")
    return RunLog(
        loss=Series.of(losses),
        val=Series.of([(float(step), loss) for step, loss in curve.val]),
        horizon=float(curve.steps),
        columns={"loss": "train"} | ({"val": "val"} if len(curve.val) else {}),
        notes=("training losses of a record are means over parts of the run: their noise cannot be seen",),
        source=f"curve of lr {curve.lr:g}, seed {curve.seed}",
    )
