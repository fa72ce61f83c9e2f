"""Which engine trains a task: what was asked for, or what a few measured steps show to be fastest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import OptionError
from ..records import Engine as Ran
from .base import Setting
from .lanes import Lanes, Stack, quiet, refusal, refuse
from .loop import Loop
from .prepared import Prepared
from .randomness import seed_all

__all__ = ["Chosen", "as_device", "choose", "rebuild_engine"]

ENGINES = ("auto", "lanes", "loop")
CHUNK = 32  # lanes at once, at most
STACK_BYTES = 2 * 2**30  # for parameters, gradients and state of one stack
ALLOWANCE = 0.04  # of the training steps to come may be spent on trials
GAIN = 1.1  # more threads, and lanes, must be faster by this to be worth their risk


@dataclass(frozen=True)
class Chosen:
    """An engine, the training steps that choosing it took, and seconds per step of one lane (0 if not measured)."""

    engine: Loop | Lanes
    trial_steps: int
    step_s: float


@dataclass(frozen=True)
class _Trial:
    engine: str
    threads: int
    lane_step_s: float


def as_device(device: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises:
        OptionError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(
            f"device {device!r} cannot be used: {str(error).splitlines()[0]}",
            "Give 'auto' or 'cpu', or a device at hand.",
        ) from error


def choose(prepared: Prepared, asked: str, seed: int, steps_to_come: float, *, time_it: bool = False) -> Chosen:
    """The engine for a race or sweep of `steps_to_come` training steps.

    Args:
        prepared: the checked task.
        asked: "auto", "lanes" or "loop"; an explicit engine never falls back.
        seed: the seed of the trials.
        steps_to_come: the budget in training steps; trials take at most 4% of it.
        time_it: measure the step even where there is nothing to choose (for a budget in minutes).

    Raises:
        OptionError: an unknown engine.
        EngineError: lanes were asked for and cannot train the task.
    """
    if asked not in ENGINES:
        raise OptionError(f"engine {asked!r} is unknown.", f"Give one of {', '.join(ENGINES)}.")
    threads = torch.get_num_threads()
    reason = refusal(prepared, _lanes(seed, 2), seed) if asked != "loop" else "the loop was asked for"
    if asked == "lanes" and reason is not None:
        raise refuse(reason)
    if asked == "loop" or reason is not None:
        allowed = steps_to_come * ALLOWANCE if asked == "auto" else 0
        trials, spent = _try(prepared, ["loop"], seed, max(allowed, 3 * time_it))
        why = reason if asked == "loop" else f"lanes cannot: {reason}"
    elif asked == "lanes":
        trials, spent = _try(prepared, ["lanes"], seed, 24 * time_it)
        why = "lanes were asked for"
    else:
        trials, spent = _try(prepared, ["loop", "lanes"], seed, steps_to_come * ALLOWANCE)
        why = ""
    best = _fastest(trials)
    if best is None:  # nothing could be measured
        small = _size(prepared, seed) < 2**16
        name = asked if asked != "auto" else "lanes" if reason is None and small else "loop"
        why = why or f"too short to measure, and the model is {'small' if small else 'large'}"
        ran = _ran(prepared, name, 1 if small and asked == "auto" else threads, why, seed)
        return Chosen(rebuild_engine(prepared, ran), spent, 0.0)
    if not why:
        other = min((t.lane_step_s for t in trials if t.engine != best.engine), default=None)
        rival = "the loop" if best.engine == "lanes" else "lanes"
        why = f"{other / best.lane_step_s:.1f}× {rival}, measured" if other else "measured"
    ran = _ran(prepared, best.engine, best.threads, why, seed)
    return Chosen(rebuild_engine(prepared, ran), spent, best.lane_step_s)


def rebuild_engine(prepared: Prepared, ran: Ran) -> Loop | Lanes:
    """The engine that a record names."""
    return Lanes(prepared, ran) if ran.engine == "lanes" else Loop(prepared, ran)


def _try(prepared: Prepared, engines: Sequence[str], seed: int, allowed: float) -> tuple[list[_Trial], int]:
    """Time what the allowance pays for: with one thread first, then with torch's own number of threads."""
    trials: list[_Trial] = []
    spent, default = 0, torch.get_num_threads()
    for threads in dict.fromkeys((1, default) if prepared.device.type == "cpu" else (default,)):
        torch.set_num_threads(threads)
        for name in engines:
            for lanes, steps in ((8, 3), (4, 2)) if name == "lanes" else ((1, 3),):
                if spent + lanes * steps <= allowed:
                    seconds = (
                        _time_lanes(prepared, seed, lanes, steps)
                        if name == "lanes"
                        else _time_loop(prepared, seed, steps)
                    )
                    trials.append(_Trial(name, threads, seconds / lanes))
                    spent += lanes * steps
                    break
    torch.set_num_threads(default)
    return trials, spent


def _fastest(trials: Sequence[_Trial]) -> _Trial | None:
    best: _Trial | None = None
    for trial in trials:  # in the order of preference: the loop before lanes, one thread before many
        if best is None or trial.lane_step_s * GAIN < best.lane_step_s:
            best = trial
    return best


def _time_lanes(prepared: Prepared, seed: int, lanes: int, steps: int) -> float:
    stack = Stack(prepared, _lanes(seed, lanes))
    batches = prepared.batches(seed, -1)
    seed_all("trial", seed)
    times = []
    with quiet():
        for t in range(steps):  # the first warms up
            step = [next(batches) for _ in range(prepared.task.accumulate)]
            start = _now(prepared)
            stack.step(step, 1.0, t)
            times.append(_now(prepared) - start)
    return min(times[1:])


def _time_loop(prepared: Prepared, seed: int, steps: int) -> float:
    built = prepared.build(seed, 1e-4)
    batches = prepared.batches(seed, -1)
    seed_all("trial", seed)
    times = []
    for _ in range(steps):  # the first warms up
        step = [next(batches) for _ in range(prepared.task.accumulate)]
        start = _now(prepared)
        built.optimizer.zero_grad()
        for batch in step:
            with prepared.autocast():
                loss = built.objective(batch)
            loss.backward()
            loss.item()
        built.optimizer.step()
        times.append(_now(prepared) - start)
    return min(times[1:])


def _now(prepared: Prepared) -> float:
    if prepared.device.type == "cuda":
        torch.cuda.synchronize(prepared.device)
    return time.perf_counter()


def _lanes(seed: int, lanes: int) -> list[Setting]:
    return [Setting(seed, 1e-4 * 1.1**i) for i in range(lanes)]


def _size(prepared: Prepared, seed: int) -> int:
    return sum(q.numel() for q in prepared.model(seed).parameters())


def _ran(prepared: Prepared, name: str, threads: int, why: str, seed: int) -> Ran:
    stack_bytes = 4 * 6 * _size(prepared, seed)  # parameters, gradients, two states and two passing copies
    chunk = max(1, min(CHUNK, STACK_BYTES // stack_bytes)) if name == "lanes" else 1
    return Ran(name, chunk, threads, str(prepared.device), why)
