"""Which engine trains a task: what was asked for, or what a few measured steps show to be fastest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..errors import EtascopeError, OptionError
from ..records import Engine as Ran
from .base import Setting, Tick
from .compiled import seconds_to_compile
from .lanes import Lanes
from .loop import Loop
from .memory import Need, need_of
from .prepared import Prepared
from .randomness import start_cuda
from .refusals import refusal, refuse
from .trials import LIMIT_S, STEPS, TIMES, WIDTH, Kind, Sample, Trial, Tried, samples_of, try_compiled, try_out
from .workers import Ahead, Pool, Workers, cores, sendable

__all__ = ["Chosen", "as_device", "choose", "rebuild_engine", "start_ahead"]

ENGINES = ("auto", "lanes", "loop")
CHUNK = 32  # lanes at once, at most
CPU_CACHE_BYTES = 2**25  # about what the last level holds
STACK_BYTES = 2 * 2**30  # for parameters, gradients, state and activations of one stack
ALLOWANCE = 0.04  # of the training steps to come may be spent on trials
FIRST_LOOK = 10  # times the steps of a trial of the loop that the allowance must be, to spend one on a first look
AHEAD_STEPS = 2000  # to come: processes then import torch while this one does, in case they are worth it
WORTH_STARTING_S = 30  # of training to come by the loop: then processes are started, which takes them some seconds
WORTH_PROCESSES_S = 8  # of training to come by the fastest of one process: then several are tried
AGAIN_S = 0.5  # after which no further trial begins, where there are trials in several processes too
GAIN = 1.05  # lanes, and processes, must be faster by this to be worth their risk
ENOUGH = 0.75  # of as many times as there are processes: then threads, which hardly reach as much, are not tried
COMPILE_TIMES = 50  # the seconds of compiling that the training to come must take: a trial of it is 2% at most
PAYS = 3  # times the seconds of compiling that a compiled stack must win back
THREADS_GAIN = 1.3  # more threads by this: they wait for each other, on a busy machine far longer than trials show


@dataclass(frozen=True)
class Chosen:
    """An engine, the training steps that choosing it took, and seconds per step of one lane (0 if not measured)."""

    engine: Loop | Lanes | Workers
    trial_steps: int
    step_s: float


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


def choose(
    prepared: Prepared,
    asked: str,
    seed: int,
    steps_to_come: float,
    *,
    time_it: bool = False,
    within_s: float = math.inf,
    settings: Sequence[Setting] = (),
    ahead: Ahead | None = None,
) -> Chosen:
    """The engine for a race or sweep of `steps_to_come` training steps.

    Args:
        prepared: the checked task.
        asked: "auto", "lanes" or "loop"; an explicit engine never falls back.
        seed: the seed of the trials.
        steps_to_come: the budget in training steps; trials take at most 4% of it.
        time_it: measure the step even where there is nothing to choose (for a budget in minutes).
        within_s: seconds that it may all take, as far as these are known.
        settings: what is to be trained, where that is known; else a few lrs at a time.
        ahead: what `start_ahead` gave.

    Raises:
        OptionError: an unknown engine.
        EngineError: lanes were asked for and cannot train the task.
    """
    if asked not in ENGINES:
        raise OptionError(f"engine {asked!r} is unknown.", f"Give one of {', '.join(ENGINES)}.")
    choice = _Choice(prepared, asked, seed, steps_to_come, settings, time_it=time_it, within_s=within_s)
    return choice.made(ahead)


def start_ahead(prepared: Prepared | None, asked: str, steps_to_come: float, settings: Sequence[Setting]) -> Ahead:
    """Processes that import torch while the task is checked, where they may be worth it; for `choose` to take."""
    may_be = prepared is not None and asked == "auto" and steps_to_come >= AHEAD_STEPS
    count = min(WIDTH, _processes(prepared, settings)) - 1 if prepared is not None and may_be else 0
    return Ahead(count)  # a pool starts the others, if it comes to that


def _processes(prepared: Prepared, settings: Sequence[Setting]) -> int:
    """How many processes could train at the same time."""
    return min(cores(), len(settings) or WIDTH) if prepared.device.type == "cpu" else 1


class _Choice:
    """One choice: first the fastest engine of one process, then several processes, or threads, and compiling."""

    def __init__(
        self,
        prepared: Prepared,
        asked: str,
        seed: int,
        steps_to_come: float,
        settings: Sequence[Setting],
        *,
        time_it: bool,
        within_s: float,
    ) -> None:
        self.prepared, self.asked, self.seed, self.settings = prepared, asked, seed, settings
        self.within_s = within_s
        self.steps_to_come, self.run = steps_to_come, _typical_run(prepared, steps_to_come)
        self.refused = None if asked == "loop" else refusal(prepared, seed, settings)
        if asked == "lanes" and self.refused is not None:
            raise refuse(self.refused)
        seeds = sorted({seed, *(s.seed for s in settings)})
        self.need = None if asked == "loop" or self.refused else need_of(prepared, seeds)
        self.kinds = _kinds(asked, self.refused, self.chunk())
        self.allowed = math.inf if time_it else 0.0  # training steps
        if asked == "auto":
            self.allowed = max(steps_to_come * ALLOWANCE, STEPS * time_it)

    def chunk(self, processes: int = 1) -> int:
        """Lanes at once, in each of so many processes."""
        return 1 if self.need is None else _chunk(self.prepared, self.need, processes)

    def samples(self, chunk: int) -> list[Sample]:
        """What trials train, with so many lanes at once."""
        return samples_of(self.prepared, self.settings, self.seed, chunk)

    def made(self, ahead: Ahead | None) -> Chosen:
        """The choice."""
        samples = self.samples(self.chunk())
        pool, looked = self._early_pool(samples, ahead) if self.asked == "auto" else ("", 0)
        if ahead is not None:
            ahead.close()  # or they would disturb the trials
        try:
            alone = self._alone(samples, looked, others_come=isinstance(pool, Pool))
            chosen = _said(alone, pool) if isinstance(pool, str) else self._side_by_side(alone, pool)
            return self._compiled(chosen) if self.asked == "auto" else chosen
        except BaseException:
            if isinstance(pool, Pool):
                pool.close()
            raise

    def _early_pool(self, samples: Sequence[Sample], ahead: Ahead | None) -> tuple[Pool | str, int]:
        """Processes to train beside this one, that start while trials go on here; and the steps taken to decide it.

        Or why there are none, which may go without saying. They are worth it where the loop has so much to train that
        even lanes may have some seconds of it.
        """
        count = _processes(self.prepared, self.settings)
        if count == 1 or self.allowed < FIRST_LOOK * STEPS * len(samples):
            return "", 0
        look = try_out(self.prepared, [("loop", 1)], samples, STEPS * len(samples), self.run, counts=(1,))
        if look.trials[0].lane_step_s * self.steps_to_come < WORTH_STARTING_S:
            return "", look.spent
        payload = sendable(self.prepared, self.settings)
        if isinstance(payload, str):
            return payload, look.spent
        try:
            return Pool(payload, str(self.prepared.device), count - 1, ahead), look.spent
        except OSError as error:
            return f"no other can be started ({error})", look.spent

    def _alone(self, samples: Sequence[Sample], looked: int, *, others_come: bool) -> Chosen:
        """The fastest engine of one process, after so many steps of a first look."""
        # With others to come, half is for trials of all, and threads are tried after them, on idle cores.
        share, counts, limit_s = (0.5, (1,), AGAIN_S) if others_come else (1.0, None, LIMIT_S)
        tried = try_out(
            self.prepared, self.kinds, samples, share * (self.allowed - looked), self.run,
            to_come=self.steps_to_come, counts=counts, limit_s=limit_s,
        )  # fmt: skip
        if self.asked == "lanes" and tried.failure is not None:
            raise refuse(tried.failure)
        reason, best = self.refused or tried.failure, _fastest(tried.trials)
        if self.asked != "auto":
            why = "the loop was asked for" if self.asked == "loop" else "lanes were asked for"
        elif reason is not None:
            why = f"lanes cannot: {reason}"
        else:
            why = _measured(best, tried.trials) if best else ""
        if best is None:
            best, unmeasured = _guess(self.prepared, self.asked, reason, self.seed, self.chunk())
            why = why or unmeasured
        ran = Ran(best.engine, best.chunk, best.threads, str(self.prepared.device), why)
        return Chosen(rebuild_engine(self.prepared, ran), looked + tried.spent, best.lane_step_s)

    def _side_by_side(self, alone: Chosen, pool: Pool) -> Chosen:
        """Several processes, where trials at the same time in each show that they are faster than `alone`."""
        count, width, one = len(pool) + 1, len(self.settings) or WIDTH, alone.engine.ran

        def in_one(reason: str = "") -> Chosen:
            pool.close()
            return _said(self._with_threads(alone), reason)

        if alone.step_s * self.steps_to_come < WORTH_PROCESSES_S:
            return in_one()
        if (reason := pool.greet()) is not None:
            return in_one(reason)
        chunk = min(self.chunk(count), math.ceil(width / count))
        is_stack = one.chunk > 1
        shared = list(dict.fromkeys((name, min(size, chunk)) for name, size in self.kinds if (size > 1) == is_stack))
        left = max(self.allowed - alone.trial_steps, 0.0) / count
        asked = {"kinds": shared, "samples": self.samples(chunk), "allowed": left, "run": self.run}
        asked |= {"counts": (1,), "limit_s": AGAIN_S}

        def here(job: tuple[str, Any], tick: Tick) -> Tried:
            return try_out(self.prepared, **job[1])

        try:
            tried: list[Tried] = [answer for _, answer in pool.ask([("trial", asked)] * count, lambda *_: None, here)]
        except EtascopeError as error:  # one process has shown that it can
            return in_one(error.cause.splitlines()[0].rstrip("."))
        alone = replace(alone, trial_steps=alone.trial_steps + sum(t.spent for t in tried))
        took = {
            kind: sum(t.lane_step_s for one in tried for t in one.trials if t.kind == kind) / count**2
            for kind in shared
            if all(kind in {t.kind for t in one.trials} for one in tried)
        }
        best = min(took, key=lambda kind: took[kind], default=None)
        if best is None or took[best] * GAIN >= alone.step_s:
            return in_one(f"{count} were no faster" if best else f"too few steps to try {count}")
        speedup = alone.step_s / took[best]
        if speedup < ENOUGH * count:
            threaded = self._with_threads(alone)
            if threaded.engine.ran.threads > 1 and threaded.step_s * GAIN < took[best]:
                pool.close()
                return _said(threaded, f"{count} were slower than its threads")
            alone = replace(alone, trial_steps=threaded.trial_steps)
        ran = Ran(*best, 1, str(self.prepared.device), "", count)
        if best[0] == one.engine:
            why = f"{one.why}; {count} processes {speedup:.1f}× one"
        else:
            why = f"{count} processes of {ran.name} {speedup:.1f}× one of {one.name}, measured"
        return Chosen(Workers(self.prepared, replace(ran, why=why), pool), alone.trial_steps, took[best])

    def _with_threads(self, alone: Chosen) -> Chosen:
        """The choice of one process with one thread, or with torch's own number, where trials show it faster."""
        ran, threads = alone.engine.ran, torch.get_num_threads()
        left = self.allowed - alone.trial_steps
        if threads == 1 or ran.threads > 1 or alone.step_s == 0 or left <= 0:
            return alone
        kinds, samples = [(ran.engine, ran.chunk)], self.samples(ran.chunk)
        tried = try_out(self.prepared, kinds, samples, left, self.run, counts=(threads,), limit_s=AGAIN_S)
        spent, step_s = alone.trial_steps + tried.spent, min((t.lane_step_s for t in tried.trials), default=math.inf)
        if step_s * THREADS_GAIN >= alone.step_s:
            return replace(alone, trial_steps=spent)
        why = f"{ran.why}; {threads} threads {alone.step_s / step_s:.1f}× one"
        return Chosen(rebuild_engine(self.prepared, replace(ran, threads=threads, why=why)), spent, step_s)

    def _compiled(self, chosen: Chosen) -> Chosen:
        """The choice with its longer stacks compiled, where so much is to come that a trial of it costs little."""
        ran, threads = chosen.engine.ran, torch.get_num_threads()
        most_s = min(chosen.step_s * self.steps_to_come, self.within_s) / COMPILE_TIMES
        if ran.engine != "lanes" or self.prepared.task.precision != "fp32" or seconds_to_compile(0) > most_s:
            return chosen
        if self.prepared.device.type == "cpu" and ran.threads > 1:  # kernels that scatter then add in any order
            return chosen
        unit = self.samples(ran.chunk)[0].unit[: ran.chunk]
        if (2 * TIMES + 1) * len(unit) > self.allowed - chosen.trial_steps:
            return chosen
        torch.set_num_threads(ran.threads)
        try:
            tried = try_compiled(self.prepared, unit, most_s)
        finally:
            torch.set_num_threads(threads)
        chosen = replace(chosen, trial_steps=chosen.trial_steps + tried.spent)
        if tried.failure or tried.compiled_s * GAIN >= tried.replayed_s:
            return chosen
        pays_from = math.ceil(PAYS * tried.compile_s / (tried.replayed_s - tried.compiled_s))
        if pays_from > self.prepared.horizon * len(unit):
            return chosen
        gain = tried.replayed_s / tried.compiled_s
        ran = replace(ran, compile_from=pays_from, why=f"{ran.why}; compiled {gain:.1f}× as recorded")
        several = chosen.engine if isinstance(chosen.engine, Workers) else None
        engine = several.under(ran) if several else rebuild_engine(self.prepared, ran)
        # Of a race it is not known how much of it will be in stacks that are long enough.
        return Chosen(engine, chosen.trial_steps, chosen.step_s / gain if self.settings else chosen.step_s)


