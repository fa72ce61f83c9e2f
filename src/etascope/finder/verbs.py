"""The verbs: `find`, `sweep`, and `plan`, which says what `find` would do."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..engines import (
    Engine,
    Prepared,
    Setting,
    TrainingFunction,
    as_device,
    choose,
    rebuild_engine,
    undisturbed,
)
from ..errors import Interrupted, NoAnswer, OptionError, TaskError
from ..records import Engine as Ran
from ..records import Finding, Sweep
from ..task import Task
from .answer import finding as answer
from .answer import no_answer_reason, unanswered, zone_line
from .journal import Head, Journal
from .ladder import climb, seconds_of
from .progress import Progress
from .progress import choose as pick
from .race import Range, Sight, race
from .session import Session

__all__ = ["Plan", "find", "plan", "sweep"]

Subject = Task | Callable[[float, int, int], Any]
CONTINUE = "Check the first batches of the data and the model's initialisation."


def find(
    task: Subject,
    *,
    horizon: int | None = None,
    budget: float | str = 1.0,
    seed: int = 0,
    engine: str = "auto",
    device: str = "auto",
    lr_min: float | None = None,
    lr_max: float | None = None,
    init_loss: float | None = None,
    mine: float | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    name: str | None = None,
) -> Finding:
    """Find the learning rate of a task: a race over complete short runs, extrapolated to the full horizon.

    Nothing given is changed: model, loaders, their generators and the global random states are as before.

    Args:
        task: a `Task`, or a training function `run(lr, steps, seed)` that trains completely and returns the loss.
        horizon: steps of a complete run; for a training function only.
        budget: what the race may cost, in complete runs, or as a time such as "10min"; never exceeded.
        seed: all randomness comes from it.
        engine: "auto" takes the faster of "lanes" and "loop"; an explicit one never falls back.
        device: "auto", "cpu", "cuda:0" …
        lr_min: lowest learning rate to consider; default: found by the race itself.
        lr_max: highest learning rate to consider.
        init_loss: the loss before the first step, for a training function; default: `run(lr, 0, seed)` is asked.
        mine: your present learning rate, to be judged.
        out: folder for journal and record; an interrupted race with the same `out` goes on. None writes nothing.
        progress: True, False, a `Progress`, or None: on a terminal only.
        name: what records and reports call the task.

    Returns:
        The finding.

    Raises:
        NoAnswer: no answer can honestly be given; holds the evidence.
        TaskError, OptionError, EngineError, RecordError: what cannot be used, and what to do.
        Interrupted: Ctrl-C; holds the best finding so far.
    """
    bounds = _range(lr_min, lr_max)
    if mine is not None:
        _positive("mine", mine)
    told = pick(progress)
    with undisturbed(), _stopped(told):
        session, runs = _open(
            "find", task, horizon, budget, seed, engine, device, init_loss, out, told, name,
            {"lr_min": lr_min, "lr_max": lr_max, "budget": budget},
        )  # fmt: skip
        total = _steps(runs, session)
        told.plan(_plan(session, runs, total).line)
        sight: Sight | None = None
        try:
            for sight in race(session, total, bounds):
                told.rung(zone_line(session, sight))
        except KeyboardInterrupt:
            so_far = None if sight is None else _judged(answer(session, sight, runs, bounds, complete=False), mine)
            if so_far is not None and out is not None:
                so_far.save(Path(out) / "finding.json")
            raise Interrupted(so_far) from None
        reason = no_answer_reason(session, sight)
        if reason is not None or sight is None:
            cause, next_move = reason or ("nothing trains.", CONTINUE)
            _blame_data(session, task)
            record = unanswered(session, runs, cause)
            if out is not None:
                record.save(Path(out) / "finding.json")
            raise NoAnswer(cause, next_move, record=record)
        found = _judged(answer(session, sight, runs, bounds), mine)
        if out is not None:
            found.save(Path(out) / "finding.json")
        return found


def sweep(
    task: Subject,
    *,
    horizon: int | None = None,
    lrs: int | Sequence[float] = 25,
    seeds: Sequence[int] = (0,),
    engine: str = "auto",
    device: str = "auto",
    lr_min: float | None = None,
    lr_max: float | None = None,
    init_loss: float | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    name: str | None = None,
) -> Sweep:
    """Train every learning rate to the full horizon: the dense truth, at the price of lrs × seeds complete runs.

    Args:
        task: as in `find`.
        horizon: as in `find`.
        lrs: a number of log-spaced points from `lr_min` to `lr_max` (default 1e-5 to 1e1), or the values themselves.
        seeds: each lr is trained once for each.
        engine: as in `find`.
        device: as in `find`.
        lr_min: lowest learning rate, where `lrs` is a number.
        lr_max: highest learning rate, where `lrs` is a number.
        init_loss: as in `find`.
        out: as in `find`.
        progress: as in `find`.
        name: as in `find`.

    Returns:
        The sweep, with `lrs` of shape (R,) and `losses` of shape (R, S).

    Raises:
        TaskError, OptionError, EngineError, RecordError: what cannot be used, and what to do.
        KeyboardInterrupt: Ctrl-C; what is done stands in the journal under `out`.
    """
    grid = _grid(lrs, lr_min, lr_max)
    if not seeds or len(set(seeds)) != len(seeds):
        raise OptionError(f"seeds is {seeds!r}.", "Give one or more different integers.")
    told = pick(progress)
    with undisturbed(), _stopped(told):
        session, _ = _open(
            "sweep", task, horizon, float(len(grid) * len(seeds)), min(seeds), engine, device, init_loss, out, told,
            name,
            {"lrs": grid, "seeds": sorted(seeds)},
        )  # fmt: skip
        told.start(len(grid) * len(seeds) * session.horizon)
        ran = session.engine.ran
        told.plan(
            f"{session.facts.optimizer}, {ran.engine} ({ran.why}): {len(grid)} lrs x {len(seeds)} seeds "
            f"x {session.horizon} steps"
        )
        curves = session.train(0, [Setting(s, lr) for s in seeds for lr in grid], session.horizon)
        session.must_train(curves)
        record = Sweep(**session.evidence())
        if out is not None:
            record.save(Path(out) / "sweep.json")
        return record


@dataclass(frozen=True)
class Plan:
    """What `find` would do.

    Attributes:
        line: all of it in one line.
        rungs: (settings, steps) of each rung, the scouting first.
        runs: the budget in complete runs.
        seconds: estimated training time; None where nothing was measured.
    """

    line: str
    rungs: tuple[tuple[int, int], ...]
    runs: float
    seconds: float | None

    def __str__(self) -> str:
        names = ["scouting", *(f"rung {i}" for i in range(1, len(self.rungs)))]
        rows = [f"  {n}: {k} settings x {steps} steps" for n, (k, steps) in zip(names, self.rungs, strict=True)]
        return "\n".join([self.line, *rows])


def plan(
    task: Subject,
    *,
    horizon: int | None = None,
    budget: float | str = 1.0,
    seed: int = 0,
    engine: str = "auto",
    device: str = "auto",
    lr_min: float | None = None,
    lr_max: float | None = None,
    init_loss: float | None = None,
    mine: float | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    name: str | None = None,
) -> Plan:
    """Say what `find` with the same arguments would train, and how long that would take; trains a few steps to tell."""
    del mine, out, progress
    _range(lr_min, lr_max)
    with undisturbed():
        session, runs = _open(
            "find", task, horizon, budget, seed, engine, device, init_loss, None, pick(False), name, {}, time_it=True
        )  # fmt: skip
        return _plan(session, runs, _steps(runs, session))


# ------------------------------------------------------------------------------------------ opening


def _open(
    verb: str,
    task: Subject,
    horizon: int | None,
    budget: float | str,
    seed: int,
    engine: str,
    device: str,
    init_loss: float | None,
    out: str | os.PathLike[str] | None,
    told: Progress,
    name: str | None,
    asked: dict[str, Any],
    *,
    time_it: bool = False,
) -> tuple[Session, float]:
    """Check everything, settle on an engine and a budget in runs (or take them from the journal), and sit down."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OptionError(f"seed is {seed!r}.", "Give an integer from 0 on.")
    seconds = seconds_of(budget) if isinstance(budget, str) and not _is_number(budget) else None
    runs = math.nan if seconds is not None else _positive("budget", float(budget))
    prepared: Prepared | None = None
    if isinstance(task, Task):
        if horizon is not None:
            raise OptionError("horizon is given twice: the task has its own.", "Leave horizon= (--horizon) out.")
        prepared = Prepared(task, as_device(device))
        steps, called = prepared.horizon, task.name
    else:
        steps, called = _function_horizon(task, horizon, engine), getattr(task, "__name__", "run")
    asked = {"task": name or called, "horizon": steps, "seed": int(seed), "device": device} | asked
    journal = Journal(out)
    journal.must_agree(verb, asked)
    if prepared is not None:
        prepared.check(seed)
    trained: Engine
    head = journal.head
    if head is not None:
        trained = _engine(task, prepared, steps, init_loss, head.engine)
        if engine not in ("auto", head.engine.engine):
            raise OptionError(
                f"engine={engine!r} was asked for, and {journal.path} was begun with {head.engine.engine!r}.",
                "Continue with engine='auto', or choose another --out (out=).",
            )
    else:
        timed = time_it or seconds is not None
        if prepared is not None:
            to_come = 100.0 * steps if seconds is not None else runs * steps
            chosen = choose(prepared, engine, seed, to_come, time_it=timed)
            trained, spent, step_s = chosen.engine, chosen.trial_steps, chosen.step_s
        else:
            trained = _engine(task, None, steps, init_loss, Ran("callable", 1, 0, "its own", "a training function"))
            assert isinstance(trained, TrainingFunction)
            spent = sum(trained.calibration_steps) if timed else 0
            step_s = trained.seconds(seed) / steps if timed else 0.0
        if seconds is not None:
            runs = max(seconds / max(step_s * steps, 1e-9), 1e-9)
        head = journal.begin(Head(verb, asked, trained.ran, runs, spent))
        session = Session(trained, str(asked["task"]), steps, int(seed), journal, told, spent)
        session.step_s = step_s
        return session, runs
    return Session(trained, str(asked["task"]), steps, int(seed), journal, told, head.trial_steps), head.budget


