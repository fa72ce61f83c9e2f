"""Run directories: where a command leaves its records."""

from __future__ import annotations

import datetime
import re
from itertools import count
from pathlib import Path

from ..storage import unwritable

__all__ = ["new_folder", "open_folder"]

RUNS = Path("etascope-runs")


def new_folder(task: str) -> Path:
    """Make `etascope-runs/<date>-<task>-<n>`, n the smallest number from 1 that is free.

    Raises:
        RecordError: the folder cannot be made.
    """
    name = re.sub(r"[^\w.-]+", "-", task).strip("-.") or "task"
    for n in count(1):
        path = RUNS / f"{datetime.date.today().isoformat()}-{name}-{n}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.exists():  # not the folder is there but a file in the place of `etascope-runs`
                raise unwritable(path, NotADirectoryError(20, "Not a directory")) from None
        except OSError as error:
            raise unwritable(path, error) from error
        else:
            return path
    raise AssertionError("count() has no end")


def open_folder(path: Path) -> Path:
    """Make the folder that was asked for, unless it is there.

    Raises:
        RecordError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    return path
