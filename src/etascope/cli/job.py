"""One command from start to exit code: its folder, its answer, its errors."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import EtascopeError, Interrupted, NoAnswer, RecordError, TaskError
from .output import complain, say, stdout_set_aside

if TYPE_CHECKING:
    from ..records import Evidence

__all__ = ["Job", "carry_out", "carry_out_text"]

INTERRUPTED = 130


@dataclass
class Job:
    """What a command was asked, and the folder it works in.

    Args:
        argv: the arguments as they were typed.
        target: what they name, for a folder needed before a task is known.
        asked_out: the folder that `--out` names.
        as_json: print the record instead of the answer.
        with_traceback: print whole tracebacks.
        folder: where the records go, once chosen.
        fresh: whether the command made that folder itself.
    """

    argv: list[str]
    target: str
    asked_out: Path | None
    as_json: bool
    with_traceback: bool
    folder: Path | None = None
    fresh: bool = False

    @classmethod
    def of(
        cls, ctx: typer.Context, target: str, *, out: str | None = None, json: bool = False, traceback: bool = False
    ) -> Job:
        """The job of a command."""
        argv = list(ctx.meta.get("etascope.argv", ()))
        return cls(argv, target, None if out is None else Path(out), json, traceback)

    def choose_folder(self, task: str) -> Path:
        """The folder for the records, made if need be.

        Raises:
            RecordError: it cannot be made.
        """
        from .folder import new_folder, open_folder

        if self.folder is None:
            self.folder, self.fresh = new_folder(task) if self.asked_out is None else open_folder(self.asked_out)
        return self.folder

    def tidy(self) -> None:
        """Remove the folder that this command made, if nothing came to lie in it."""
        if self.folder is not None and self.fresh:
            with suppress(OSError):
                self.folder.rmdir()

    def same_command(self) -> str:
        """The line that goes on where this command stopped, ready to paste."""
        line = [*_program(), *self.argv]
        if self.asked_out is None and self.folder is not None and self.folder.exists():
            line += ["--out", str(self.folder)]
        return shlex.join(line)


def carry_out(job: Job, work: Callable[[], Evidence]) -> None:
    """Do the work, with standard output set aside; then print its answer, or say why there is none.

    Raises:
        typer.Exit: with the exit code, where it is not 0.
    """

    def act() -> int:
        try:
            with stdout_set_aside():
                record = work()
        except Interrupted as stop:
            if stop.finding is not None:
                _hand_over(job, stop.finding)
            return _say_interrupted(job)
        except NoAnswer as error:
            return _say_no_answer(job, error)
        _hand_over(job, record)
        return 0

    _leave(job, act, in_folder=True)


def carry_out_text(job: Job, work: Callable[[], str]) -> None:
    """Do work that answers with a text and leaves no folder behind.

    Raises:
        typer.Exit: with the exit code, where it is not 0.
    """

    def act() -> int:
        with stdout_set_aside():
            text = work()
        say(text)
        return 0

    _leave(job, act, in_folder=False)


def _leave(job: Job, act: Callable[[], int], *, in_folder: bool) -> None:
    """Act, and leave with its exit code or that of what it raised."""
    try:
        code = act()
    except KeyboardInterrupt:
        code = _say_interrupted(job) if in_folder else INTERRUPTED
    except (Exception, SystemExit) as error:
        code = _say_error(job, error, in_folder=in_folder)
    job.tidy()
    if code:
        raise typer.Exit(code)


def _hand_over(job: Job, record: Evidence) -> None:
    """The answer first, then the report; where one of them cannot be written, the other is."""
    try:
        _answer(job, record)
    finally:
        if job.folder is not None:
            _report(job, record, job.folder)


def _answer(job: Job, record: Evidence) -> None:
    from .. import reports

    if job.as_json:
        say(json.dumps(record.to_json(), allow_nan=False, indent=1))
        return
    if sys.stderr.isatty():
        complain("")  # between the rungs and the answer
    say(reports.answer(record))


def _report(job: Job, record: Evidence, folder: Path) -> None:
    from .. import reports

    path = reports.report(record, folder / "report.html")
    with suppress(OSError):
        (folder / "error.txt").unlink(missing_ok=True)  # of an earlier attempt
    (complain if job.as_json else say)(f"\nReport:   {path}\nRecords:  {folder}{os.sep}")


def _say_no_answer(job: Job, error: NoAnswer) -> int:
    if error.record is not None:
        _hand_over(job, error.record)
    told = error.record is not None and not job.as_json  # the answer has named the cause
    complain(f"\n{error.next_move if told else f'No answer: {error}'}")
    if job.with_traceback:
        complain(_whole(error))
    return error.exit_code


def _say_interrupted(job: Job) -> int:
    job.tidy()
    complain(f"\nInterrupted. This goes on where it stopped:\n  {job.same_command()}")
    return INTERRUPTED


def _say_error(job: Job, error: BaseException, *, in_folder: bool) -> int:
    """Cause and next move in words; the traceback in a file, where there is more in it than our own lines."""
    code, said = _words(error)
    complain(f"Error: {said}")
    if _is_of_use(job, error):
        if in_folder and (path := _write_traceback(job, error)) is not None:
            complain(f"The whole traceback is in {path}")
        elif not job.with_traceback:
            complain("Add --traceback to see the whole traceback.")
    if job.with_traceback:
        complain(_whole(error))
    return code


def _words(error: BaseException) -> tuple[int, str]:
    """Exit code, and cause and next move, of whatever may be raised."""
    if isinstance(error, EtascopeError):
        return error.exit_code, str(error)
    if isinstance(error, SystemExit):
        return 2, (
            f"the task's own code ended the program, by sys.exit({error.code!r}).\n"
            "Take that call out of what a training runs."
        )
    if isinstance(error, MemoryError):
        return 1, "the memory is full.\nTry --engine loop, which trains one setting at a time, or smaller batches."
    return 1, (
        f"unexpected {type(error).__name__}: {error}\n"
        "This is most likely a fault of etascope: please report it, with the traceback. What was trained is kept."
    )


def _is_of_use(job: Job, error: BaseException) -> bool:
    """Whether the traceback says more than the message: user code behind it, or a fault of ours."""
    if isinstance(error, RecordError):
        return False
    if isinstance(error, TaskError) and job.folder is not None:
        return True
    return error.__cause__ is not None or not isinstance(error, EtascopeError)


def _write_traceback(job: Job, error: BaseException) -> Path | None:
    try:
        path = job.choose_folder(Path(job.target.split(":")[0]).stem) / "error.txt"
        path.write_text(_whole(error), encoding="utf-8")
    except (OSError, EtascopeError):
        return None
    return path


def _whole(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def _program() -> list[str]:
    """How this program was called, as short as it can be typed."""
    here = Path(sys.argv[0])
    if here.name == "__main__.py":
        return ["python", "-m", "etascope"]
    found = shutil.which("etascope")
    if here.stem != "etascope" or not here.exists() or (found and Path(found).samefile(here)):
        return ["etascope"]
    with suppress(ValueError):
        return [str(here.absolute().relative_to(Path.cwd()))]
    return [str(here)]
