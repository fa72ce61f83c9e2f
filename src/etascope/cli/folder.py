"""Run directories: where a command leaves its records."""

from __future__ import annotations

import datetime
import errno
import re
from itertools import count
from pathlib import Path

from ..errors import RecordError
from ..storage import unwritable

__all__ = ["new_folder", "open_folder"]

RUNS = Path("etascope-runs")
OURS = b'<meta name="generator" content="etascope">'  # in every report


def new_folder(task: str) -> tuple[Path, bool]:
    """Make `etascope-runs/<date>-<task>-<n>`, n the smallest number from 1 that is free; and say that it is new.

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
                raise unwritable(path, NotADirectoryError(errno.ENOTDIR, "Not a directory"), out=True) from None
        except OSError as error:
            raise unwritable(path, error, out=True) from error
        else:
            return path, True
    raise AssertionError("count() has no end")


def open_folder(path: Path) -> tuple[Path, bool]:
    """Make the folder that was asked for, unless it is there; and say whether it is new.

    Raises:
        RecordError: it cannot be made, is a file, or holds somebody else's report.html.
    """
    new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error, out=True) from error
    if not _is_free(path / "report.html"):
        raise RecordError(
            f"{path / 'report.html'} is not a report of etascope, and would be overwritten.",
            "Move it away, or choose another --out.",
        )
    return path, new


def _is_free(report: Path) -> bool:
    """Whether there is no such file, or one that etascope wrote."""
    try:
        return not report.is_file() or OURS in report.read_bytes()
    except OSError:
        return False