def _said(alone: Chosen, reason: str) -> Chosen:
    """The choice of one process, with the reason why there are not several."""
    if reason:
        ran = alone.engine.ran
        alone.engine.ran = replace(ran, why=f"{ran.why}; one process: {reason}" if ran.why else reason)
    return alone


def _kinds(asked: str, reason: str | None, chunk: int) -> list[Kind]:
    """What may train, in the order of preference: the loop before lanes one at a time, and these before a stack."""
    lanes = [("lanes", size) for size in sorted({1, chunk})]
    if asked != "auto":
        return [("loop", 1)] if asked == "loop" else lanes[-1:]
    return [("loop", 1), *(lanes if reason is None else [])]


def rebuild_engine(prepared: Prepared, ran: Ran) -> Loop | Lanes | Workers:
    """The engine that a record names."""
    if ran.workers > 1:
        return Workers(prepared, ran)
    return Lanes(prepared, ran) if ran.engine == "lanes" else Loop(prepared, ran)


def _fastest(trials: Sequence[Trial]) -> Trial | None:
    best: Trial | None = None
    for trial in trials:  # in the order of preference: the loop before lanes, one thread before many
        gain = THREADS_GAIN if best is not None and trial.threads > best.threads else GAIN
        if best is None or trial.lane_step_s * gain < best.lane_step_s:
            best = trial
    return best


