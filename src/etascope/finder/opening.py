"""From what was asked to a session that is ready to train: everything is checked before anything is trained."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..engines import (
    Ahead,
    Engine,
    Prepared,
    Setting,
    TrainingFunction,
    as_device,
    check_options,
    choose,
    rebuild_engine,
    start_ahead,
    undisturbed,
)
from ..errors import NoAnswer, OptionError, RecordError, TaskError
from ..records import Engine as Ran
from ..records import Evidence, Unanswered, load
from ..task import Task
from .answer import Reason, unanswered
from .arguments import Budget, whole
from .journal import Head, Journal
from .lock import locked
from .progress import Progress
from .session import Session

__all__ = ["Asked", "Subject", "opened", "save"]

Subject = Task | Callable[[float, int, int], Any]
UNLIMITED = 100.0  # complete runs: what a budget in time may pay for, as far as the choice of the engine goes


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a verb was asked, in plain numbers.

    Args:
        verb: "find" or "sweep".
        task: a `Task`, or a training function.
        name: what records call it; None takes its own.
        horizon: steps of a complete run; for a training function only.
        seed: all randomness comes from it.
        engine: "auto", "lanes" or "loop".
        device: "auto", "cpu", "cuda:0" …
        init_loss: the loss before the first step, for a training function; None where it is not known.
        out: the run folder; None writes nothing.
        told: who is told of the progress.
        budget: what it may cost.
        deciding: the verb's own arguments that decide the result.
        settings: what is to be trained, where the verb was given just that.
        time_it: measure a step even where the budget needs no such measure.
        began: when it was asked, on `time.perf_counter`'s clock.
    """

    verb: str
    task: Subject
    name: str | None
    horizon: int | None
    seed: int
    engine: str
    device: str
    init_loss: float | None
    out: str | os.PathLike[str] | None
    told: Progress
    budget: Budget
    deciding: Mapping[str, Any]
    settings: Sequence[Setting] = ()
    time_it: bool = False
    began: float = field(default_factory=time.perf_counter)

    @property
    def folder(self) -> Path | None:
        """The run folder."""
        return None if self.out is None else Path(self.out)


@contextmanager
def opened(asked: Asked) -> Iterator[tuple[Session, Head]]:
    """A session for what was asked, and the head of its journal, which is still to be begun.

    Until the end the run folder is locked; then it is free again, progress is stopped, and the global states are as
    they were.
    """
    with undisturbed(), _stopped(asked.told), locked(asked.folder):
        bench = _bench(asked)
        head = bench.journal.head
        session, head = bench.start() if head is None else bench.go_on(head)
        with closing(session.engine):
            yield session, head


def save(record: Evidence, asked: Asked) -> None:
    """Write the record where one was asked for."""
    if asked.folder is not None:
        record.save(asked.folder / _record_of(asked.verb))