def _engine(task: Subject, prepared: Prepared | None, steps: int, init_loss: float | None, ran: Ran) -> Engine:
    if prepared is not None:
        return rebuild_engine(prepared, ran)
    assert not isinstance(task, Task)
    return TrainingFunction(task, steps, ran, init_loss)


def _function_horizon(run: Any, horizon: int | None, engine: str) -> int:
    if not callable(run):
        raise TaskError(
            f"a {type(run).__name__} is neither a Task nor a training function.",
            "Give etascope.Task(...), or a function run(lr, steps, seed) with horizon=...",
        )
    if horizon is None:
        raise OptionError(
            "a training function needs a horizon.", "Give horizon=... (--horizon): steps of a complete run."
        )
    if isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon <= 0:
        raise OptionError(f"horizon is {horizon!r}.", "Give the steps of a complete run, 1 or more.")
    if engine != "auto":
        raise OptionError(f"engine={engine!r} has no meaning for a training function.", "Leave it out.")
    return int(horizon)


def _steps(runs: float, session: Session) -> int:
    """Training steps that are left for the race once the trials are paid for."""
    return math.floor(runs * session.horizon + 1e-6) - session.spent


def _plan(session: Session, runs: float, total: int) -> Plan:
    ladder = climb(total, session.horizon)
    ran, f = session.engine.ran, session.facts
    rungs = tuple((s.settings, s.steps) for s in (ladder.scout, *ladder.rungs))
    seconds = session.step_s * runs * session.horizon if session.step_s else None
    groups = "" if f.groups == 1 else f", {f.groups} groups"
    threads = "" if ran.threads == 0 else f", {ran.threads} thread{'s' if ran.threads > 1 else ''}"
    time = "" if seconds is None else f", about {seconds / 60:.1f} min" if seconds > 90 else f", about {seconds:.0f} s"
    line = (
        f"plan: {f.optimizer}{groups}; {ran.engine}{threads} ({ran.why}); {sum(k for k, _ in rungs)} settings in "
        f"{len(rungs)} rungs of {', '.join(str(s) for _, s in rungs)} steps; at most {runs:.3g} runs{time}"
    )
    return Plan(line, rungs, runs, seconds)


