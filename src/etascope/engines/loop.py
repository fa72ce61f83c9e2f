"""The loop engine: one setting after the other in plain torch. It is the truth that other engines are held to."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from ..errors import TaskError
from ..records import Curve, StepSizes
from ..records import Engine as Ran
from ..rules import adaptive, held
from .base import Facts, OneByOne, Setting, Tick, Trained
from .blame import out_of_memory, user_code
from .effective import EffectiveLr
from .judging import final_loss, thin
from .prepared import Built, Prepared, judged
from .randomness import seed_all

__all__ = ["SKIPS", "TICK", "Loop", "finished"]

TICK = 16  # steps between two progress reports
SKIPS = 50  # updates in a row that fp16 may skip while its scale falls (2¹⁶ · 2⁻⁵⁰ is nothing): then it diverged


class Loop(OneByOne):
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
        p = self.prepared
        judging = p.judging(steps)
        init = p.init_loss(setting.seed, judging, setting.options)
        built = p.build(setting.seed, setting.lr, setting.options)
        lrs = [setting.lr * multiplier for multiplier in p.multipliers(setting.options, steps)]
        evaluate_at = {} if judging is None else judging.batches_at
        effective = _effective(built, steps, p.device)
        batches = p.batches(setting.seed, rung, setting.options)
        seed_all("noise", setting.seed, rung)

        losses: list[float] = []
        val = [] if judging is None else [(0, init)]
        eval_s, diverged_at, told = 0.0, None, 0
        for t in range(steps):
            losses.append(self.step(built, batches, lrs[t]))
            if not math.isfinite(losses[t]):
                diverged_at = t
                break
            if t + 1 in effective.after:
                effective.note(held(built.optimizer), _as_lane(lrs[t], p.device), t)
            if (which := evaluate_at.get(t + 1)) is not None:
                start = time.perf_counter()
                with judged(built.optimizer):
                    val.append((t + 1, p.evaluate(built.objective, which, setting.seed)))
                eval_s += time.perf_counter() - start
            if t + 1 - told == TICK:
                tick(TICK)
                told += TICK
        (sizes,) = effective.of_lanes([diverged_at])
        curve = finished(setting, steps, losses, val, diverged_at, init, p, sizes)
        tick(curve.trained - told, int(curve.diverged), steps - curve.trained)
        return curve, eval_s

    def step(self, built: Built, batches: Iterator[Any], lr: float) -> float:
        """One update at peak lr times schedule `lr`; the loss before it, not finite where there was no update.

        An update that fp16 skips is tried again on the same batches: so settings see the same ones at a step.
        """
        for group, scale in zip(built.optimizer.param_groups, built.scales, strict=True):
            group["lr"] = lr * scale
        step_batches = list(islice(batches, self.prepared.task.accumulate))
        for _ in range(SKIPS):
            loss = self._gradient(built, step_batches)
            if not math.isfinite(loss) or self._update(built):
                return loss
        return math.nan

    def _gradient(self, built: Built, batches: Sequence[Any]) -> float:
        """Leave the gradient of one step's batches in the parameters; their mean loss."""
        p, step_loss = self.prepared, 0.0
        built.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            try:
                with user_code("loss"):
                    with p.autocast():
                        loss = built.objective(batch) / p.task.accumulate
                    built.scaler.scale(loss).backward()
            except TaskError as error:
                if out_of_memory(error) or not p.accepts(built.setting, batch):
                    raise
                return math.nan  # the batch is good at init: it is the parameters, or NaN in it
            step_loss += loss.item()
        return step_loss

    def _update(self, built: Built) -> bool:
        """Let the optimizer update, unless the fp16 scaler finds the gradient too large; whether it did."""
        task = self.prepared.task
        if task.clip_norm is not None or task.clip_value is not None:
            built.scaler.unscale_(built.optimizer)
        if task.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(built.optimized, task.clip_norm)
        if task.clip_value is not None:
            torch.nn.utils.clip_grad_value_(built.optimized, task.clip_value)
        with user_code("optimizer"):
            built.scaler.step(built.optimizer)
        scale = built.scaler.get_scale()
        built.scaler.update()
        return built.scaler.get_scale() >= scale


def _effective(built: Built, steps: int, device: torch.device) -> EffectiveLr:
    """What is noted of the optimizer's step sizes."""
    update = adaptive(built.optimizer, built.setting.lr)
    tensors = built.optimized if update is not None else []
    names = {id(q): name for name, q in built.objective.named_parameters()}
    said = [names.get(id(q), "outside the model") for q in tensors]
    return EffectiveLr(update, said, [q.shape for q in tensors], steps, device)


def _as_lane(lr: float, device: torch.device) -> torch.Tensor:
    """The lr as that of one lane, 11."""
    return torch.full((1, 1), lr, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)


def finished(
    setting: Setting,
    steps: int,
    losses: Sequence[float],
    val: Sequence[tuple[int, float]],
    diverged_at: int | None,
    init: float,
    prepared: Prepared,
    effective_lr: Mapping[str, tuple[StepSizes, ...]],
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
        effective_lr: step sizes under an adaptive rule.
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
        options=setting.written(),
        steps=steps,
        loss=loss,
        diverged_at=diverged_at,
        trained=len(losses),
        train=thin(whole) if whole else (),
        val=tuple((s, v) for s, v in val if math.isfinite(v)),
        ended=ended,
        effective_lr=dict(effective_lr),
    )