@dataclass(frozen=True)
class _Bench:
    """What was asked, resolved: `prepared` is None for a training function."""

    asked: Asked
    prepared: Prepared | None
    name: str
    horizon: int
    journal: Journal

    @property
    def questions(self) -> dict[str, Any]:
        """All that decides the result beside the task itself."""
        a = self.asked
        group = a.task.group if isinstance(a.task, Task) else None
        of_group = {} if group is None else {"group": group}
        return of_group | {"task": self.name, "horizon": self.horizon, "seed": a.seed, "device": a.device, **a.deciding}

    def start(self) -> tuple[Session, Head]:
        """Check the task, choose an engine, and turn a budget in time into runs."""
        with start_ahead(self.prepared, self.asked.engine, self._steps_to_come, self.asked.settings) as ahead:
            self._check()
            engine, spent, step_s = self._choose(ahead)
        with ExitStack() as on_error:
            on_error.callback(engine.close)  # it may hold processes
            if self.asked.time_it and (self.prepared is None or self.asked.engine != "auto"):
                spent = 0  # only to tell the time: `find` itself would not take these steps
            session = self._session(engine, spent, step_s)
            runs = self.asked.budget.runs
            if runs is None:
                runs = max((spent + session.affordable) / self.horizon, 1e-9)
            head = Head(self.asked.verb, self.questions, _facts(session), engine.ran, runs, spent, step_s)
            on_error.pop_all()
        return session, head

    def go_on(self, head: Head) -> tuple[Session, Head]:
        """Take engine and budget from the journal, once the task has shown to be the same."""
        if self.asked.engine not in ("auto", head.engine.engine):
            raise OptionError(
                f"engine={self.asked.engine!r} was asked for, and {self.journal.path} was begun with "
                f"{head.engine.engine!r}.",
                "Continue with engine='auto', or choose another --out (out=).",
            )
        session = self._session(self._engine(head.engine), head.trial_steps, head.step_s)
        self.journal.must_agree(_facts(session))
        self._check()
        return session, head

    def _session(self, engine: Engine, spent: int, step_s: float = 0.0) -> Session:
        a, seconds = self.asked, self.asked.budget.seconds
        deadline = math.inf if seconds is None else a.began + seconds - self.journal.wall_s
        return Session(engine, self.name, self.horizon, a.seed, self.journal, a.told, spent, step_s, deadline)

    def _check(self) -> None:
        """Try the task; where there is nothing to train from, the record says so."""
        if self.prepared is None:
            return
        try:
            self.prepared.check(self.asked.seed)
        except NoAnswer as error:
            ran = Ran("loop", 1, torch.get_num_threads(), str(self.prepared.device), "nothing was trained")
            session = self._session(self._engine(ran), 0)
            reason = Reason("data", error.cause, error.next_move)
            record = unanswered(session, self.asked.budget.runs or 0.0, reason)
            save(record, self.asked)
            raise NoAnswer(error.cause, error.next_move, record=record) from error
        check_options(self.prepared, self.asked.settings)

    @property
    def _steps_to_come(self) -> float:
        return (self.asked.budget.runs or UNLIMITED) * self.horizon

    def _choose(self, ahead: Ahead) -> tuple[Engine, int, float]:
        """The engine, the training steps that choosing it took, and seconds per step (0 where not measured)."""
        asked, timed = self.asked, self.asked.time_it or self.asked.budget.runs is None
        if self.prepared is not None:
            chosen = choose(
                self.prepared,
                asked.engine,
                asked.seed,
                self._steps_to_come,
                time_it=timed,
                within_s=asked.budget.seconds or math.inf,
                settings=asked.settings,
                ahead=ahead,
            )
            return chosen.engine, chosen.trial_steps, chosen.step_s
        engine = self._engine(Ran("callable", 1, 0, "its own", "a training function"))
        if not timed or not isinstance(engine, TrainingFunction):
            return engine, 0, 0.0
        return engine, sum(engine.calibration_steps), engine.seconds(asked.seed) / self.horizon

    def _engine(self, ran: Ran) -> Engine:
        if self.prepared is not None:
            return rebuild_engine(self.prepared, ran)
        assert not isinstance(self.asked.task, Task)
        return TrainingFunction(self.asked.task, self.horizon, ran, self.asked.init_loss)


def _bench(asked: Asked) -> _Bench:
    if isinstance(asked.task, Task):
        if asked.horizon is not None:
            raise OptionError("horizon is given twice: the task has its own.", "Leave horizon= (--horizon) out.")
        prepared = Prepared(asked.task, as_device(asked.device))
        name, horizon = asked.task.name, prepared.horizon
    else:
        if any(setting.options for setting in asked.settings):
            raise OptionError(
                "a training function run(lr, steps, seed) takes no other options.",
                "Give an etascope.Task, or a training function for each combination.",
            )
        prepared, name, horizon = None, getattr(asked.task, "__name__", "run"), _function_horizon(asked)
    bench = _Bench(asked, prepared, asked.name or name, horizon, Journal(asked.folder))
    bench.journal.must_agree({"verb": asked.verb, **bench.questions})
    if bench.journal.head is None and asked.folder is not None:
        _must_be_free(asked.folder)
    return bench


def _function_horizon(asked: Asked) -> int:
    if not callable(asked.task):
        raise TaskError(
            f"a {type(asked.task).__name__} is neither a Task nor a training function.",
            "Give etascope.Task(...), or a function run(lr, steps, seed) with horizon=...",
        )
    if asked.horizon is None:
        raise OptionError(
            "a training function needs a horizon.", "Give horizon=... (--horizon): steps of a complete run."
        )
    if asked.engine != "auto":
        raise OptionError(f"engine={asked.engine!r} has no meaning for a training function.", "Leave it out.")
    return whole("horizon", asked.horizon, 1)


def _must_be_free(folder: Path) -> None:
    """Refuse to overwrite a record that was not made from a journal in this folder, unless it answers nothing."""
    for path in (folder / "finding.json", folder / "sweep.json"):
        if path.exists() and not _answers_nothing(path):
            raise RecordError(
                f"{path} is there without the journal that it was made from, and would be overwritten.",
                "Move it away, or choose another --out (out=).",
            )


def _answers_nothing(path: Path) -> bool:
    try:
        return isinstance(load(path), Unanswered)
    except RecordError:
        return False


def _record_of(verb: str) -> str:
    return "finding.json" if verb == "find" else "sweep.json"


def _facts(session: Session) -> dict[str, Any]:
    """By what a task is known again: a changed one must not get the old one's answer."""
    f = session.facts
    return {"optimizer": f.optimizer, "groups": f.groups, "schedule": f.schedule, "init_loss": f.init_loss}


@contextmanager
def _stopped(told: Progress) -> Iterator[None]:
    try:
        yield
    finally:
        told.stop()
