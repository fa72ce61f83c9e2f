"""etascope's own log of a watched run, as `records.run` describes it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import RecordError
from ..records.run import SCHEMA
from .log import Probe, RunLog, Series

__all__ = ["is_header", "read_watch"]


def is_header(line: Any) -> bool:
    """Whether a log's first object is the header of a watched run."""
    return isinstance(line, Mapping) and str(line.get("schema", "")).startswith("etascope.watch/")


def read_watch(lines: Iterable[str], source: str) -> RunLog:
    """Read a watch log; a last line that was cut off is a note, what was logged and then rewound is dropped.

    Args:
        lines: of the file.
        source: what errors call it.

    Raises:
        RecordError: its schema is another, or it has no training loss.
    """
    objects, notes = _objects(lines)
    header: Mapping[str, Any] = objects[0] if objects else {}
    if header.get("schema") != SCHEMA:
        raise RecordError(
            f"{source}: the log's schema is {header.get('schema')!r}, not {SCHEMA!r}", "Update etascope: it is newer."
        )
    loss: dict[float, float] = {}
    lr: dict[float, float] = {}
    grad: dict[float, float] = {}
    val: dict[float, float] = {}
    probes: dict[float, Probe] = {}
    unusable = rewound = 0
    for said in objects[1:]:
        try:
            kind, step = said.get("kind"), float(said.get("step", 0))
            if kind == "steps":
                rewound += sum(1 for s in loss if s >= step)
                for column in (loss, lr, grad):  # of a step that was made again, the later one counts
                    for late in [s for s in column if s >= step]:
                        del column[late]
                losses = [_number(v) for v in said["loss"]]
                loss.update((step + i, v) for i, v in enumerate(losses))
                lr.update((step + i, _number(v)) for i, v in enumerate(said.get("lr", ())))
                grad.update((step + i, _number(v)) for i, v in said.get("grad", ()))
            elif kind == "val":
                val[step] = _number(said["loss"])
            elif kind == "probe":
                probes[step] = _probe(step, said)
        except (KeyError, TypeError, ValueError, AttributeError):
            unusable += 1
    if unusable:
        notes.append(f"{unusable} of {len(objects)} lines lack what their kind must have, and were passed over")
    if rewound:
        notes.append(f"{rewound} steps were made again after a rewind; the later ones count")
    if not loss:
        raise RecordError(f"{source}: the log has no training loss yet.", "Let the run go on for some steps.")
    peaks = header.get("peaks")
    columns = {"loss": "loss", "lr": "lr"} | {
        name: name for name, kept in (("val", val), ("grad", grad), ("probes", probes)) if kept
    }
    if not any(math.isfinite(v) for v in lr.values()):
        lr = {}
        columns.pop("lr")
    horizon = header.get("horizon")
    return RunLog(
        loss=Series.of(list(loss.items())),
        lr=Series.of(list(lr.items())),
        val=Series.of(list(val.items())),
        grad=Series.of(list(grad.items())),
        probes=tuple(probes[s] for s in sorted(probes)),
        optimizer=str(header.get("optimizer") or header.get("rule") or ""),
        horizon=float(horizon) if isinstance(horizon, int | float) and horizon > 0 else None,
        columns=columns,
        notes=(*notes, *(["several param groups: the first one's lr is read"] if _several(peaks) else [])),
        source=source,
    )


def _several(peaks: Any) -> bool:
    return isinstance(peaks, list) and len(set(map(str, peaks))) > 1


def _objects(lines: Iterable[str]) -> tuple[list[Mapping[str, Any]], list[str]]:
    objects: list[Mapping[str, Any]] = []
    bad: list[int] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, Mapping):
            objects.append(said)
        else:
            bad.append(number)
    if bad == [number]:
        return objects, ["the last line is cut off, as it is while a run goes on"]
    return objects, [f"{len(bad)} lines are no JSON objects, the first is line {bad[0]}"] if bad else []


def _number(value: Any) -> float:
    """A float of the log; it has "nan", "inf" and "-inf" as texts."""
    return math.nan if value is None else float(value)


def _probe(step: float, said: Mapping[str, Any]) -> Probe:
    layers = {
        str(name): {str(k): _number(v) for k, v in own.items()} for name, own in (said.get("layers") or {}).items()
    }
    sharpness, bound, noise = (
        None if said.get(k) is None else _number(said[k]) for k in ("sharpness", "bound", "noise_scale")
    )
    return Probe(step, layers, sharpness, bound, noise)
