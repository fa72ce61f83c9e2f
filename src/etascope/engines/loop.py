"""The loop engine: one setting after the other in plain torch. It is the truth that other engines are held to."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from itertools import islice

import torch

from ..records import Curve
from ..records import Engine as Ran
from .base import Facts, Setting, Tick, Trained
from .judging import final_loss, thin
from .prepared import Prepared, user_code
from .randomness import seed_all

__all__ = ["Loop"]

TICK = 16  # steps between two progress reports


class Loop:
    """Trains each setting with the user's own optimizer, as an ordinary training loop would."""

    def __init__(self, prepared: Prepared, ran: Ran) -> None:
        self.prepared, self.ran = prepared, ran

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task."""
        return self.prepared.facts(seed)

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """Every setting by itself."""
        return [[s] for s in sorted(settings)]

    def train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        """Train each setting as a complete run of `steps` steps."""
        torch.set_num_threads(self.ran.threads)
        runs = [self._run(setting, steps, rung, tick) for setting in unit]
        return Trained(tuple(curve for curve, _ in runs), math.fsum(s for _, s in runs))

    def _run(self, setting: Setting, steps: int, rung: int, tick: Tick) -> tuple[Curve, float]:
        p, task = self.prepared, self.prepared.task
        judging = p.judging(steps)
        init = p.init_loss(setting.seed, judging)
        built = p.build(setting.seed, setting.lr)
        optimized = [q for group in built.optimizer.param_groups for q in group["params"]]
        scaler = torch.amp.GradScaler(p.device.type, enabled=task.precision == "fp16")
        lrs = setting.lr * p.schedule.rescale(steps).multipliers()
        evaluate_at = {} if judging is None else dict.fromkeys(judging.on_the_way, judging.curve_batches)
        evaluate_at |= {} if judging is None else dict.fromkeys(judging.final, judging.final_batches)
        batches = p.batches(setting.seed, rung)
        seed_all("noise", setting.seed, rung)

        losses: list[float] = []
        val = [] if judging is None else [(0, init)]
        eval_s, diverged_at, told = 0.0, None, 0
        for t in range(steps):
            for group, scale in zip(built.optimizer.param_groups, built.scales, strict=True):
                group["lr"] = float(lrs[t]) * scale
            built.optimizer.zero_grad(set_to_none=True)
            step_loss = 0.0
            for batch in islice(batches, task.accumulate):
                with user_code("loss"):
                    with p.autocast():
                        loss = built.objective(batch) / task.accumulate
                    scaler.scale(loss).backward()
                step_loss += loss.item()
            losses.append(step_loss)
            if not math.isfinite(step_loss):
                diverged_at = t
                break
            if task.clip_norm is not None:
                scaler.unscale_(built.optimizer)
                torch.nn.utils.clip_grad_norm_(optimized, task.clip_norm)
            with user_code("optimizer"):
                scaler.step(built.optimizer)
            scaler.update()
            if (which := evaluate_at.get(t + 1)) is not None:
                start = time.perf_counter()
                val.append((t + 1, p.evaluate(built.objective, which)))
                eval_s += time.perf_counter() - start
            if t + 1 - told == TICK:
                tick(TICK)
                told += TICK
        tick(len(losses) - told)
        return finished(setting, steps, losses, val, diverged_at, init, p), eval_s


def finished(
    setting: Setting,
    steps: int,
    losses: Sequence[float],
    val: Sequence[tuple[int, float]],
    diverged_at: int | None,
    init: float,
    prepared: Prepared,
) -> Curve:
    """The curve of one training, with its final loss by the task's rule.

    Args:
        setting: what was trained.
        steps: the steps of a complete run.
        losses: the training loss of every step taken.
        val: (step, judged loss) points.
        diverged_at: the step whose training loss was not finite.
        init: the judged loss before the first step.
        prepared: the task.
    """
    loss, ended = math.inf, None
    if diverged_at is None:
        judging = prepared.judging(steps)
        loss = final_loss(steps, judging, losses, val)
        # A training loss is taken on other batches than `init`: the run's own first step is as good a start.
        start = init if judging is not None else max(init, losses[0])
        if not loss <= start:
            loss, ended = math.inf, loss if math.isfinite(loss) else None
    whole = losses if diverged_at is None else losses[:diverged_at]
    return Curve(
        lr=setting.lr,
        seed=setting.seed,
        steps=steps,
        loss=loss,
        diverged_at=diverged_at,
        trained=len(losses),
        train=thin(whole) if whole else (),
        val=tuple((s, v) for s, v in val if math.isfinite(v)),
        ended=ended,
    )
