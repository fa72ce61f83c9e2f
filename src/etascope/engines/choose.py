"""Which engine trains a task: what was asked for, or what a few measured steps show to be fastest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..records import Engine as Ran
from .base import Setting
from .data import CACHE_BYTES, tensors
from .lanes import Lanes, Stack, first_sentence, quiet, refusal, refuse
from .loop import Loop
from .prepared import Prepared, user_code
from .randomness import kept, seed_all, start_cuda

__all__ = ["Chosen", "as_device", "choose", "rebuild_engine"]

ENGINES = ("auto", "lanes", "loop")
CHUNK = 32  # lanes at once, at most
STACK_BYTES = 2 * 2**30  # for parameters, gradients, state and activations of one stack
TRIAL_LANES = 4  # nearly all of a race is trained by three to six settings at once
TRIAL = -2  # the rung whose batches they use: of its own, so that reading them can be timed
TRIAL_STEPS = 3  # of a trial; two where the allowance pays for no more
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
    lane_step_s: float  # 0 if not measured


def as_device(device: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one.

    Raises:
        OptionError: there is no such device.
    """
    if device == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        if torch.device(device).type == "cuda":
            start_cuda()
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
    reason = None if asked == "loop" else refusal(prepared, seed)
    if asked == "lanes" and reason is not None:
        raise refuse(reason)
    chunk = 1 if asked == "loop" or reason else _chunk(prepared, seed)
    if asked == "auto":
        engines = ["loop", "lanes"] if reason is None else ["loop"]
        allowed = max(steps_to_come * ALLOWANCE, TRIAL_STEPS * time_it)
    else:
        engines, allowed = [asked], math.inf if time_it else 0
    tried = _try(prepared, engines, seed, allowed, chunk, _typical_run(prepared, steps_to_come))
    if asked == "lanes" and tried.failure is not None:
        raise refuse(tried.failure)

    reason, best = reason or tried.failure, _fastest(tried.trials)
    if asked != "auto":
        why = "the loop was asked for" if asked == "loop" else "lanes were asked for"
    elif reason is not None:
        why = f"lanes cannot: {reason}"
    else:
        why = _measured(best, tried.trials) if best else ""
    if best is None:
        best, unmeasured = _guess(prepared, asked, reason, seed)
        why = why or unmeasured
    ran = Ran(best.engine, chunk if best.engine == "lanes" else 1, best.threads, str(prepared.device), why)
    return Chosen(rebuild_engine(prepared, ran), tried.spent, best.lane_step_s)


def rebuild_engine(prepared: Prepared, ran: Ran) -> Loop | Lanes:
    """The engine that a record names."""
    return Lanes(prepared, ran) if ran.engine == "lanes" else Loop(prepared, ran)


@dataclass
class _Tried:
    """What the trials showed, the training steps they took, and why lanes failed where they did."""

    trials: list[_Trial]
    spent: int = 0
    failure: str | None = None


def _try(prepared: Prepared, engines: Sequence[str], seed: int, allowed: float, chunk: int, run: int) -> _Tried:
    """Time what the allowance pays for: with one thread first, then with torch's own number of threads."""
    tried, default = _Tried([]), torch.get_num_threads()
    if allowed < TRIAL_STEPS:
        return tried
    data_s = _data_s(prepared, seed, run)
    for threads in dict.fromkeys((1, default) if prepared.device.type == "cpu" else (default,)):
        torch.set_num_threads(threads)
        for name in engines:
            lanes = min(TRIAL_LANES, chunk) if name == "lanes" else 1
            steps = TRIAL_STEPS
            if name == "lanes" and tried.spent + lanes * steps > allowed:
                steps = 2
            if tried.spent + lanes * steps > allowed or (name == "lanes" and tried.failure):
                continue
            tried.spent += lanes * steps
            try:
                seconds = (_time_lanes if name == "lanes" else _time_loop)(prepared, _lanes(seed, lanes), steps, run)
            except Exception as error:
                if name == "loop":
                    raise
                tried.failure = f"a trial of them failed: {first_sentence(error)}"
                tried.trials = [trial for trial in tried.trials if trial.engine == "loop"]
            else:
                tried.trials.append(_Trial(name, threads, seconds / lanes + data_s[name]))
    torch.set_num_threads(default)
    return tried


