"""Where the user's own code failed: part, file, line and exception, found in the traceback."""

from __future__ import annotations

import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import EtascopeError, TaskError

__all__ = ["exited", "out_of_memory", "place", "said", "user_code"]

NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
IN_A_WORKER = "Original Traceback (most recent call last):\n"  # torch sends a data loader worker's traceback as text
FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)\n(?:    (?P<source>.+)\n)?', re.M)


@contextlib.contextmanager
def user_code(part: str) -> Iterator[None]:
    """Turn what the user's own code raises into a TaskError that names the part, file, line and exception."""
    try:
        yield
    except EtascopeError:
        raise
    except SystemExit as error:
        raise exited(f"the task's {part}", error) from error
    except Exception as error:
        raise TaskError(
            f"the task's {part} raised {said(error)}\n  at {place(error)}", "Mend it there, and try again."
        ) from error


def exited(what: str, error: SystemExit) -> TaskError:
    """The error for user code that ends the program."""
    return TaskError(
        f"{what} ended the program, by sys.exit({error.code!r})\n  at {place(error)}",
        "Take that call out of what a training runs.",
    )


def said(error: BaseException) -> str:
    """An exception in words, `ValueError: the row is empty`; of a data loader's worker, what was raised in there."""
    if IN_A_WORKER in str(error):
        return str(error).rstrip().splitlines()[-1]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def out_of_memory(error: BaseException) -> bool:
    """Whether memory that could not be had is what an exception, or what caused it, says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.OutOfMemoryError | MemoryError):
            return True
        if type(cause) is RuntimeError and any(words in str(cause) for words in NO_MEMORY):
            return True
        cause = cause.__cause__
    return False


def place(error: BaseException) -> str:
    """The innermost line of an exception that is the user's own, neither ours nor a library's."""
    frames = _frames(error)
    ours = str(Path(__file__).parents[1])
    libraries = ("site-packages", "dist-packages", "<frozen", sysconfig.get_path("stdlib"))
    theirs = [f for f in frames if ours not in f.filename and not any(s in f.filename for s in libraries)]
    # a built-in task is the user's part as well, though it lies in our package
    last = (theirs or [f for f in frames if "workloads" in f.filename] or frames)[-1]
    return f"{last.filename}:{last.lineno} in {last.name}" + (f": {last.line}" if last.line else "")


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    _, in_a_worker, text = str(error).rpartition(IN_A_WORKER)
    if not in_a_worker:
        return list(traceback.extract_tb(error.__traceback__))
    return [
        traceback.FrameSummary(m["file"], int(m["line"]), m["name"], lookup_line=False, line=m["source"] or "")
        for m in FRAME.finditer(text)
    ]
