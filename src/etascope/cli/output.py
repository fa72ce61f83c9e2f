"""What goes where: answers to standard output, everything else to standard error."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import RecordError

__all__ = ["complain", "say", "stdout_set_aside"]


def say(text: str) -> None:
    """Print to standard output, at once; a reader who has gone (`| head -1`) is no error.

    Raises:
        RecordError: standard output cannot be written, as on a full disk.
    """
    if sys.stdout is None:
        return
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _close_stdout()
    except OSError as error:
        _close_stdout()
        raise RecordError(
            f"cannot write to standard output: {error.strerror or error}",
            "Free some space, or send it elsewhere.",
        ) from error


def complain(text: str) -> None:
    """Print to standard error; where that cannot be written there is nobody left to tell."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def stdout_set_aside() -> Iterator[None]:
    """Send all that is written to standard output to standard error: Python's, C's and child processes'.

    A training prints what it likes, and standard output is kept for the answer.
    """
    python, saved = sys.stdout, None
    _flush()
    with suppress(OSError):  # no descriptor 1 or 2: nothing to keep clean there
        saved = os.dup(1)
        os.dup2(2, 1)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        _flush()
        sys.stdout = python
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    with suppress(OSError, TypeError, AttributeError):  # what C code printed waits in a buffer of its own
        ctypes.CDLL(None).fflush(None)


def _close_stdout() -> None:
    """Point standard output at nothing, so that Python's last flush finds no closed pipe."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
