"""Tables of other people: CSV, JSONL, and the state of a Hugging Face trainer."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import RecordError
from .columns import log_of_rows
from .log import RunLog
from .watch_log import is_header, read_watch

__all__ = ["read_csv", "read_json", "read_lines"]

DEPTH = 4


def read_csv(lines: Sequence[str], source: str) -> RunLog:
    """A CSV or TSV with a head; sparse rows, as Lightning writes them, are as good as full ones.

    Args:
        lines: of the file.
        source: what errors call it.

    Raises:
        RecordError: it has no rows, or no training loss.
    """
    kept = [line for line in lines if line.strip() and not line.startswith("#")]
    if len(kept) < 2:
        raise RecordError(
            f"{source} has {'no rows but its head' if kept else 'nothing in it'}.", "Give a finished log."
        )
    delimiter = max(",\t;", key=kept[0].count)
    head, *rows = csv.reader(kept, delimiter=delimiter)
    notes = []
    if wrong := [i for i, row in enumerate(rows, 1) if len(row) != len(head)]:
        notes.append(f"{len(wrong)} rows have more or fewer cells than the head, the first is row {wrong[0]}")
    named = [name.strip() for name in head]
    return log_of_rows([dict(zip(named, row, strict=False)) for row in rows], source, notes)


def read_lines(lines: Sequence[str], source: str) -> RunLog:
    """JSONL, one object a line: a watched run's own log, or anybody's.

    Args:
        lines: of the file.
        source: what errors call it.

    Raises:
        RecordError: no line is an object, or there is no training loss.
    """
    rows: list[dict[str, Any]] = []
    bad: list[int] = []
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not rows and not bad and is_header(row):
            return read_watch(lines, source)
        if isinstance(row, Mapping):
            rows.append(flat(row))
        else:
            bad.append(number)
    if not rows:
        raise RecordError(f"{source} holds no JSON object in {number} lines.", "Give a CSV with a head, or JSONL.")
    notes = []
    if bad == [number]:
        notes.append("the last line is cut off, as it is while a run goes on")
    elif bad:
        notes.append(f"{len(bad)} lines are no JSON objects, the first is line {bad[0]}")
    return log_of_rows(rows, source, notes)


def read_json(data: Any, source: str) -> RunLog:
    """One JSON document: a Hugging Face `trainer_state.json`, a list of objects, or an object of lists.

    Args:
        data: what `json` read.
        source: what errors call it.

    Raises:
        RecordError: it is none of these, or has no training loss.
    """
    if isinstance(data, Mapping) and isinstance(data.get("log_history"), list):
        rows = [flat(row) for row in data["log_history"] if isinstance(row, Mapping)]
        steps = data.get("max_steps")
        if rows and isinstance(steps, int | float) and steps > 0:
            rows[0] = {"max_steps": steps} | rows[0]
        return log_of_rows(rows, source)
    if isinstance(data, list) and any(isinstance(row, Mapping) for row in data):
        return log_of_rows([flat(row) for row in data if isinstance(row, Mapping)], source)
    if isinstance(data, Mapping):
        columns = {str(k): v for k, v in flat(data).items() if isinstance(v, list)}
        if columns:
            return log_of_rows(
                [
                    {k: v for k, v in zip(columns, cells, strict=True) if v is not None}
                    for cells in itertools.zip_longest(*columns.values())
                ],
                source,
            )
    raise RecordError(
        f"{source} is JSON, but neither a trainer_state.json with its log_history nor a list of objects.",
        'Give one object a line, such as {"step": 10, "loss": 2.3}, or a CSV.',
    )


def flat(row: Mapping[Any, Any], inside: str = "", depth: int = DEPTH) -> dict[str, Any]:
    """An object with its inner objects' keys beside its own, as "train/loss"."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{inside}/{key}" if inside else str(key)
        if isinstance(value, Mapping) and depth:
            out |= flat(value, name, depth - 1)
        else:
            out[name] = value
    return out


def joined(series: Mapping[str, Iterable[tuple[float, float]]], source: str, notes: Iterable[str] = ()) -> RunLog:
    """A log from columns that each have steps of their own."""
    rows: dict[float, dict[str, Any]] = {}
    for name, points in series.items():
        for step, value in points:
            rows.setdefault(step, {"step": step})[name] = value
    return log_of_rows([rows[step] for step in sorted(rows)], source, notes)
