"""The engine for training functions: any training at all, in any framework, as a black box."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import TaskError
from ..records import Curve, Point
from ..records import Engine as Ran
from .base import Facts, OneByOne, Setting, Tick, Trained
from .blame import exited, user_code
from .judging import thin
from .randomness import seed_all

__all__ = ["About", "Run", "TrainingFunction"]

Run = Callable[[float, int, int], Any]
NO_INIT = "the loss at init is not known: what the least lr ended with stands for it"
NEXT_MOVE = "Return the final loss as a number, or yield (step, train_loss) as it goes and return the final loss."


@dataclass(frozen=True, kw_only=True)
class About:
    """What a training function that knows more of itself tells the record, as its attribute `about`.

    Args:
        optimizer: in words.
        groups: param groups.
        schedule: as JSON, or `{"foreign": ...}` in words.
        multipliers: (step, multiplier of the peak lr) over the horizon; empty where that is not known.
        decays: whether the schedule ends below half its peak.
        judged: which number is returned.
        validation: on what it was measured.
        paste: the line that uses the answer, with `{lr}` in it; None calls the function.
        alone: how to do one training alone, with `{lr}`, `{steps}` and `{seed}` in it.
        notes: what else the record should say.
    """

    optimizer: str = "of the training function"
    groups: int = 1
    schedule: Mapping[str, object] = field(default_factory=lambda: {"foreign": "of the training function"})
    multipliers: tuple[tuple[int, float], ...] = ()
    decays: bool = True
    judged: str = "what run(lr, steps, seed) returns"
    validation: str = "of the training function"
    paste: str | None = None
    alone: str = "run({lr}, {steps}, {seed})"
    notes: tuple[str, ...] = ()


class TrainingFunction(OneByOne):
    """Calls `run(lr, steps, seed)` for each setting, one after the other.

    A call that raises, or returns a non-finite number, is a diverged setting; what it raised is handed on, for the case
    that no setting succeeds.

    Args:
        run: the user's function: a complete training of `steps` steps.
        horizon: steps of a complete run.
        ran: what the record says of the engine.
        init_loss: the loss before the first step, where it is known.
    """

    def __init__(self, run: Run, horizon: int, ran: Ran, init_loss: float | None = None) -> None:
        self.run, self.horizon, self.ran = run, horizon, ran
        self._init = init_loss
        self._asked = init_loss is not None
        own = getattr(run, "about", None)
        self.about = own if isinstance(own, About) else About()
        try:
            inspect.signature(run).bind(1e-3, 1, 0)
        except TypeError as error:
            raise TaskError(
                f"run cannot be called as run(lr, steps, seed): {error}.",
                "Define it as run(lr, steps, seed).",
            ) from error
        except ValueError:  # a builtin without a signature
            pass

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        init, about = self.init_loss(seed), self.about
        unknown = () if init is not None else (NO_INIT,)
        name = getattr(self.run, "__name__", "run")
        return Facts(
            init_loss=init,
            goal="min",
            optimizer=about.optimizer,
            groups=about.groups,
            schedule=dict(about.schedule),
            multipliers=about.multipliers,
            decays=about.decays,
            judged=about.judged,
            validation=about.validation,
            paste=about.paste or f"{name}(lr={{lr}}, steps={self.horizon}, seed=0)",
            notes=(*about.notes, *unknown),
        )

    def init_loss(self, seed: int) -> float | None:
        """The given one, else what `run(lr, 0, seed)` says; None where it says nothing."""
        if not self._asked:
            self._asked = True
            with contextlib.suppress(Exception, SystemExit):
                value = _number(self._call(Setting(seed, 1e-3), 0)[0])
                self._init = value if math.isfinite(value) else None
        return self._init

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """Every setting by itself: each call is journalled."""
        return [[s] for s in sorted(settings)]

    def train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        """Call the function for the one setting of the unit."""
        (setting,) = unit
        init, failure = self.init_loss(setting.seed), None
        points: list[Point] = []
        try:
            value, points = self._call(setting, steps)
            loss = _number(value)
        except TaskError:
            raise
        except SystemExit as error:  # of a signal handler, too: no reason to go on with the next setting
            raise exited("run(lr, steps, seed)", error) from error
        except Exception as error:
            failure, loss = error, math.inf
        curve = _curve(setting, steps, loss, points, init)
        tick(steps, int(curve.diverged))
        return Trained((curve,), 0.0, failure)

    def _call(self, setting: Setting, steps: int) -> tuple[Any, list[Point]]:
        seed_all("run", setting.seed)
        result = self.run(setting.lr, steps, setting.seed)
        points: list[Point] = []
        if isinstance(result, Generator):
            while True:
                try:
                    yielded = next(result)
                except StopIteration as stop:
                    return stop.value, points
                points.append(_point(yielded))
        return result, points

    def seconds(self, seed: int) -> float:
        """Seconds of a complete run, told from two short ones; their steps are `calibration_steps`."""
        short, longer = self.calibration_steps
        times = []
        for steps in (short, longer):
            start = time.perf_counter()
            with user_code("run"):
                self._call(Setting(seed, 1e-6), steps)
            times.append(time.perf_counter() - start)
        per_step = max((times[1] - times[0]) / (longer - short), 0.0)
        return max(times[1] + per_step * (self.horizon - longer), 1e-6)

    @property
    def calibration_steps(self) -> tuple[int, int]:
        """Steps of the two runs that `seconds` times."""
        short = max(1, self.horizon // 200)
        return short, 3 * short


def _curve(setting: Setting, steps: int, loss: float, points: Sequence[Point], init: float | None) -> Curve:
    """The curve of one call: the loss it returned and the points it yielded."""
    ended = None
    if not math.isfinite(loss):
        loss = math.inf
    elif init is not None and loss > init:
        loss, ended = math.inf, loss
    bad = next((s for s, v in points if not math.isfinite(v)), None) if loss == math.inf and ended is None else None
    finite = [(s, v) for s, v in points if math.isfinite(v)]
    drawn = tuple((finite[i - 1][0] + 1, v) for i, v in (thin([v for _, v in finite]) if finite else ()))
    return Curve(setting.lr, setting.seed, steps, loss, bad, steps, train=drawn, ended=ended)


def _point(yielded: Any) -> Point:
    try:
        step, loss = yielded
        return int(step), float(loss)
    except (TypeError, ValueError) as error:
        raise TaskError(f"run(lr, steps, seed) yielded {yielded!r}, not (step, train_loss).", NEXT_MOVE) from error


def _number(value: Any) -> float:
    if value is None or isinstance(value, str | bytes | bool):
        raise TaskError(f"run(lr, steps, seed) returned {value!r}, not a loss.", NEXT_MOVE)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TaskError(f"run(lr, steps, seed) returned a {type(value).__name__}, not a loss.", NEXT_MOVE) from error
