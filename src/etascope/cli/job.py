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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from ..errors import EtascopeError, Interrupted, NoAnswer, RecordError, TaskError
from .output import complain, say, stdout_set_aside

if TYPE_CHECKING:
    from ..finder.progress import Progress
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
    _progress: list[Progress] = field(default_factory=list)

    @classmethod
    def of(cls, ctx: typer.Context, target: str, *, out: str | None, json: bool, traceback: bool) -> Job:
        """The job of a command."""
        argv = list(ctx.meta.get("etascope.argv", ()))
        return cls(argv, target, None if out is None else Path(out), json, traceback)

    def choose_folder(self, task: str) -> Path:
        """The folder for the records, made if need be.

        Raises:
            RecordError: it cannot be made.
        """
        from .folder import new_folder, open_folder

        if self.asked_out is not None:
            self.fresh = not self.asked_out.exists()
            self.folder = open_folder(self.asked_out)
        elif self.folder is None:
            self.folder, self.fresh = new_folder(task), True
        return self.folder

    def progress(self) -> Progress:
        """Lines on standard error, and a bar where that is a terminal."""
        from ..finder.progress import Terminal

        self._progress.append(Terminal())
        return self._progress[-1]

    def stop_progress(self) -> None:
        """Take the bar away, whatever happened."""
        for progress in self._progress:
            progress.stop()

    def tidy(self) -> None:
        """Remove the folder that this command made, if nothing came to lie in it."""
        if self.folder is not None and self.fresh:
            with suppress(OSError):
                self.folder.rmdir()

    def same_command(self) -> str:
        """The line that goes on where this command stopped, ready to paste."""
        line = [*_program(), *self.argv]
        if self.asked_out is None and self.folder is not None:
            line += ["--out", str(self.folder)]
        return shlex.join(line)


def carry_out(job: Job, work: Callable[[], Evidence]) -> None:
    """Do the work, with standard output set aside; then print its answer, or say why there is none.

    Raises:
        typer.Exit: with the exit code, where it is not 0.
    """
    try:
        try:
            with stdout_set_aside():
                try:
                    record = work()
                finally:
                    job.stop_progress()
        except Interrupted as stop:
            if stop.finding is not None:
                _hand_over(job, stop.finding)
            _say_interrupted(job)
        except NoAnswer as error:
            _say_no_answer(job, error)
        else:
            _hand_over(job, record)
    except KeyboardInterrupt:
        _say_interrupted(job)
    except typer.Exit:
        raise
    except (Exception, SystemExit) as error:
        _say_error(job, error)


def carry_out_text(job: Job, work: Callable[[], str]) -> None:
    """Do work that answers with a text and leaves no folder behind.

    Raises:
        typer.Exit: with the exit code, where it is not 0.
    """
    try:
        with stdout_set_aside():
            text = work()
        say(text)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except (Exception, SystemExit) as error:
        _say_error(job, error, keep=False)


def _hand_over(job: Job, record: Evidence) -> None:
    """The answer first, then the report: what fails in drawing must not take the answer along."""
    from .. import reports

    if job.as_json:
        say(json.dumps(record.to_json(), allow_nan=False, indent=1))
    else:
        if sys.stderr.isatty():
            complain("")  # between the rungs and the answer
        say(reports.answer(record))
    if job.folder is not None:
        tell = complain if job.as_json else say
        path = reports.report(record, job.folder / "report.html")
        tell(f"\nReport:   {path}\nRecords:  {job.folder}{os.sep}")


def _say_no_answer(job: Job, error: NoAnswer) -> NoReturn:
    if error.record is None:
        complain(f"No answer: {error}")
    else:
        _hand_over(job, error.record)
        complain(f"\nNo answer: {error}" if job.as_json or not error.next_move else f"\n{error.next_move}")
    if job.with_traceback:
        complain(_whole(error))
    job.tidy()
    raise typer.Exit(error.exit_code)


def _say_interrupted(job: Job) -> NoReturn:
    job.tidy()
    if job.folder is not None and not job.folder.exists():
        job.folder = None
    complain(f"\nInterrupted. This goes on where it stopped:\n  {job.same_command()}")
    raise typer.Exit(INTERRUPTED)


def _say_error(job: Job, error: BaseException, *, keep: bool = True) -> NoReturn:
    """Cause and next move in words; the traceback in a file, where there is more in it than our own lines."""
    code = 1
    if isinstance(error, EtascopeError):
        code = error.exit_code
        complain(f"Error: {error}")
    elif isinstance(error, SystemExit):
        code = 2
        complain(
            f"Error: the task's own code ended the program, by sys.exit({error.code!r}).\n"
            "Take that call out of what a training runs."
        )
    elif isinstance(error, MemoryError):
        complain(
            "Error: the memory is full.\nTry --engine loop, which trains one setting at a time, or smaller batches."
        )
    else:
        complain(
            f"Error: unexpected {type(error).__name__}: {error}\n"
            "This is most likely a fault of etascope: please report it, with the traceback. "
            "What was trained is kept."
        )
    if _is_of_use(job, error):
        if keep and (path := _write_traceback(job, error)) is not None:
            complain(f"The whole traceback is in {path}")
        elif not job.with_traceback:
            complain("Add --traceback to see the whole traceback.")
    if job.with_traceback:
        complain(_whole(error))
    job.tidy()
    raise typer.Exit(code)


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
        return ["python", "-m", "etascope.cli"]
    found = shutil.which("etascope")
    if here.stem != "etascope" or not here.exists() or (found and Path(found).samefile(here)):
        return ["etascope"]
    with suppress(ValueError):
        return [str(here.absolute().relative_to(Path.cwd()))]
    return [str(here)]
