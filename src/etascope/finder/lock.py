"""One process at a time in a run folder: two that write one journal would ruin it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ..errors import RecordError
from ..storage import unwritable

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked"]

_held: set[int] = set()


@contextmanager
def locked(folder: Path | None) -> Iterator[None]:
    """Keep others out of a run folder, made if need be; it is the folder that is locked, so nothing is left in it.

    Raises:
        RecordError: the folder cannot be made, or another etascope is running in it.
    """
    if folder is None:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, out=True) from error
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            _held.discard(handle)
            os.close(handle)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the lock until it is closed; None where the file system has no locks."""
    if fcntl is None:
        return None
    _close_in_children()
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise unwritable(folder, error, out=True) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RecordError(
            f"another etascope is running in {folder}.", "Wait for its end, or choose another --out (out=)."
        ) from error
    except OSError:
        os.close(handle)
        return None
    _held.add(handle)
    return handle


@cache
def _close_in_children() -> None:
    """A data loader's worker outlives a killed parent for seconds, in which it must not keep the lock."""
    os.register_at_fork(after_in_child=_close_all)


def _close_all() -> None:
    while _held:
        with suppress(OSError):
            os.close(_held.pop())
