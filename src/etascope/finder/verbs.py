"""The verbs: `find`, `sweep`, and `plan`, which says what `find` would do."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import numbers as n
from ..engines import Setting
from ..errors import Interrupted, NoAnswer, OptionError
from ..records import Finding, RangeTest, Sweep, Waypoint
from .answer import finding as answer
from .answer import no_answer_reason, unanswered, waypoint, zone_line
from .arguments import (
    POINTS,
    Budget,
    budget_of,
    grid_of,
    lanes_of,
    of_group,
    optional_number,
    positive,
    range_of,
    seeds_of,
    whole,
)
from .doors import Given, Lightning, entered
from .journal import Head
from .ladder import climb
from .opening import Asked, opened, save
from .progress import Progress
from .progress import choose as pick
from .race import Range, Sight, race
from .range_test import look_steps, range_test
from .session import Session

__all__ = ["Plan", "find", "plan", "sweep"]


def find(
    task: Given,
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
    group: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    name: str | None = None,
    trainer: Any = None,
    datamodule: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    monitor: str | None = None,
) -> Finding:
    """Find the learning rate of a task: a race over complete short runs, extrapolated to the full horizon.

    Nothing given is changed: model, loaders, their generators and the global random states are as before.

    Args:
        task: a `Task`; a training function `run(lr, steps, seed)` that trains completely and returns the loss; a
            Hugging Face `Trainer`; or, with `trainer`, a function of the lr that builds a LightningModule.
        horizon: steps of a complete run; for a training function only.
        budget: what the race may cost, in complete runs, or as a time such as "10min"; never exceeded.
        seed: all randomness comes from it.
        engine: "auto" takes the faster of "lanes" and "loop"; an explicit one never falls back.
        device: "auto", "cpu", "cuda:0" …
        lr_min: lowest learning rate to consider; default: found by the race itself.
        lr_max: highest learning rate to consider.
        init_loss: the loss before the first step, for a training function; default: `run(lr, 0, seed)` is asked.
        mine: your present learning rate, to be judged.
        group: the name of the param group whose lr is wanted; the others keep theirs. See `Task`.
        out: folder for journal and record; an interrupted race with the same `out` goes on. None writes nothing.
        progress: True, False, a `Progress`, or None: on a terminal only.
        name: what records and reports call the task.
        trainer: Lightning's Trainer, for a LightningModule.
        datamodule: as Lightning's `trainer.fit` takes it.
        train_dataloaders: as Lightning's `trainer.fit` takes them.
        val_dataloaders: as Lightning's `trainer.fit` takes them.
        monitor: the name of Lightning's validation loss; default "val_loss", or the only one with "loss" in it.

    Returns:
        The finding.

    Raises:
        NoAnswer: no answer can honestly be given; holds the evidence.
        TaskError, OptionError, EngineError, RecordError: what cannot be used, and what to do.
        Interrupted: Ctrl-C; holds the best finding so far.
    """
    began, bounds = time.perf_counter(), range_of(lr_min, lr_max)
    own = None if mine is None else positive("mine", mine)
    spend = budget_of(budget)
    lightning = Lightning(trainer, datamodule, train_dataloaders, val_dataloaders, monitor)
    task, horizon = entered(task, horizon, lightning)
    asked = Asked(
        verb="find",
        task=of_group(task, group),
        name=name,
        horizon=horizon,
        seed=whole("seed", seed, 0),
        engine=engine,
        device=device,
        init_loss=optional_number("init_loss", init_loss),
        out=out,
        told=pick(progress),
        budget=spend,
        deciding={"lr_min": bounds.lr_min, "lr_max": bounds.lr_max, "budget": spend.said},
        began=began,
    )
    with opened(asked) as (session, head):
        drawn_up = _draw_up(session, head, bounds)  # refuses a budget too small, before the journal is begun
        session.journal.begin(head)
        asked.told.plan(drawn_up.line)
        sight: Sight | None = None
        course: list[Waypoint] = []
        look: RangeTest | None = None

        def answered(sight: Sight, *, complete: bool) -> Finding:
            found = answer(session, sight, head.budget, bounds, course=course, look=look, complete=complete)
            return found if own is None else replace(found, mine=found.judge(own))

        try:
            total, before = _steps(session, head), session.spent
            look = range_test(session, total, bounds)
            for sight in race(session, total - (session.spent - before), bounds):
                session.must_train(session.rungs[-1].curves)
                session.must_have_clean_data()
                asked.told.rung(zone_line(session, sight, bounds))
                if sight is not None and len(sight.candidates(bounds)):
                    course.append(waypoint(sight, bounds))
        except KeyboardInterrupt:
            if sight is None or no_answer_reason(session, sight, bounds) is not None:
                raise Interrupted(None) from None
            so_far = answered(sight, complete=False)
            save(so_far, asked)
            raise Interrupted(so_far) from None
        session.journal.end(len(session.rungs))
        reason = no_answer_reason(session, sight, bounds)
        if reason is not None:
            record = unanswered(session, head.budget, reason)
            save(record, asked)
            raise NoAnswer(reason.cause, reason.next_move, record=record)
        assert sight is not None
        found = answered(sight, complete=True)
        save(found, asked)
        return found


def sweep(
    task: Given,
    *,
    horizon: int | None = None,
    lrs: int | Sequence[float] = POINTS,
    seeds: Sequence[int] = (0,),
    lanes: Sequence[Mapping[str, Any]] | None = None,
    engine: str = "auto",
    device: str = "auto",
    lr_min: float | None = None,
    lr_max: float | None = None,
    init_loss: float | None = None,
    group: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool | Progress | None = None,
    name: str | None = None,
    trainer: Any = None,
    datamodule: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    monitor: str | None = None,
) -> Sweep:
    """Train every setting to the full horizon: the dense truth, at the price of lrs × seeds complete runs.

    With `lanes` the settings may differ in more than lr and seed, freely mixed:

    - any number of the optimizer's param groups (`weight_decay`, `momentum`, `betas` …), set in every group,
    - `schedule`: in place of the task's own, over its horizon; a schedule, a function or a text,
    - `dropout`: the rate of every `nn.Dropout` of the model (not of dropout inside attention or LSTM),
    - what the task's loss takes by name: `def loss(model, batch, label_smoothing=0.0)`; in training alone, since all
      are judged on `val` by one measure, the loss with its defaults,
    - what the task's function `train` takes by name: `lambda seed, fold=0: ...`, as an index of a fold.

    Args:
        task: as in `find`.
        horizon: as in `find`.
        lrs: a number of log-spaced points from `lr_min` to `lr_max` (default 25 from 1e-5 to 1e1), or the values.
        seeds: each lr is trained once for each, and each lane that names no seed.
        lanes: the settings, in place of `lrs`: `[{"lr": 1e-3, "weight_decay": 0.1}, {"lr": 3e-3, "seed": 1}]`.
        engine: as in `find`.
        device: as in `find`.
        lr_min: lowest learning rate, where `lrs` is a number.
        lr_max: highest learning rate, where `lrs` is a number.
        init_loss: as in `find`.
        group: as in `find`.
        out: as in `find`.
        progress: as in `find`.
        name: as in `find`.
        trainer: as in `find`.
        datamodule: as in `find`.
        train_dataloaders: as in `find`.
        val_dataloaders: as in `find`.
        monitor: as in `find`.

    Returns:
        The sweep, with `lrs` of shape (R,) and `losses` of shape (R, S); `lanes` says which lane had what.

    Raises:
        NoAnswer: every learning rate diverges; holds the sweep.
        TaskError, OptionError, EngineError, RecordError: what cannot be used, and what to do.
        KeyboardInterrupt: Ctrl-C; what is done stands in the journal under `out`.
    """
    several = seeds_of(seeds)
    deciding: dict[str, Any]
    if lanes is None:
        grid = grid_of(lrs, lr_min, lr_max)
        settings = [Setting(s, lr) for s in several for lr in grid]
        deciding = {"lrs": grid, "seeds": sorted(several)}
        said = f"{n.plural(len(grid), 'lr')} x {n.plural(len(several), 'seed')}"
    elif lrs != POINTS or lr_min is not None or lr_max is not None:
        raise OptionError("lanes name each its lr, and lrs, lr_min or lr_max is given too.", "Give one or the other.")
    else:
        settings = lanes_of(lanes, several)
        deciding = {"lanes": [{"lr": s.lr, "seed": s.seed, **s.written()} for s in settings]}
        said = n.plural(len(settings), "lane")
    lightning = Lightning(trainer, datamodule, train_dataloaders, val_dataloaders, monitor)
    task, horizon = entered(task, horizon, lightning)
    asked = Asked(
        verb="sweep",
        task=of_group(task, group),
        name=name,
        horizon=horizon,
        seed=min(s.seed for s in settings),
        engine=engine,
        device=device,
        init_loss=optional_number("init_loss", init_loss),
        out=out,
        told=pick(progress),
        budget=Budget(float(len(settings))),
        deciding=deciding,
        settings=settings,
    )
    with opened(asked) as (session, head):
        session.journal.begin(head)
        session.expect(len(settings) * session.horizon)
        needed = session.memory(settings)
        takes = "" if needed is None else f"; {n.size(needed)}"
        asked.told.plan(f"plan: {_trained_by(session)}; {said} x {n.steps(session.horizon)}{takes}")
        curves = session.train(0, settings, session.horizon)
        session.must_train(curves)
        session.must_have_clean_data()
        record = Sweep(**session.evidence())
        if any(s.options for s in settings) and not any(c.val for c in curves):
            record = replace(record, notes=(*record.notes, "each lane is judged on its own training loss"))
        save(record, asked)
        if record.zone is None:
            raise NoAnswer(
                f"everything diverges: none of {n.plural(len(record.lrs), 'learning rate')} from "
                f"{n.lr(record.lrs[0])} to {n.lr(record.lrs[-1])} ended below the loss at init.",
                "Sweep lower learning rates; if they diverge too, check the data, the initialisation and the loss.",
                record=record,
            )
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
        rows = [
            f"  rung {i}: about {n.plural(k, 'setting')} x {n.steps(steps)}"
            for i, (k, steps) in enumerate(self.rungs, 1)
        ]
        return "\n".join([self.line, *rows])


def plan(
    task: Given,
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
    group: str | None = None,
    name: str | None = None,
    trainer: Any = None,
    datamodule: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    monitor: str | None = None,
) -> Plan:
    """Say what `find` with the same arguments would train, and how long that would take; trains a few steps to tell."""
    began, bounds = time.perf_counter(), range_of(lr_min, lr_max)
    if mine is not None:
        positive("mine", mine)
    lightning = Lightning(trainer, datamodule, train_dataloaders, val_dataloaders, monitor)
    task, horizon = entered(task, horizon, lightning)
    asked = Asked(
        verb="find",
        task=of_group(task, group),
        name=name,
        horizon=horizon,
        seed=whole("seed", seed, 0),
        engine=engine,
        device=device,
        init_loss=optional_number("init_loss", init_loss),
        out=None,
        told=pick(False),
        budget=budget_of(budget),
        deciding={},
        time_it=True,
        began=began,
    )
    with opened(asked) as (session, head):
        return _draw_up(session, head, bounds)


# ------------------------------------------------------------------------------------------ details


def _draw_up(session: Session, head: Head, bounds: Range) -> Plan:
    total = _steps(session, head)
    look = look_steps(session, total, bounds)
    ladder = climb(total - look, session.horizon)
    rungs = tuple((s.settings, s.steps) for s in (ladder.scout, *ladder.rungs))
    seconds = session.step_s * head.budget * session.horizon if session.step_s else None
    settings = n.plural(sum(k for k, _ in rungs), "setting")
    line = (
        f"plan: {_trained_by(session)}; {f'a range test of {n.steps(look)}, ' if look else ''}about {settings} in "
        f"{n.plural(len(rungs), 'rung')} of {', '.join(f'{s:,}' for _, s in rungs)} steps; "
        f"at most {n.cost(head.budget)}{'' if seconds is None else f', about {n.duration(seconds)}'}"
    )
    return Plan(line, rungs, head.budget, seconds)


def _trained_by(session: Session) -> str:
    ran, facts = session.engine.ran, session.facts
    groups = "" if facts.groups == 1 else f", {n.plural(facts.groups, 'group')}"
    threads = "" if ran.threads == 0 else f", {n.plural(ran.threads, 'thread')}"
    processes = "" if ran.workers == 1 else f" in {ran.workers} processes"
    return f"{facts.optimizer}{groups}; {ran.name}{processes}{threads} ({ran.why})"


def _steps(session: Session, head: Head) -> int:
    """Training steps that are left for the race once the trials are paid for."""
    return math.floor(head.budget * session.horizon + 1e-6) - head.trial_steps
