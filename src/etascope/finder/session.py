"""One sitting at the bench: trains units through an engine, journals them, and counts what they cost."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..engines import About, Engine, Options, Setting, Trained, TrainingFunction, memory, place, said
from ..errors import TaskError
from ..numbers import plural
from ..records import Curve, Rung
from .journal import Journal
from .progress import Progress

__all__ = ["Session", "versions"]

BESIDE = 1_000_000  # the rung's number, in the journal, of what is trained beside the race
MARGIN, FIT_S = 0.85, 0.5  # of the time until a deadline: the part that is planned with, and seconds for the fit


class Session:
    """Trains and keeps count.

    Args:
        engine: what trains.
        name: the task's name.
        horizon: steps of a complete run.
        seed: the user's seed.
        journal: where finished units go.
        progress: who is told.
        spent: training steps that went into choosing the engine.
        step_s: seconds of one step of one setting, evaluations included; 0 where it was not measured.
        deadline: when a budget in time is used up, on `time.perf_counter`'s clock.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        horizon: int,
        seed: int,
        journal: Journal,
        progress: Progress,
        spent: int,
        step_s: float = 0.0,
        deadline: float = math.inf,
    ) -> None:
        self.engine, self.name, self.horizon, self.seed = engine, name, horizon, seed
        self.journal, self.progress = journal, progress
        self.facts = engine.facts(seed)
        self.rungs: list[Rung] = []
        self._trained: list[list[Curve]] = []  # of each rung, as the engine gave it
        self._failures: list[tuple[int, BaseException]] = []  # (rung, what a training function raised)
        self._spoilt: list[str] = []  # where data that only some settings saw holds NaN
        self.spent = spent
        self.step_s, self.deadline = step_s, deadline
        self._pace = (0.0, 0)  # seconds and training steps of the latest rung
        self._live, self._dropped = 0, 0
        self._expected: int | None = None
        self.eval_s = 0.0
        self._start = math.nan  # stands for the loss at init where that is unknown
        self._began = time.perf_counter()
        self._replayed_s = journal.wall_s

    def train(self, rung: int, settings: Sequence[Setting], steps: int) -> list[Curve]:
        """Train settings as a part of a rung, or read them from the journal.

        A call that raised is not journalled: a continued race tries it again, since its cause may have been mended.
        """
        self._pace = (0.0, 0)
        units = self.engine.units(settings)
        results = [self.journal.find(rung, steps, unit) for unit in units]
        for known in filter(None, results):
            done_before = sum(c.trained for c in known.curves)
            self._tick(done_before, sum(c.diverged for c in known.curves), steps * len(known.curves) - done_before)
            self._keep(rung, steps, known)
        todo = [i for i, known in enumerate(results) if known is None]
        self._live = sum(len(units[i]) for i in todo)
        self._tell_lanes()
        start = time.perf_counter()
        for k, done in self.engine.train_each([units[i] for i in todo], steps, rung, self._tick):
            self._live -= sum(not c.diverged for c in done.curves)
            self._tell_lanes()
            now = time.perf_counter()
            start, seconds = now, now - start
            self._pace = self._pace[0] + seconds, self._pace[1] + sum(c.trained for c in done.curves)
            if done.failure is None:
                self.journal.add(rung, steps, units[todo[k]], done, seconds)
            else:
                self._failures.append((rung, done.failure))
            results[todo[k]] = done
            self._keep(rung, steps, done)
        return [curve for done in results if done is not None for curve in done.curves]

    def look(self, setting: Setting, steps: int) -> Curve:
        """Train one setting beside the race, or read it from the journal: it costs, and is no rung."""
        (unit,) = self.engine.units([setting])
        known = self.journal.find(BESIDE, steps, unit)
        if known is None:
            start = time.perf_counter()
            ((_, known),) = self.engine.train_each([unit], steps, BESIDE, self._tick)
            self.journal.add(BESIDE, steps, unit, known, time.perf_counter() - start)
        else:
            self._tick(known.curves[0].trained)
        self.eval_s += known.eval_s
        self.spent += known.curves[0].trained
        return known.curves[0]

    @property
    def takes_options(self) -> bool:
        """Whether the engine can train a setting with options, such as a schedule of its own."""
        return getattr(self.engine, "prepared", None) is not None

    def expect(self, steps: int) -> None:
        """Tell progress of the training steps to come; those that diverging settings do not take are then taken off."""
        self._expected = steps
        self.progress.start(steps)

    def _tick(self, steps: int, dropped: int = 0, spared: int = 0, /) -> None:
        self.progress.tick(steps)
        if spared and self._expected is not None:
            self._expected -= spared
            self.progress.start(self._expected)
        if dropped:
            self._live, self._dropped = max(self._live - dropped, 0), self._dropped + dropped
            self._tell_lanes()

    def _tell_lanes(self) -> None:
        if callable(tell := getattr(self.progress, "lanes", None)):  # a user's own progress need not have it
            tell(self._live, self._dropped)

    def memory(self, settings: Sequence[Setting]) -> int | None:
        """About what memory it takes to train these, in bytes; None where that is a training function's affair."""
        prepared = getattr(self.engine, "prepared", None)
        return None if prepared is None else memory(prepared, self.engine.ran, self.engine.units(settings))

    def _keep(self, rung: int, steps: int, done: Trained) -> None:
        curves = done.curves
        self.eval_s += done.eval_s
        self.spent += sum(c.trained for c in curves)
        if rung == len(self.rungs):
            self._trained.append([])
            self.rungs.append(Rung(steps, ()))
        self._trained[rung] += curves
        self.rungs[rung] = Rung.of(steps, self._trained[rung])
        if self.facts.init_loss is None:
            self._start = _start_of(self.rungs[0])
            self.rungs[rung] = Rung.of(steps, [_held_to(self._start, c) for c in self._trained[rung]])

    @property
    def affordable(self) -> float:
        """Training steps until the deadline, at the slower of the pace expected and that of the latest rung.

        A part of the time is kept for what no pace foretells: a busy machine, the fit, the report.
        """
        if math.isinf(self.deadline):
            return math.inf
        seconds, steps = self._pace
        pace = max(self.step_s, seconds / steps if steps else 0.0, 1e-9)
        return MARGIN * max(self.deadline - time.perf_counter() - FIT_S, 0.0) / pace

    def must_train(self, curves: Sequence[Curve]) -> None:
        """Raise the user's own exception where it is why no setting of the latest rung trained."""
        failures = [error for rung, error in self._failures if rung == len(self.rungs) - 1]
        if not failures or not all(c.diverged for c in curves):
            return
        first, c = failures[0], curves[0]
        about = self.engine.about if isinstance(self.engine, TrainingFunction) else About()
        raise TaskError(
            f"no call of run(lr, steps={c.steps}, seed) succeeded: {len(failures)} of {len(curves)} raised, "
            f"the first {said(first)}\n  at {place(first)}",
            f"Try it alone: {about.alone.format(lr=f'{c.lr:g}', steps=c.steps, seed=c.seed)}.",
        ) from first

    def must_have_clean_data(self) -> None:
        """Raise where nothing in the latest rung stayed finite, and NaN in the data that they all saw is why.

        Where it is the data of some alone (a fold, a seed), and others answer, the record says so.
        """
        rung, prepared = self.rungs[-1], getattr(self.engine, "prepared", None)
        if prepared is None:
            return
        answered = any(math.isfinite(lane.mean) for lane in rung.lanes)
        seen: dict[tuple[int, Options], list[int | None]] = {}
        for c in rung.curves:
            seen.setdefault((c.seed, prepared.data_options(c.options)), []).append(c.diverged_at)
        for (seed, options), ends in seen.items():
            steps = [step + 1 for step in ends if step is not None]
            if len(steps) < len(ends):
                continue
            fault = prepared.find_nan(seed, len(self.rungs) - 1, max(steps), options)
            if fault is None:
                continue
            if not answered:
                raise TaskError(f"no setting stayed finite, and the data is why: {fault}.", "Clean the data.")
            self._spoilt.append(f"no setting that saw it stayed finite: {fault}")

    def init(self, curve: Curve) -> float:
        """The loss at init that a curve starts from; where it is unknown, what the least lr of all ended with.

        nan where nothing trained.
        """
        if curve.val:
            return curve.val[0][1]
        return self._start if self.facts.init_loss is None else self.facts.init_loss

    def evidence(self) -> dict[str, Any]:
        """The fields that every record shares."""
        f = self.facts
        return {
            "task": self.name,
            "horizon": self.horizon,
            "seed": self.seed,
            "init_loss": f.init_loss,
            "goal": f.goal,
            "optimizer": f.optimizer,
            "groups": f.groups,
            "schedule": f.schedule,
            "multipliers": f.multipliers,
            "judged": f.judged,
            "validation": f.validation,
            "engine": self.engine.ran,
            "cost": self.spent / self.horizon,
            "eval_s": self.eval_s,
            "wall_s": time.perf_counter() - self._began + self._replayed_s,
            "rungs": tuple(self.rungs),
            "versions": versions(),
            "notes": (*f.notes, *self._failed(), *self._spoilt),
            "paste": f.paste,
        }

    def _failed(self) -> list[str]:
        if not self._failures:
            return []
        calls = plural(len(self._failures), "call")
        return [
            f"{calls} of run(lr, steps, seed) raised, and count as diverged; the first {said(self._failures[0][1])}"
        ]


def _start_of(rung: Rung) -> float:
    """What the least lr that trained ended with: next to nothing was learnt there."""
    return next((c.loss for c in rung.curves if not c.diverged), math.nan)


def _held_to(start: float, curve: Curve) -> Curve:
    """A curve that ended above the start diverged, as one that ended above a loss at init that is known."""
    return replace(curve, loss=math.inf, ended=curve.loss) if start < curve.loss < math.inf else curve


def versions() -> dict[str, str]:
    """What a result depends on beside the task."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("etascope")
    except PackageNotFoundError:  # a source tree that is not installed
        own = "unknown"
    return {
        "etascope": own,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
    }
