"""Trials: the seconds that a step of one setting takes, as a race or sweep would use each engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import torch

from ..records import Engine as Ran
from .apart import finite
from .base import Setting
from .data import CACHE_BYTES, tensors
from .lanes import Lanes
from .loop import Loop
from .prepared import Prepared
from .randomness import seed_all
from .refusals import first_sentence
from .stack import Stack, quiet, stackable

__all__ = ["STEPS", "WIDTH", "Sample", "Trial", "Tried", "samples_of", "try_out"]

WIDTH = 4  # nearly all of a race is trained by three to six settings at once
ROUNDS = 4  # of trials, at most
STEPS = 3  # of a trial; for lanes two, where the allowance pays for no more
RUNG = -2  # whose batches are used: of its own, so that reading them can be timed


@dataclass(frozen=True)
class Trial:
    """An engine with so many threads, and the seconds per step of one setting; 0 if not measured."""

    engine: str
    threads: int
    lane_step_s: float


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
    engines: Sequence[str],
    samples: Sequence[Sample],
    allowed: float,
    run: int,
    counts: Sequence[int] | None = None,
) -> Tried:
    """Time what the allowance pays for, each engine with one thread and with torch's own number of threads.

    Lanes cost several steps at once, so they come last, with the threads first that were best for the loop. What is
    left of the allowance pays for further rounds, since the least of several times is the surest.

    Args:
        prepared: the checked task.
        engines: what to try, in the order of preference.
        samples: what to train, by `samples_of`; the loop trains one setting of each.
        allowed: training steps that they may take; `inf` for one round, whatever it costs.
        run: steps of a typical run, which the cost of evaluation is spread over.
        counts: threads to try.
    """
    tried, default = Tried([]), torch.get_num_threads()
    if allowed < STEPS * len(samples):
        return tried
    data_s = _data_s(prepared, samples, run)
    if counts is None:
        counts = [1, default] if prepared.device.type == "cpu" and default > 1 else [default]
    seconds: dict[tuple[str, int], float] = {}
    for name in list(engines) * (ROUNDS if math.isfinite(allowed) else 1):
        best = min(seconds, key=lambda key: seconds[key])[1] if seconds else 1
        for threads in sorted(counts, key=lambda count: count != best):
            torch.set_num_threads(threads)
            lanes = sum(len(sample.unit) if name == "lanes" else 1 for sample in samples)
            steps = STEPS if name == "loop" or tried.spent + lanes * STEPS <= allowed else 2
            if tried.spent + lanes * steps > allowed or (name == "lanes" and tried.failure):
                continue
            tried.spent += lanes * steps
            time_it = _time_lanes if name == "lanes" else _time_loop
            try:
                took = math.fsum(sample.share * time_it(prepared, sample.unit, steps, run) for sample in samples)
            except Exception as error:
                if name == "loop":
                    raise
                tried.failure = f"a trial of them failed: {first_sentence(error)}"
                seconds = {key: value for key, value in seconds.items() if key[0] == "loop"}
            else:
                key = name, threads
                seconds[key] = min(seconds.get(key, math.inf), took + data_s[name])
    torch.set_num_threads(default)
    by_preference = sorted(seconds, key=lambda key: (engines.index(key[0]), key[1]))
    tried.trials = [Trial(*key, seconds[key]) for key in by_preference]
    return tried


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
    stack, accumulate = Stack(prepared, unit), prepared.task.accumulate
    read = iter([finite(batch) for batch in islice(stack.batches(RUNG), steps * accumulate)])
    seed_all("trial", stack.seed)
    with quiet():
        step_s = _timed(prepared, lambda t: stack.step(list(islice(read, accumulate)), 1.0, t), steps)
        return (step_s + _evaluation_s(prepared, stack.evaluate, run)) / len(unit)


def _data_s(prepared: Prepared, samples: Sequence[Sample], run: int) -> dict[str, float]:
    """Seconds per step of one lane that reading data takes, by engine."""
    setting, step = samples[0].unit[0], prepared.task.accumulate
    batches = prepared.batches(setting.seed, RUNG, setting.options)
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
