"""Files written whole or not at all, and the words for what cannot be written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .errors import RecordError

__all__ = ["unwritable", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file whole or not at all: into a neighbour first, then renamed over `path`.

    Raises:
        RecordError: the folder cannot be written or the disk is full; the old file, if any, is unchanged.
    """
    path = Path(path)
    data = content.encode() if isinstance(content, str) else content
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a second fault must not hide the first
            part.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError, *, out: bool = False) -> RecordError:
    """The error for a path that cannot be written.

    Args:
        path: the file or folder.
        error: what the system said.
        out: whether it lies in the folder of a run, which `--out` chooses and a repeated command continues.
    """
    reason = error.strerror or str(error)
    if isinstance(error, FileExistsError | NotADirectoryError):
        blocking = next((p for p in (path, *path.parents) if p.exists()), path)
        reason = f"{blocking} is a file, not a folder" if blocking.is_file() else reason
    next_move = "Free some space, or choose another place."
    if out:
        next_move = (
            "Free some space or choose another folder with --out (out=), then repeat the command: "
            "what was trained before is kept."
        )
    return RecordError(f"cannot write {path}: {reason}", next_move)