def _measured(best: Trial, trials: Sequence[Trial]) -> str:
    """Why the fastest was taken."""
    other = min((t.lane_step_s for t in trials if t.engine != best.engine), default=None)
    rival = "the loop" if best.engine == "lanes" else "lanes"
    if other is None:
        return "measured"
    ratio = other / best.lane_step_s
    return f"{ratio:.1f}× {rival}, measured" if ratio > GAIN else f"as fast as {rival}, measured"


def _guess(prepared: Prepared, asked: str, reason: str | None, seed: int, chunk: int) -> tuple[Trial, str]:
    """What to take where nothing could be measured, and why."""
    small = sum(q.numel() for q in prepared.model(seed).parameters()) < 2**16
    name = asked if asked != "auto" else "lanes" if reason is None and small else "loop"
    threads = 1 if small and asked == "auto" else torch.get_num_threads()
    at_once = chunk if name == "lanes" else 1
    return Trial(name, at_once, threads, 0.0), f"too short to measure, and the model is {'small' if small else 'large'}"


def _typical_run(prepared: Prepared, steps_to_come: float) -> int:
    """Steps of the runs that most of the training goes into: a race spends half of its steps on three settings."""
    return max(1, min(prepared.horizon, round(steps_to_come / 7)))


def _chunk(prepared: Prepared, need: Need, processes: int = 1) -> int:
    """Lanes at once, so that they fit into memory.

    On a CPU they should fit into its cache, past which a wide stack is slower than several (`benchmarks/lanes.py`).
    """
    fast = max(WIDTH, CPU_CACHE_BYTES // need.lane) if prepared.device.type == "cpu" else CHUNK
    return min(CHUNK, need.lanes(STACK_BYTES // processes), fast)
