"""Trials: the seconds that a step of one setting takes, as a race or sweep would use each engine."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from ..records import Engine as Ran
from .base import Setting
from .data import CACHE_BYTES, tensors
from .loop import Loop
from .prepared import Prepared
from .randomness import seed_all
from .refusals import first_sentence
from .stack import Stack, quiet

__all__ = ["STEPS", "WIDTH", "Trial", "Tried", "try_out"]

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


def try_out(
    prepared: Prepared,
    engines: Sequence[str],
    seed: int,
    allowed: float,
    width: int,
    run: int,
    counts: Sequence[int] | None = None,
) -> Tried:
    """Time what the allowance pays for, each engine with one thread and with torch's own number of threads.

    Lanes cost several steps at once, so they come last, with the threads first that were best for the loop. What is
    left of the allowance pays for further rounds, since the least of several times is the surest.

    Args:
        prepared: the checked task.
        engines: what to try, in the order of preference.
        seed: the seed of the trials.
        allowed: training steps that they may take; `inf` for one round, whatever it costs.
        width: lanes at once.
        run: steps of a typical run, which the cost of evaluation is spread over.
        counts: threads to try.
    """
    tried, default = Tried([]), torch.get_num_threads()
    if allowed < STEPS:
        return tried
    data_s = _data_s(prepared, seed, run, width)
    if counts is None:
        counts = [1, default] if prepared.device.type == "cpu" and default > 1 else [default]
    seconds: dict[tuple[str, int], float] = {}
    for name in list(engines) * (ROUNDS if math.isfinite(allowed) else 1):
        best = min(seconds, key=lambda key: seconds[key])[1] if seconds else 1
        for threads in sorted(counts, key=lambda count: count != best):
            torch.set_num_threads(threads)
            lanes = width if name == "lanes" else 1
            steps = STEPS if name == "loop" or tried.spent + lanes * STEPS <= allowed else 2
            if tried.spent + lanes * steps > allowed or (name == "lanes" and tried.failure):
                continue
            tried.spent += lanes * steps
            try:
                took = (_time_lanes if name == "lanes" else _time_loop)(prepared, _lanes(seed, lanes), steps, run)
            except Exception as error:
                if name == "loop":
                    raise
                tried.failure = f"a trial of them failed: {first_sentence(error)}"
                seconds = {key: value for key, value in seconds.items() if key[0] == "loop"}
            else:
                key = name, threads
                seconds[key] = min(seconds.get(key, math.inf), took / lanes + data_s[name])
    torch.set_num_threads(default)
    by_preference = sorted(seconds, key=lambda key: (engines.index(key[0]), key[1]))
    tried.trials = [Trial(*key, seconds[key]) for key in by_preference]
    return tried


def _time_loop(prepared: Prepared, settings: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of the loop in a run of `run` steps, with evaluation, without reading data."""
    (setting,) = settings
    loop = Loop(prepared, Ran("loop", 1, torch.get_num_threads(), str(prepared.device)))
    built = prepared.build(setting.seed, setting.lr)
    batches = prepared.batches(setting.seed, RUNG)
    seed_all("trial", setting.seed)
    step_s = _timed(prepared, lambda t: loop.step(built, batches, setting.lr), steps)
    return step_s + _evaluation_s(prepared, lambda which: prepared.evaluate(built.objective, which, setting.seed), run)


def _time_lanes(prepared: Prepared, settings: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of all these lanes in a run of `run` steps, with evaluation, without reading data."""
    stack = Stack(prepared, settings)
    batches = prepared.batches(stack.seed, RUNG)
    seed_all("trial", stack.seed)
    accumulate = prepared.task.accumulate
    with quiet():
        step_s = _timed(prepared, lambda t: stack.step(list(islice(batches, accumulate)), 1.0, t), steps)
        return step_s + _evaluation_s(prepared, stack.evaluate, run)


def _data_s(prepared: Prepared, seed: int, run: int, width: int) -> dict[str, float]:
    """Seconds per step of one lane that reading data takes, by engine; the trials after it find theirs in memory."""
    batches, step = prepared.batches(seed, RUNG), prepared.task.accumulate
    read: list[Any] = []
    read_s = _timed(prepared, lambda t: read.extend(islice(batches, step)), STEPS)
    step_bytes = sum(t.numel() * t.element_size() for batch in read for t in tensors(batch)) / STEPS
    shared_s = read_s / width
    # The loop shares batches as lanes do where a whole run's stay in memory.
    return {"lanes": shared_s, "loop": shared_s if run * step_bytes <= CACHE_BYTES else read_s}


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


def _lanes(seed: int, lanes: int) -> list[Setting]:
    return [Setting(seed, 1e-4 * 1.1**i) for i in range(lanes)]
