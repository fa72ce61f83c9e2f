"""Trials: the seconds that a step of one setting takes, as a race or sweep would use each engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeAlias

import torch

from ..records import Engine as Ran
from .apart import finite
from .base import Setting
from .compiled import seconds_to_compile
from .data import CACHE_BYTES, tensors
from .lanes import Lanes
from .loop import Loop
from .prepared import Prepared
from .randomness import seed_all
from .refusals import first_sentence
from .stack import Stack, quiet, stackable

__all__ = [
    "LIMIT_S",
    "STEPS",
    "TIMES",
    "WIDTH",
    "Compiled",
    "Kind",
    "Sample",
    "Trial",
    "Tried",
    "samples_of",
    "try_compiled",
    "try_out",
]

WIDTH = 4  # nearly all of a race is trained by three to six settings at once
ROUNDS = 12  # of trials, at most
STEPS = 3  # of a trial; for lanes two, where the allowance pays for no more
FEW = 3  # lanes that show whether a whole stack is worth a trial
HOPELESS = 2.0  # times the best so far: what takes longer is not tried again, nor more lanes than the few that did
LIMIT_S, LIMIT = 1.0, 0.01  # seconds after which no further trial begins, or this part of what is to come
TIMES = 6  # steps of a stack before it is compiled, and after; the first are slow
RUNG = -2  # whose batches are used: of its own, so that reading them can be timed

Kind: TypeAlias = tuple[str, int]  # an engine, and how many settings at once


@dataclass(frozen=True)
class Trial:
    """An engine with so many settings at once and so many threads, and the seconds per step of one; 0: not measured."""

    engine: str
    chunk: int
    threads: int
    lane_step_s: float

    @property
    def kind(self) -> Kind:
        """Engine and settings at once."""
        return self.engine, self.chunk


@dataclass
class Tried:
    """What the trials showed, the training steps they took, and why lanes failed where they did."""

    trials: list[Trial]
    spent: int = 0
    failure: str | None = None


@dataclass(frozen=True)
class Sample:
    """Settings as lanes would stack them, and what share of all that is to be trained is of their structure."""

    unit: tuple[Setting, ...]
    share: float


def samples_of(prepared: Prepared, settings: Sequence[Setting], seed: int, chunk: int) -> list[Sample]:
    """What trials train: of each structure the largest stack, at lrs that do no harm.

    Args:
        prepared: the checked task.
        settings: what is to be trained; where that is not known, settings of `seed`.
        seed: the seed of the trials.
        chunk: lanes at once, at most.
    """
    if not settings:
        return [Sample(tuple(Setting(seed, _harmless(i)) for i in range(min(WIDTH, chunk))), 1.0)]
    lanes, found = Lanes(prepared, Ran("lanes", chunk, 1, str(prepared.device))), []
    for together in stackable(prepared, settings).values():
        unit = max(lanes.units(together), key=len) if chunk > 1 else together[:1]
        harmless = tuple(Setting(s.seed, _harmless(i), s.options) for i, s in enumerate(unit))
        found.append(Sample(harmless, len(together) / len(settings)))
    return found


def _harmless(i: int) -> float:
    return 1e-4 * 1.1**i


def try_out(
    prepared: Prepared,
    kinds: Sequence[Kind],
    samples: Sequence[Sample],
    allowed: float,
    run: int,
    *,
    to_come: float = 0.0,
    counts: Sequence[int] | None = None,
    limit_s: float = LIMIT_S,
) -> Tried:
    """Time what the allowance pays for, each engine with one thread and with torch's own number of threads.

    Stacks cost several steps at once, so they come last, with the threads first that were best so far. What is left
    of the allowance, and of the time, pays for further rounds, since the least of several times is the surest.

    Args:
        prepared: the checked task.
        kinds: what to try, in the order of preference.
        samples: what to train, by `samples_of`; the loop, and lanes one at a time, train one setting of each.
        allowed: training steps that they may take; `inf` for one round, whatever it costs.
        run: steps of a typical run, which the cost of evaluation is spread over.
        to_come: training steps that this is about; no trial begins after 1% of their time, or `limit_s`.
        counts: threads to try.
        limit_s: as said.
    """
    tried, default = Tried([]), torch.get_num_threads()
    if allowed < STEPS * len(samples):
        return tried
    if counts is None:
        counts = [1, default] if prepared.device.type == "cpu" and default > 1 else [default]
    trials = _Trials(prepared, kinds, samples, allowed, run, to_come, limit_s)
    try:
        for turn in range(ROUNDS if math.isfinite(allowed) else 1):
            for kind in kinds:
                for threads in sorted(counts, key=lambda count: count != trials.best_threads):
                    torch.set_num_threads(threads)
                    trials.take(kind, threads, is_first=turn == 0)
    finally:
        torch.set_num_threads(default)
    by_preference = sorted(trials.seconds, key=lambda key: (kinds.index(key[0]), key[1]))
    tried.trials = [Trial(*kind, threads, trials.seconds[kind, threads]) for kind, threads in by_preference]
    tried.spent, tried.failure = trials.spent, trials.failure
    return tried


class _Trials:
    """The trials of one `try_out`, with what they have shown and taken so far."""

    def __init__(
        self,
        prepared: Prepared,
        kinds: Sequence[Kind],
        samples: Sequence[Sample],
        allowed: float,
        run: int,
        to_come: float,
        limit_s: float,
    ) -> None:
        self.prepared, self.samples, self.allowed, self.run = prepared, samples, allowed, run
        self.to_come, self.limit_s = to_come, limit_s
        self.seconds: dict[tuple[Kind, int], float] = {}
        self.spent = 0
        self.failure: str | None = None
        self._hopeless: set[Kind] = set()
        self._data_s = _data_s(prepared, samples, run)
        stacks = any(chunk > 1 for _, chunk in kinds)
        self._reserved = 2 * sum(len(s.unit) for s in samples) if stacks else 0
        self._began = time.perf_counter()

    @property
    def best_threads(self) -> int:
        """With how many threads the fastest so far was."""
        return min(self.seconds, key=lambda key: self.seconds[key])[1] if self.seconds else 1

    def take(self, kind: Kind, threads: int, *, is_first: bool) -> None:
        """Time an engine, if that is still paid for and may tell something."""
        if kind in self._hopeless:
            return
        name, chunk = kind
        is_new = not any(of == kind for of, _ in self.seconds)
        if (self._is_late and not (is_first and is_new)) or (name == "lanes" and self.failure):
            return
        if self.seconds.get((kind, threads), 0.0) > HOPELESS * min(self.seconds.values(), default=math.inf):
            return
        units = [sample.unit[:chunk] for sample in self.samples]
        lanes = sum(map(len, units))
        left = self.allowed - self.spent
        if kind == ("lanes", 1) and is_first:
            left -= self._reserved  # lanes one at a time are no reason to leave a stack untried
        steps = STEPS if chunk == 1 or lanes * STEPS <= left else 2
        if lanes * steps > left:
            return
        try:
            if is_new and chunk > 1 and self._is_hopeless(units[0]):
                self._hopeless.add(kind)
                return
            self.spent += lanes * steps
            time_it = _time_loop if name == "loop" else _time_lanes
            took = math.fsum(
                sample.share * time_it(self.prepared, unit, steps, self.run)
                for sample, unit in zip(self.samples, units, strict=True)
            )
        except Exception as error:
            if name == "loop":
                raise
            self.failure = f"a trial of them failed: {first_sentence(error)}"
            self.seconds = {key: value for key, value in self.seconds.items() if key[0][0] == "loop"}
        else:
            took += self._data_s["loop" if chunk == 1 else "lanes"]
            self.seconds[kind, threads] = min(self.seconds.get((kind, threads), math.inf), took)

    def _is_hopeless(self, unit: Sequence[Setting]) -> bool:
        """Whether a few lanes take so long that a whole stack, which may take many seconds, needs no trial."""
        if len(unit) <= 2 * FEW or not self.seconds:
            return False
        steps = STEPS + 1  # the first does not count, and one of the others may be late by chance
        if FEW * steps + 2 * len(unit) > self.allowed - self.spent:
            return False
        self.spent += FEW * steps
        return _time_lanes(self.prepared, unit[:FEW], steps, self.run) > HOPELESS * min(self.seconds.values())

    @property
    def _is_late(self) -> bool:
        if not math.isfinite(self.allowed) or not self.seconds:
            return False
        limit_s = max(self.limit_s, LIMIT * self.to_come * min(self.seconds.values()))
        return time.perf_counter() - self._began > limit_s


@dataclass(frozen=True)
class Compiled:
    """What compiling a stack of lanes takes, and gains.

    Args:
        compile_s: seconds that it takes.
        replayed_s: seconds of a step of one lane before.
        compiled_s: after.
        spent: training steps that it took to know.
        failure: why there are no kernels; "" where there are.
    """

    compile_s: float = 0.0
    replayed_s: float = 0.0
    compiled_s: float = 0.0
    spent: int = 0
    failure: str = ""


def try_compiled(prepared: Prepared, unit: Sequence[Setting], most_s: float) -> Compiled:
    """Compile a stack of lanes, and time its step before and after, unless it will take longer than `most_s`."""
    stack, spent = Stack(prepared, unit, compared=frozenset(), alone=len(unit) == 1), 0
    batches = [finite(batch) for batch in islice(stack.batches(RUNG), prepared.task.accumulate)]

    def step(t: int) -> None:
        nonlocal spent
        spent += len(unit)
        stack.step(batches, 1.0, t)

    seed_all("trial", stack.seed)
    try:
        with quiet(), closing(stack):
            assert stack.replay is not None
            replayed_s, t = _timed(prepared, step, TIMES), TIMES
            if not stack.replay.is_whole:
                return Compiled(spent=spent, failure="the model cannot be recorded")
            updates = max(1, len(stack.rule.parts(stack.params_LP, stack.state)))
            expected_s = seconds_to_compile(stack.replay.operations, updates)
            if expected_s > most_s:
                return Compiled(spent=spent, failure="it would take too long")
            stack.compile()
            start = _now(prepared)
            step(t)
            compile_s = max(_now(prepared) - start, expected_s)  # less, where it is in torch's cache
            compiled_s = _timed(prepared, lambda more: step(t + 1 + more), TIMES)
            seconds = compile_s, replayed_s / len(unit), compiled_s / len(unit)
            return Compiled(*seconds, spent, stack.replay.not_compiled)
    except Exception as error:
        return Compiled(spent=spent, failure=f"a trial of it failed: {first_sentence(error)}")


def _time_loop(prepared: Prepared, unit: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of the loop in a run of `run` steps of one setting, with evaluation, without reading data."""
    setting = unit[0]
    loop = Loop(prepared, Ran("loop", 1, torch.get_num_threads(), str(prepared.device)))
    built = prepared.build(setting.seed, setting.lr, setting.options)
    batches = prepared.batches(setting.seed, RUNG, setting.options)
    read = iter([finite(batch) for batch in islice(batches, steps * prepared.task.accumulate)])
    seed_all("trial", setting.seed)
    step_s = _timed(prepared, lambda t: loop.step(built, read, setting.lr), steps)
    return step_s + _evaluation_s(prepared, lambda which: prepared.evaluate(built.objective, which, setting.seed), run)