def _fastest(trials: Sequence[_Trial]) -> _Trial | None:
    best: _Trial | None = None
    for trial in trials:  # in the order of preference: the loop before lanes, one thread before many
        if best is None or trial.lane_step_s * GAIN < best.lane_step_s:
            best = trial
    return best


def _measured(best: _Trial, trials: Sequence[_Trial]) -> str:
    """Why the fastest was taken."""
    other = min((t.lane_step_s for t in trials if t.engine != best.engine), default=None)
    rival = "the loop" if best.engine == "lanes" else "lanes"
    return f"{other / best.lane_step_s:.1f}× {rival}, measured" if other else "measured"


def _guess(prepared: Prepared, asked: str, reason: str | None, seed: int) -> tuple[_Trial, str]:
    """What to take where nothing could be measured, and why."""
    small = sum(q.numel() for q in prepared.model(seed).parameters()) < 2**16
    name = asked if asked != "auto" else "lanes" if reason is None and small else "loop"
    threads = 1 if small and asked == "auto" else torch.get_num_threads()
    return _Trial(name, threads, 0.0), f"too short to measure, and the model is {'small' if small else 'large'}"


def _time_loop(prepared: Prepared, settings: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of the loop in a run of `run` steps, with evaluation, without reading data."""
    (setting,) = settings
    loop = Loop(prepared, Ran("loop", 1, torch.get_num_threads(), str(prepared.device)))
    built = prepared.build(setting.seed, setting.lr)
    batches = prepared.batches(setting.seed, TRIAL)
    seed_all("trial", setting.seed)
    step_s = _timed(prepared, lambda t: loop.step(built, batches, setting.lr), steps)
    return step_s + _evaluation_s(prepared, lambda which: prepared.evaluate(built.objective, which, setting.seed), run)


def _time_lanes(prepared: Prepared, settings: Sequence[Setting], steps: int, run: int) -> float:
    """Seconds per step of all these lanes in a run of `run` steps, with evaluation, without reading data."""
    stack = Stack(prepared, settings)
    batches = prepared.batches(stack.seed, TRIAL)
    seed_all("trial", stack.seed)
    accumulate = prepared.task.accumulate
    with quiet():
        step_s = _timed(prepared, lambda t: stack.step(list(islice(batches, accumulate)), 1.0, t), steps)
        return step_s + _evaluation_s(prepared, stack.evaluate, run)


def _data_s(prepared: Prepared, seed: int, run: int) -> dict[str, float]:
    """Seconds per step of one lane that reading data takes, by engine; the trials after it find theirs in memory."""
    batches, step = prepared.batches(seed, TRIAL), prepared.task.accumulate
    read: list[Any] = []
    read_s = _timed(prepared, lambda t: read.extend(islice(batches, step)), TRIAL_STEPS)
    step_bytes = sum(t.numel() * t.element_size() for batch in read for t in tensors(batch)) / TRIAL_STEPS
    shared_s = read_s / TRIAL_LANES
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


def _typical_run(prepared: Prepared, steps_to_come: float) -> int:
    """Steps of the runs that most of the training goes into: a race spends half of its steps on three settings."""
    return max(1, min(prepared.horizon, round(steps_to_come / 7)))


def _lanes(seed: int, lanes: int) -> list[Setting]:
    return [Setting(seed, 1e-4 * 1.1**i) for i in range(lanes)]


def _chunk(prepared: Prepared, seed: int) -> int:
    """Lanes at once, so that their parameters, gradients and states, and what backward needs, fit into memory."""
    model_bytes = sum(q.numel() * q.element_size() for q in prepared.model(seed).parameters())
    # six of the model: parameters, gradients, two states and two passing copies; activations and their gradients
    return int(max(1, min(CHUNK, STACK_BYTES // (6 * model_bytes + 2 * _activation_bytes(prepared, seed)))))


def _activation_bytes(prepared: Prepared, seed: int) -> int:
    """Bytes that one forward pass keeps for its gradient, beside the model."""
    with kept(), user_code("loss"):
        objective, batch = prepared.objective(seed), next(prepared.batches(seed, -1))
        saved: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.layout == torch.strided:
                storage = tensor.untyped_storage()
                saved[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # held by the graph, so that no address is used twice

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            _ = objective(batch)
    for own in (*objective.parameters(), *objective.buffers()):
        saved.pop(own.untyped_storage().data_ptr(), None)
    return sum(saved.values())
