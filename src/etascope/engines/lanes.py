"""The lane engine: many settings as one stack, and what to do when a part of it fails.

A lane that becomes non-finite, or raises, is recorded with its step, then set to its init and left to run idle, since
a smaller stack would change the others' noise. Where memory runs out, the stack is halved and begun again.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..errors import TaskError
from ..records import Curve
from ..records import Engine as Ran
from .base import Facts, OneByOne, Setting, Tick, Told, Trained
from .blame import out_of_memory
from .effective import EffectiveLr
from .loop import TICK, finished
from .prepared import Prepared
from .randomness import seed_all
from .replay import BRIEF, THOROUGH, Drifted
from .stack import Stack, quiet, stackable

__all__ = ["Lanes"]

NO_VIEW = "view size is not compatible"  # what torch says where channels are last, and a model views them otherwise
FEW = 4  # lanes of fewer than these that share their data are stacked with others


class Lanes(OneByOne):
    """Trains up to `ran.chunk` settings as one."""

    def __init__(self, prepared: Prepared, ran: Ran) -> None:
        self.prepared, self.ran = prepared, ran
        self._most = ran.chunk  # less, once memory has run out
        self._replays = True  # until a recording drifts from what the model does
        self._proven = False  # until a whole training has shown that they do not
        self._stack: Stack | None = None  # of the unit before, whose recordings may serve another

    def close(self) -> None:
        """Let go of the stack before."""
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        return self.prepared.facts(seed)

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """Settings that see the same data together, in stacks of nearly equal size, at most `chunk` each.

        Where only a few see the same, several such groups make a stack, which then holds a batch for each lane.
        """
        out: list[list[Setting]] = []
        for together in stackable(self.prepared, settings).values():
            same: dict[object, list[Setting]] = {}
            for setting in together:
                same.setdefault((setting.seed, self.prepared.data_key(setting)), []).append(setting)
            few = [s for group in same.values() if len(group) < FEW for s in group]
            if len({s.seed for s in few}) > 1:  # a model may draw other things at init than tensors
                few = [s for s in few if self.prepared.differs_in_tensors_alone(s.seed)]
            taken = set(few)
            for group in [few, *(group for group in same.values() if group[0] not in taken)]:
                out += _evenly(group, self.ran.chunk)
        return out

    def train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        """Train the unit's settings as one, each as a complete run of `steps` steps."""
        torch.set_num_threads(self.ran.threads)
        left, curves, eval_s = _evenly(unit, self._most), list[Curve](), 0.0
        while left:
            part, told = left[0], Told(tick)
            try:
                with quiet():
                    trained = self._train(part, steps, rung, told)
            except Drifted:
                trained, self._replays = None, False
            except Exception as error:
                trained = None  # out of this block first: the exception's frames hold the stack
                if NO_VIEW in str(error) and self.ran.chunk == 1 and self.prepared.channels_last:
                    self.prepared.channels_last = frozenset()
                elif len(part) > 1 and out_of_memory(error):
                    self._most = math.ceil(len(part) / 2)
                else:
                    raise
            if trained is None:
                self._stack = None
                left = [half for part in left for half in _evenly(part, self._most)]
                told.take_back()
                gc.collect()  # a stack holds itself, by what it calls
                if self.prepared.device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            self._proven = True
            curves += trained.curves
            eval_s += trained.eval_s
            del left[0]
        return Trained(tuple(curves), eval_s)

    def _train(self, unit: Sequence[Setting], steps: int, rung: int, told: Told) -> Trained:
        p, task = self.prepared, self.prepared.task
        judging = p.judging(steps)
        inits = [p.init_loss(s.seed, judging, s.options) for s in unit]
        stack = self._begun(unit, steps)
        multipliers = _multipliers(p, unit, steps)
        effective = EffectiveLr(stack.rule, stack.names, stack.shapes, steps, p.device)
        evaluate_at = {} if judging is None else judging.batches_at
        batches = stack.batches(rung)
        seed_all("noise", *dict.fromkeys(s.seed for s in unit), rung)

        # A table, not a tensor for each step: small ones that stay, among large ones that go, tear the heap to pieces.
        losses_TL = torch.empty(steps, len(unit), dtype=torch.float64, device=p.device)
        val: list[tuple[int, Tensor]] = []
        eval_s = 0.0
        for t in range(steps):
            step_batches, is_last = list(islice(batches, task.accumulate)), t == steps - 1
            try:
                losses_L = stack.step(step_batches, multipliers[t], t, is_last=is_last)
            except TaskError as error:
                if out_of_memory(error):
                    raise
                stack.undo()
                stack.bury(losses_TL[:t], 0)
                step_batches = stack.bury_raising(step_batches, t)
                # raises again if it is no lane's divergence
                losses_L = stack.step(step_batches, multipliers[t], t, is_last=is_last)
            losses_TL[t] = losses_L
            if t + 1 in effective.after:
                effective.note(stack.state, multipliers[t] * stack.lr_L1, t)
            if (which := evaluate_at.get(t + 1)) is not None:
                start = time.perf_counter()
                val.append((t + 1, stack.evaluate(which)))
                eval_s += time.perf_counter() - start
            if (t + 1) % TICK == 0:  # seldom, since reading a tensor waits for the device
                all_dead = stack.bury(losses_TL[t + 1 - TICK : t + 1], t + 1 - TICK)
                dead = [at + 1 for at in stack.dead_at_L.tolist() if at >= 0]
                living = len(unit) - len(dead)
                told.up_to(sum(dead) + living * (t + 1), len(dead), len(dead) * steps - sum(dead))
                if all_dead:
                    # what they died of must be theirs, not a recording's; at init, where they are, the loss is good
                    with suppress(TaskError):
                        stack.step(step_batches, multipliers[t], t, is_last=True)
                    break
        losses_TL = losses_TL[: t + 1]
        stack.bury(losses_TL, 0)

        table, ends = losses_TL.tolist(), [at if at >= 0 else None for at in stack.dead_at_L.tolist()]
        sizes = effective.of_lanes(ends)
        curves = []
        for k, setting in enumerate(unit):
            at = int(stack.dead_at_L[k])
            taken = [row[k] for row in table[: at + 1 if at >= 0 else steps]]
            points = [(s, float(v[k])) for s, v in val if at < 0 or s <= at]
            points = [] if judging is None else [(0, inits[k]), *points]
            curves.append(finished(setting, steps, taken, points, ends[k], inits[k], p, sizes[k]))
        done = sum(c.trained for c in curves)
        told.up_to(done, sum(c.diverged for c in curves), len(unit) * steps - done)
        self._stack = stack
        return Trained(tuple(curves), eval_s)

    def _begun(self, unit: Sequence[Setting], steps: int) -> Stack:
        """A stack of these settings, before the first of so many steps."""
        stack, self._stack = self._stack, None  # not to be used again unless it comes to its end
        if stack is not None and not stack.again(unit):
            stack.close()
            stack = None  # its memory is needed
        if stack is None:
            compared = BRIEF if self._proven else THOROUGH
            alone = self.ran.chunk == 1
            stack = Stack(self.prepared, unit, replays=self._replays, compared=compared, alone=alone)
        stack.compile(0 < self.ran.compile_from <= len(unit) * steps)
        return stack


def _multipliers(prepared: Prepared, unit: Sequence[Setting], steps: int) -> Sequence[Any]:
    """The multiplier of each step: a number where all lanes have the same schedule, else a tensor L1."""
    schedules = [dict(s.options).get("schedule") for s in unit]
    if all(schedule == schedules[0] for schedule in schedules):
        return prepared.multipliers(unit[0].options, steps)
    of_lanes = torch.tensor([prepared.multipliers(s.options, steps) for s in unit], dtype=torch.float64)
    return of_lanes.T[:, :, None].to(prepared.device).unbind()


def _evenly(settings: Sequence[Setting], most: int) -> list[list[Setting]]:
    """Settings cut into stacks of nearly equal size."""
    if not settings:
        return []
    stacks = math.ceil(len(settings) / most)
    ends = [round(len(settings) * (i + 1) / stacks) for i in range(stacks)]
    return [list(settings[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