# ------------------------------------------------------------------------------------------ details


def _judged(found: Finding, mine: float | None) -> Finding:
    return found if mine is None else replace(found, mine=found.judge(mine))


def _blame_data(session: Session, task: Subject) -> None:
    """Where all settings became non-finite at one step, look for NaN in the data they all saw."""
    at = {c.diverged_at for rung in session.rungs for c in rung.curves}
    prepared = getattr(session.engine, "prepared", None)
    if prepared is None or len(at) != 1 or None in at:
        return
    fault = prepared.find_nan(session.seed, 0, session.rungs[0].steps)
    if fault is not None:
        raise TaskError(
            f"every setting became non-finite at the same step, and the data is why: {fault}.",
            "Clean the data.",
        )


@contextmanager
def _stopped(told: Progress) -> Iterator[None]:
    try:
        yield
    finally:
        told.stop()


def _grid(lrs: int | Sequence[float], lr_min: float | None, lr_max: float | None) -> list[float]:
    if isinstance(lrs, int | np.integer):
        if lrs < 2:
            raise OptionError(f"lrs is {lrs}.", "Give 2 or more, or the learning rates themselves.")
        low, high = lr_min or 1e-5, lr_max or 1e1
        _range(low, high)
        return [float(f"{v:.6g}") for v in np.geomspace(low, high, int(lrs))]
    if lr_min is not None or lr_max is not None:
        raise OptionError("lrs lists the learning rates, and lr_min or lr_max is given too.", "Give one or the other.")
    grid = sorted({_positive("an lr of lrs", float(lr)) for lr in lrs})
    if not grid:
        raise OptionError("lrs is empty.", "Give a number of points, or learning rates.")
    return grid


def _range(lr_min: float | None, lr_max: float | None) -> Range:
    for key, value in (("lr_min", lr_min), ("lr_max", lr_max)):
        if value is not None:
            _positive(key, value)
    if lr_min is not None and lr_max is not None and lr_min >= lr_max:
        raise OptionError(f"the range is reversed: lr_min={lr_min:g} is not below lr_max={lr_max:g}.", "Swap them.")
    return Range(lr_min, lr_max)


def _positive(what: str, value: float) -> float:
    if not (isinstance(value, int | float | np.number) and math.isfinite(value) and value > 0):
        raise OptionError(f"{what} is {value!r}.", "Give a positive, finite number.")
    return float(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
