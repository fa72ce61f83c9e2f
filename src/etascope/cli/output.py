"""What goes where: answers to standard output, everything else to standard error."""

from __future__ import annotations

import codecs
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import RecordError

__all__ = ["complain", "prepare_streams", "say", "stdout_set_aside", "unsayable"]

# What an old encoding lacks. A lost minus would change a number, and "?" in the place of a bar says nothing.
LOOKALIKES = str.maketrans(
    {"−": "-", "–": "-", "×": "x", "…": "...", "η": "eta", "·": "*"}
    | dict(zip("▁▂▃▄▅▆▇█", "_.-:=+*#", strict=True))
    | dict(zip("─━│└●○▲", "-=|+o.^", strict=True))
)


def prepare_streams() -> None:
    """Make standard output and error fit to be written: those that are closed, and those of an old encoding."""
    for number in (0, 1, 2):  # else the next file to be opened would get the number, and what is said with it
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    codecs.register_error("etascope", _look_alike)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="etascope")


def say(text: str) -> None:
    """Print to standard output, at once; a reader who has gone (`| head -1`) is no error.

    Raises:
        RecordError: standard output cannot be written, as on a full disk.
    """
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _close_stdout()
    except OSError as error:
        _close_stdout()
        raise unsayable(error) from error


def unsayable(error: OSError) -> RecordError:
    """The error for a standard output that cannot be written."""
    return RecordError(
        f"cannot write to standard output: {error.strerror or error}", "Free some space, or send it elsewhere."
    )


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


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(LOOKALIKES)
    return "".join(c if c.isascii() else "?" for c in text), error.end


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