def _time_lanes(prepared: Prepared, unit: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of one of these lanes in a run of `run` steps, with evaluation, without reading data."""
    stack, accumulate = Stack(prepared, unit, compared=frozenset(), alone=len(unit) == 1), prepared.task.accumulate
    read = iter([finite(batch) for batch in islice(stack.batches(RUNG), steps * accumulate)])
    seed_all("trial", stack.seed)
    with quiet(), closing(stack):  # its memory is for the next one
        step_s = _timed(prepared, lambda t: stack.step(list(islice(read, accumulate)), 1.0, t), steps)
        if prepared.task.evaluate is None:
            return (step_s + _evaluation_s(prepared, stack.evaluate, run)) / len(unit)
        lane = stack.lane(0)  # it is called once for each lane, and may be slow
        return step_s / len(unit) + _evaluation_s(
            prepared, lambda which: prepared.evaluate(lane, which, stack.seed), run
        )


def _data_s(prepared: Prepared, samples: Sequence[Sample], run: int) -> dict[str, float]:
    """Seconds per step of one lane that reading data takes, by engine."""
    setting, step = samples[0].unit[0], prepared.task.accumulate
    batches = prepared.batches(setting.seed, RUNG, setting.options, keep=False)
    read: list[Any] = []
    read_s = _timed(prepared, lambda t: read.extend(islice(batches, step)), STEPS)
    step_bytes = sum(t.numel() * t.element_size() for batch in read for t in tensors(batch)) / STEPS
    # The loop shares batches with the setting before where a whole run's stay in memory, lanes throughout.
    kept = run * step_bytes <= CACHE_BYTES
    lanes, loop = 0.0, 0.0
    for sample in samples:
        keys = [prepared.data_key(s) for s in sample.unit]
        lanes += sample.share * len(set(keys)) / len(keys)
        loop += sample.share * (sum(1 for _ in groupby(keys)) / len(keys) if kept else 1.0)
    return {"lanes": read_s * lanes, "loop": read_s * loop}


def _evaluation_s(prepared: Prepared, evaluate: Callable[[tuple[int, ...]], object], run: int) -> float:
    """Seconds of evaluation per step in a run of `run` steps, told from the first of the batches it reads."""
    if (judging := prepared.judging(run)) is None:
        return 0.0
    reads = sum(max(1, len(which)) for which in judging.batches_at.values())
    return reads * _timed(prepared, lambda _: evaluate(judging.final_batches[:1]), 1) / run


def _timed(prepared: Prepared, do: Callable[[int], object], times: int) -> float:
    """The least seconds that a call takes; of several, the first warms up and does not count."""
    seconds = []
    for t in range(times):
        start = _now(prepared)
        do(t)
        seconds.append(_now(prepared) - start)
    return min(seconds[1:] or seconds)


def _now(prepared: Prepared) -> float:
    if prepared.device.type == "cuda":
        torch.cuda.synchronize(prepared.device)
    return time.perf_counter()
