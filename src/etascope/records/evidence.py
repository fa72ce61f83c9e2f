"""What comes out of etascope: frozen, versioned records with a JSON round trip. No torch.

    Evidence                what was trained, how, and what came of it
    ├── Sweep               every setting of a grid, to the full horizon
    ├── Finding             the answer of `find`, with its evidence
    └── Unanswered          the evidence of a race that allows no honest answer

An evidence holds rungs, a rung holds curves, a curve is one training of one setting. A lane is the curves of a rung
that differ in their seed alone.

Losses are "lower is better" everywhere; where a task judges by a metric with `goal="max"` they are
the negated metric, and the records say `goal: "max"`. In Python a diverged loss is `inf`; in JSON,
which has no such number, it is null.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import numbers as n
from .._json import Loss, Lr, decode_fields, encode, plain
from ..errors import RecordError
from ..storage import write_atomically

__all__ = [
    "Curve",
    "Engine",
    "Evidence",
    "Finding",
    "Lane",
    "Predicted",
    "RangeTest",
    "Rung",
    "Sweep",
    "Unanswered",
    "Verdict",
    "Waypoint",
    "load",
]

Point = tuple[int, Loss]  # (step, loss)
StepSizes = tuple[int, float, float, float]  # (steps taken, 10%, 50% and 90% quantile)
Json = dict[str, Any]
FloatArray = NDArray[np.float64]
R = TypeVar("R", bound="Evidence")

REBUILD = "Rebuild it by repeating the command that made it with the same --out."


# ---------------------------------------------------------------------------------------- pieces


@dataclass(frozen=True)
class Curve:
    """One training of one setting.

    Attributes:
        lr: the peak learning rate.
        seed: the setting's seed.
        steps: optimizer steps it was given; a complete run of that length.
        loss: final loss by the task's rule; `inf` where it diverged.
        diverged_at: the step at which the training loss became non-finite; None where it never did (a run
            that ended above the loss at init has `loss=inf` and no such step).
        trained: optimizer steps really taken (fewer than `steps` where it diverged).
        train: (step, training loss) points, means over equal stretches of the run.
        val: (step, validation loss) points, the first at step 0; empty without validation data.
        ended: the finite loss of a run that counts as diverged since it ended above the loss at init, else None.
        options: what else the setting differed in, by name; a schedule as its text.
        effective_lr: under an adaptive rule (Adam, RMSprop ...), how far a step really goes in each layer (the module
            that owns the tensors, as `named_parameters` has it): the 10%, 50% and 90% quantile over its parameters of
            what multiplies the gradient, or its moment corrected for bias, as η / (√v̂ + ε); in units of parameter
            per unit of gradient, the schedule in it. (steps taken, 10%, 50%, 90%) points: after the first step, an
            eighth of the run, half and all of it, as far as it went without diverging. In layers of more than 1,024
            parameters the quantiles are those of as many drawn ones. Empty for other rules, and in older records.

    >>> sizes = {"head": ((1, 0.02, 0.1, 0.9), (100, 0.01, 0.03, 0.2))}
    >>> curve = Curve(1e-3, 0, 100, 0.5, None, 100, effective_lr=sizes)
    >>> steps, low, median, high = curve.effective_lr["head"][-1]
    >>> f"after {steps} steps, the median step of the head is {median / curve.lr:.0f} times lr x moment"
    'after 100 steps, the median step of the head is 30 times lr x moment'
    """

    lr: Lr
    seed: int
    steps: int
    loss: Loss
    diverged_at: int | None
    trained: int
    train: tuple[Point, ...] = ()
    val: tuple[Point, ...] = ()
    ended: float | None = None
    options: Json = field(default_factory=dict, hash=False)
    effective_lr: dict[str, tuple[StepSizes, ...]] = field(default_factory=dict, hash=False)

    @property
    def diverged(self) -> bool:
        """Whether the loss became non-finite, or ended above the loss at init."""
        return not math.isfinite(self.loss)

    def to_json(self) -> Json:
        """Plain data; non-finite losses are None, and an empty `options` or `effective_lr` is left out."""
        data = {f.name: encode(getattr(self, f.name)) for f in fields(self)}
        return {name: value for name, value in data.items() if value or name not in ("options", "effective_lr")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Curve:
        """The inverse of `to_json`; `where` is what errors call it."""
        read: Curve = decode_fields(cls, data, where)
        return read


@dataclass(frozen=True)
class Lane:
    """One row of a rung: a learning rate with its options, over seeds.

    Attributes:
        lr: the peak learning rate.
        options: what else it differs in, by name.
        curves: its trainings, ascending in seed.
    """

    lr: float
    options: Json
    curves: tuple[Curve, ...]

    @property
    def losses(self) -> FloatArray:
        """Final losses, shape (S,); `inf` where a setting diverged."""
        return np.array([c.loss for c in self.curves])

    @property
    def mean(self) -> float:
        """Mean final loss over seeds; `inf` where one of them diverged."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Rung:
    """One stage of a race: some settings, each for the same number of steps."""

    steps: int
    curves: tuple[Curve, ...]

    @classmethod
    def of(cls, steps: int, curves: Iterable[Curve]) -> Rung:
        """The rung of these trainings, ascending in lr and seed.

        What ended above the loss at init with a smaller lr than the best did not diverge: it learnt nothing, and noise
        or the running statistics of a batch normalisation lifted it.
        """
        ordered = sorted(curves, key=lambda c: (c.lr, _said(c), c.seed))
        best = min(ordered, key=lambda c: c.loss)
        return cls(
            steps,
            tuple(
                replace(c, loss=c.ended, ended=None) if c.ended is not None and c.lr < best.lr else c for c in ordered
            ),
        )

    @property
    def lrs(self) -> tuple[float, ...]:
        """The learning rates, ascending."""
        return tuple(sorted({c.lr for c in self.curves}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted({c.seed for c in self.curves}))

    @property
    def losses(self) -> FloatArray:
        """Final losses, shape (R, S) for R lrs and S seeds; `inf` diverged, `nan` not trained.

        Where settings differ in options too, the lowest of each lr and seed; all of them stand in `lanes`.
        """
        table = np.full((len(self.lrs), len(self.seeds)), np.nan)
        rows = {lr: i for i, lr in enumerate(self.lrs)}
        cols = {seed: i for i, seed in enumerate(self.seeds)}
        for c in self.curves:
            at = rows[c.lr], cols[c.seed]
            table[at] = np.fmin(table[at], c.loss)
        return table

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """The curves by what they differ in beside the seed, ascending in lr."""
        rows: dict[tuple[float, str], list[Curve]] = {}
        for c in sorted(self.curves, key=lambda c: (c.lr, _said(c), c.seed)):
            rows.setdefault((c.lr, _said(c)), []).append(c)
        return tuple(Lane(lr, same[0].options, tuple(same)) for (lr, _), same in rows.items())

    def to_json(self) -> Json:
        """Plain data: the table first, then every setting's curve."""
        return {
            "steps": self.steps,
            "lrs": list(self.lrs),
            "seeds": list(self.seeds),
            "losses": [[plain(v) for v in row] for row in self.losses],
            "curves": [c.to_json() for c in self.curves],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Rung:
        """The inverse of `to_json` (the table is made again from the curves); `where` is what errors call it."""
        read: Rung = decode_fields(cls, data, where)
        return read


def _said(curve: Curve) -> str:
    """A curve's options as a text to sort and tell them apart by."""
    return json.dumps(curve.options, sort_keys=True) if curve.options else ""


@dataclass(frozen=True)
class Engine:
    """What trained: the engine that `auto` resolved to, and why.

    Attributes:
        engine: "loop", "lanes" or "callable".
        chunk: the most settings trained as one.
        threads: torch's CPU threads while training.
        device: "cpu", "cuda:0" …
        why: one sentence.
        workers: processes that train side by side.
        compile_from: training steps, of all lanes together, from which a stack of lanes is compiled; 0: never.
    """

    engine: str
    chunk: int
    threads: int
    device: str
    why: str = ""
    workers: int = 1
    compile_from: int = 0

    @property
    def name(self) -> str:
        """The engine in words: lanes may train settings one at a time."""
        name = f"compiled {self.engine}" if self.compile_from else self.engine
        return f"{name} one at a time" if self.engine == "lanes" and self.chunk == 1 else name


@dataclass(frozen=True)
class Predicted:
    """Predicted loss against lr at the full horizon: four arrays of one length, as tuples.

    `low` and `high` bound the middle 90% of what the race leaves possible.
    """

    lrs: tuple[Lr, ...]
    loss: tuple[Loss, ...]
    low: tuple[Loss, ...]
    high: tuple[Loss, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be interpolated."""
        if len({len(self.lrs), len(self.loss), len(self.low), len(self.high)}) > 1:
            raise ValueError("the predicted losses are not as many as their lrs")


@dataclass(frozen=True)
class RangeTest:
    """One short training under an lr that rises from step to step, and what the usual finders would read off it.

    Attributes:
        seed: its seed.
        points: (lr, training loss) of each step, up to where it stopped.
        suggestions: the lr of each classical rule, by name; None where the rule has none.
    """

    seed: int
    points: tuple[tuple[Lr, Loss], ...]
    suggestions: dict[str, Lr | None] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Waypoint:
    """What a race would have answered after one of its rungs.

    Attributes:
        rung: which one, from 0.
        at_rung: the best lr for runs of that rung's own length, as all rungs up to it tell.
        lr: the answer for the full horizon.
        interval: the 90% interval for the best lr at the full horizon.
    """

    rung: int
    at_rung: Lr
    lr: Lr
    interval: tuple[Lr, Lr]


@dataclass(frozen=True)
class Verdict:
    """What a finding says of one given learning rate.

    Attributes:
        lr: the judged value.
        verdict: where it lies.
        loss: the loss predicted for it at the full horizon (`inf` where it diverges).
        regret: what it would cost: (loss − loss at the found lr) as a fraction of the whole drop from
            the loss at init; `inf` where it diverges, `nan` where the loss at init is unknown.
        text: the same in one sentence.
    """

    lr: Lr
    verdict: Literal["too low", "in the zone", "too high", "diverges"]
    loss: Loss
    regret: Loss
    text: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Verdict:
        """Read one back; `where` is what errors call it."""
        read: Verdict = decode_fields(cls, data, where)
        unknown = data["regret"] is None and read.verdict != "diverges"
        return replace(read, regret=math.nan) if unknown else read

    def __str__(self) -> str:
        return self.text


# -------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was trained, how, and what came of it.

    Attributes:
        task: the task's name.
        horizon: optimizer steps of a complete run.
        seed: the seed that all randomness came from.
        init_loss: loss before the first step; None where it is unknown (a training function that has none).
        goal: "min", or "max" where losses are a negated metric.
        optimizer: the optimizer in words, as `AdamW(betas=(0.9, 0.95), weight_decay=0.1)`.
        groups: number of param groups.
        schedule: the schedule as its own JSON, or `{"foreign": name}`.
        multipliers: (step, multiplier) points of the schedule over the horizon, for drawing.
        judged: the final-loss rule, in words.
        validation: what of the validation data each run is judged on, in words.
        engine: what trained.
        cost: training steps spent, in complete runs, trial steps of `engine="auto"` included.
        eval_s: seconds of evaluation.
        wall_s: seconds from call to result, summed over continuations.
        rungs: the evidence itself.
        versions: of etascope, Python, torch, NumPy, and the platform.
        notes: sentences that a reader should know.
        paste: the line of code that uses the answer, with `{lr}` in it.
    """

    schema: ClassVar[str]

    task: str
    horizon: int
    seed: int
    init_loss: float | None
    goal: str = "min"
    optimizer: str = ""
    groups: int = 1
    schedule: Json = field(default_factory=dict)
    multipliers: tuple[tuple[int, float], ...] = ()
    judged: str = ""
    validation: str = ""
    engine: Engine
    cost: float
    eval_s: float
    wall_s: float
    rungs: tuple[Rung, ...]
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    paste: str = ""

    def to_json(self) -> Json:
        """Strict-JSON data; the keys are a contract."""
        return {"schema": self.schema} | {f.name: encode(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_json(cls: type[R], data: Mapping[str, Any]) -> R:
        """The inverse of `to_json`.

        Raises:
            RecordError: `data` is not a record of this kind and schema, or one of its values is of a wrong type.
        """
        if data.get("schema") != cls.schema:
            raise RecordError(
                f"this is not a {cls.schema!r} record, its schema is {data.get('schema')!r}",
                "Give the file or folder that etascope wrote, or update etascope if it is newer.",
            )
        try:
            read: R = decode_fields(cls, data, "")
        except ValueError as error:
            raise RecordError(f"the {cls.schema!r} record is damaged: {error}", REBUILD) from error
        return read

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the record as strict JSON, atomically."""
        write_atomically(path, json.dumps(self.to_json(), allow_nan=False, indent=1) + "\n")

    @classmethod
    def load(cls: type[R], path: str | os.PathLike[str]) -> R:
        """Read a record that `save` wrote.

        Raises:
            RecordError: the file is missing, damaged or of another kind.
        """
        record = load(path)
        if not isinstance(record, cls):
            raise RecordError(
                f"{os.fspath(path)} holds a {type(record).__name__}, not a {cls.__name__}",
                "Use etascope.load(path) to read any record.",
            )
        return record

    def _repr_html_(self) -> str | None:
        return _html_hook(self) if _html_hook is not None else None

    def __str__(self) -> str:
        return _text_hook(self) if _text_hook is not None else repr(self)


@dataclass(frozen=True, kw_only=True)
class Sweep(Evidence):
    """Every setting of a grid, trained to the full horizon: the dense truth.

    Where settings differ in more than lr and seed (`sweep(lanes=[...])`), what is said of the learning rate (`zone`,
    `edge`, `mean_loss`, `regret`) is said beside the options of the best lane.
    """

    schema: ClassVar[str] = "etascope.sweep/1"

    @property
    def lrs(self) -> FloatArray:
        """The learning rates, shape (R,), ascending."""
        return np.array(self.rungs[0].lrs)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return self.rungs[0].seeds

    @property
    def losses(self) -> FloatArray:
        """Final losses, shape (R, S); `inf` where a setting diverged. See `Rung.losses`."""
        return self.rungs[0].losses

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """What was trained, ascending in lr: each lr with its options and its curves over seeds."""
        return self.rungs[0].lanes

    @property
    def best_lane(self) -> Lane:
        """The lane of the lowest mean over its seeds; one that diverges for a seed is out."""
        return min(self.lanes, key=lambda lane: lane.mean)

    @property
    def best(self) -> tuple[float, float]:
        """(lr, mean loss) of the best lane."""
        return self.best_lane.lr, self.best_lane.mean

    @property
    def _means(self) -> tuple[list[float], FloatArray]:
        """Learning rates, and mean losses over seeds, of the lanes with the best one's options."""
        options = self.best_lane.options
        beside = [lane for lane in self.lanes if lane.options == options]
        return [lane.lr for lane in beside], np.array([lane.mean for lane in beside])

    @property
    def tolerance(self) -> float:
        """The zone's height above the best: max(2% of (loss at init − best), one seed deviation at the best)."""
        lane = self.best_lane
        deviation = float(lane.losses.std(ddof=1)) if len(lane.curves) > 1 else 0.0
        drop = 0.0 if self.init_loss is None else self.init_loss - lane.mean
        return max(0.02 * drop, deviation)

    def mean_loss(self, lr: float) -> float:
        """Mean loss over seeds at `lr`, linear in log lr; `inf` beyond the grid or beside a divergence."""
        lrs, mean = self._means
        x, u = np.log(lrs), math.log(lr)
        if not x[0] - 1e-9 <= u <= x[-1] + 1e-9:
            return math.inf
        i = int(np.clip(np.searchsorted(x, u), min(1, len(x) - 1), len(x) - 1))
        if abs(u - x[i]) < 1e-9 or abs(u - x[i - 1]) < 1e-9:
            return float(mean[i if abs(u - x[i]) < 1e-9 else i - 1])
        if not np.isfinite(mean[i - 1 : i + 1]).all():
            return math.inf
        return float(np.interp(u, x[i - 1 : i + 1], mean[i - 1 : i + 1]))

    @property
    def zone(self) -> tuple[float, float] | None:
        """The Goldilocks zone, its ends interpolated in log lr; None when every setting diverged."""
        best_lr, best = self.best
        if not math.isfinite(best):
            return None
        lrs, mean = self._means
        x, limit, at = np.log(lrs), best + self.tolerance, lrs.index(best_lr)

        def reach(step: int) -> float:
            i = at
            while 0 <= i + step < len(x) and mean[i + step] <= limit:
                i += step
            j = i + step
            if not 0 <= j < len(x) or not math.isfinite(mean[j]) or mean[j] == mean[i]:
                return float(x[i])
            return float(x[i] + (x[j] - x[i]) * (limit - mean[i]) / (mean[j] - mean[i]))

        return math.exp(reach(-1)), math.exp(reach(+1))

    @property
    def edge(self) -> float | None:
        """The smallest lr from which on every larger one diverges (for at least one seed); None if none does."""
        lrs, mean = self._means
        bad: NDArray[np.bool_] = np.logical_not(np.isfinite(mean))
        if not bad[-1]:
            return None
        trains = np.flatnonzero(~bad)
        return float(lrs[trains[-1] + 1] if len(trains) else lrs[0])

    def regret(self, lr: float) -> float:
        """(loss at `lr` − best) / (loss at init − best), at the full horizon; `inf` where it diverges."""
        best = self.best[1]
        drop = math.nan if self.init_loss is None else self.init_loss - best
        return (self.mean_loss(lr) - best) / drop


@dataclass(frozen=True, kw_only=True)
class Finding(Evidence):
    """The answer of `find`: which learning rate, how sure, and why.

    Attributes:
        lr: the learning rate to use, a round two-digit number inside the zone.
        interval: the 90% interval for the best lr.
        zone: what is as good: at least two thirds as probably as `lr` within 2% of the drop of the best, or its noise.
        edge: from where every larger lr diverges, as far as short runs tell; None when none was reached.
        edge_interval: the 90% interval for the edge; None without an edge.
        loss: the loss predicted at `lr` for the full horizon.
        mine: the verdict on the user's present lr, where one was given.
        budget: the budget in complete runs.
        drift: how the best lr moves with the horizon, in decades per decade of steps.
        noise: one standard deviation of a final loss between repeats, as the race saw it.
        predicted: the predicted loss against lr at the full horizon.
        complete: False when the race was interrupted.
        course: where the race stood after each rung; empty in older records.
        range_test: what the usual finders see, where the budget allowed such a look.
        defaults: lrs that come without any look: the optimizer's own default, a rule of thumb; by name.
    """

    schema: ClassVar[str] = "etascope.finding/1"

    lr: Lr
    interval: tuple[Lr, Lr]
    zone: tuple[Lr, Lr]
    edge: Lr | None
    edge_interval: tuple[Lr, Lr] | None = None
    loss: Loss
    mine: Verdict | None = None
    budget: float
    drift: float
    noise: float
    predicted: Predicted
    complete: bool = True
    course: tuple[Waypoint, ...] = ()
    range_test: RangeTest | None = None
    defaults: dict[str, Lr] = field(default_factory=dict, hash=False)

    @property
    def heuristics(self) -> dict[str, Verdict | None]:
        """How the usual finders and defaults would have fared: each one's lr, judged; None where one says nothing."""
        said = {} if self.range_test is None else self.range_test.suggestions
        return {name: None if lr is None else self.judge(lr) for name, lr in {**self.defaults, **said}.items()}

    def explain(self) -> str:
        """What pulled the answer where: each rung, the drift with the horizon, noise, the edge; a line each."""
        return _explain_hook(self) if _explain_hook is not None else repr(self)

    def judge(self, lr: float) -> Verdict:
        """Say what `lr` would do at the full horizon: too low, in the zone, too high, or diverges.

        Raises:
            ValueError: `lr` is not a positive, finite number.
        """
        if isinstance(lr, bool) or not isinstance(lr, Real) or not math.isfinite(lr) or lr <= 0:
            raise ValueError(f"a learning rate is a positive number, not {lr!r}")
        lr, said = float(lr), n.lr(lr, 3)
        if self.edge is not None and lr >= self.edge:
            return Verdict(lr, "diverges", math.inf, math.inf, f"{said} diverges: the edge is at {n.lr(self.edge)}")
        p, (low, high) = self.predicted, self.zone
        finite = np.isfinite(p.loss)  # past the edge there is no number to interpolate
        loss = float(np.interp(math.log(lr), np.log(p.lrs)[finite], np.array(p.loss)[finite]))
        regret = self._regret(loss)
        if low <= lr <= high:
            return Verdict(lr, "in the zone", loss, regret, f"{said} is in the zone: as good as {n.lr(self.lr)}")
        kind: Literal["too low", "too high"] = "too low" if lr < low else "too high"
        text = f"{said} is {kind} by a factor of {n.lr(max(self.lr / lr, lr / self.lr))}"
        if math.isfinite(regret):
            drop = "gain in the metric" if self.goal == "max" else "drop in loss"
            text += f": it would give up about {n.percent(regret)} of the {drop}"
        return Verdict(lr, kind, loss, regret, text)

    def _regret(self, loss: float) -> float:
        drop = math.nan if self.init_loss is None else self.init_loss - self.loss
        return max(0.0, loss - self.loss) / drop if drop > 0 else math.nan


@dataclass(frozen=True, kw_only=True)
class Unanswered(Evidence):
    """The evidence of a race that allows no honest answer; what a finding answers is None.

    Attributes:
        reason: why there is none, in words.
        kind: the same as a code: "diverges" (nothing trains), "flat" (no lr changes the loss), "noise" (it changes less
            by the lr than by noise), "border" (the best lies outside the range that was given), "data" (the data or the
            loss at init is not finite).
        budget: the budget in complete runs.
        complete: False when the race was interrupted.
    """

    schema: ClassVar[str] = "etascope.finding/1"

    reason: str
    kind: str = ""
    budget: float
    lr: None = None
    interval: None = None
    zone: None = None
    edge: None = None
    loss: None = None
    mine: None = None
    complete: bool = True


# ------------------------------------------------------------------------------- in and out


def load(path: str | os.PathLike[str]) -> Evidence:
    """Read any record: a file that `save` wrote, or a run directory.

    Raises:
        RecordError: the file is missing, is not JSON, or is not a record of etascope.
    """
    path = Path(path)
    if path.is_dir():
        for name in ("finding.json", "sweep.json"):
            if (path / name).is_file():
                path = path / name
                break
        else:
            raise RecordError(
                f"there is no finding.json or sweep.json in {path}",
                f"If the run was interrupted, repeat its command with --out {path} to finish it.",
            )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror or error}", "Check the path.") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path} is damaged, it is not JSON: {error}", REBUILD) from error
    try:
        return _kind_of(data).from_json(data)
    except RecordError as error:
        raise RecordError(f"{path}: {error.cause}", error.next_move) from error


def _kind_of(data: Any) -> type[Evidence]:
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == Sweep.schema:
        return Sweep
    if schema == Finding.schema:
        return Finding if data.get("lr") is not None else Unanswered
    raise RecordError(
        f"not a record of etascope, its schema is {schema!r}",
        "Give the file or folder that `etascope find` or `etascope sweep` wrote.",
    )


# ------------------------------------------------------------------------------------- details

_html_hook: Callable[[Evidence], str] | None = None
_text_hook: Callable[[Evidence], str] | None = None
_explain_hook: Callable[[Finding], str] | None = None


def show_with(
    html: Callable[[Evidence], str], text: Callable[[Evidence], str], explain: Callable[[Finding], str]
) -> None:
    """Register how records show themselves; `reports` does, so that records need not know it."""
    global _html_hook, _text_hook, _explain_hook
    _html_hook, _text_hook, _explain_hook = html, text, explain
