"""What looks into a training by Lightning: one that sees it begin, and one that plays its schedule to the run's length.

Plain classes: the adapter makes them callbacks of the package, `lightning` or `pytorch_lightning`, that it works with.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ..errors import TaskError
from ..records import Point
from .running import PROBE, base_lrs, must_follow, play

__all__ = ["Look", "Pace"]

NO_EFFECT = "Hand it on: self.lr = lr in the module's __init__, lr=self.lr in configure_optimizers."


class Scheduler:
    """One scheduler of a module, and how often Lightning steps it in a run.

    Args:
        config: Lightning's own description of it.
        batches: of an epoch; infinite where that is not known.
        accumulate: batches of a step.
    """

    def __init__(self, config: Any, batches: float, accumulate: int) -> None:
        self.scheduler, self.done = config.scheduler, 0
        self._by_epoch, self._frequency = config.interval == "epoch", config.frequency
        self._per_epoch = math.ceil(batches / accumulate) if math.isfinite(batches) else math.inf
        many = int(self._per_epoch) if math.isfinite(batches) else 0
        # Lightning counts the frequency in batches, from 1 in each epoch; the last step of one may have fewer.
        at = (min(u * accumulate, int(batches)) for u in range(1, many + 1))
        self._hits = [u for u, batch in enumerate(at, 1) if batch % config.frequency == 0]
        self._every = math.lcm(accumulate, config.frequency) // accumulate

    def until(self, step: int) -> int:
        """How often it is stepped in so many steps of the full run."""
        if math.isinf(self._per_epoch):
            return 0 if self._by_epoch else step // self._every
        epochs, rest = divmod(step, int(self._per_epoch))
        if self._by_epoch:
            return epochs // int(self._frequency)
        return epochs * len(self._hits) + bisect_right(self._hits, rest)


def schedulers_of(trainer: Any) -> list[Scheduler]:
    """The schedulers that Lightning steps by itself."""
    if not trainer.lightning_module.automatic_optimization:
        return []
    length = trainer.num_training_batches, trainer.accumulate_grad_batches
    return [Scheduler(config, *length) for config in trainer.lr_scheduler_configs]


class Look:
    """Sees a training's length, optimizers and schedulers as it begins, plays these through, and ends it there."""

    began = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """See."""
        self.began, trainer.should_stop = True, True
        horizon = trainer.estimated_stepping_batches
        if not math.isfinite(horizon) or horizon < 1:
            raise TaskError(
                "the trainer's run has no end, so there is no horizon.", "Give Trainer(max_steps=...) or max_epochs."
            )
        self.horizon = int(horizon)
        self.limits = trainer.max_epochs, trainer.max_steps
        self.optimizers = list(trainer.optimizers)
        if not self.optimizers or not any(hasattr(o, "param_groups") for o in self.optimizers):
            raise TaskError("configure_optimizers returns no optimizer.", "Return one, with lr=self.lr.")
        if any(config.reduce_on_plateau for config in trainer.lr_scheduler_configs):
            raise TaskError(
                "ReduceLROnPlateau follows a metric, so a short run would not be the long one in small.",
                "Take a scheduler that follows the step, or write the training as a function run(lr, steps, seed).",
            )
        self.lrs = base_lrs(self.optimizers)
        configs = trainer.lr_scheduler_configs
        names = [type(config.scheduler).__name__ for config in configs]
        self.schedule = " and ".join(names) + ", of the module" if names else "of the module"
        paced = schedulers_of(trainer)
        self.points = play(self.optimizers[0], PROBE, self.horizon, lambda t: _step(paced, t + 1, pl_module))


class Pace:
    """Makes a run of some steps the full run in small.

    Whatever a module reads its schedule's length from (`trainer.max_steps`, `estimated_stepping_batches`, `max_epochs`,
    a number of its own), it reads that of the full run, and its schedulers are stepped as often over the run's steps as
    over the full run's. A module of manual optimization steps its schedulers itself, and reads the short run's.

    Args:
        lr: of this run.
        steps: of this run.
        horizon: steps of the full run.
        limits: max_epochs and max_steps of the given trainer.
        at_probe: the optimizers' lrs at another lr.
    """

    def __init__(self, lr: float, steps: int, horizon: int, limits: tuple[Any, Any], at_probe: Sequence[float]) -> None:
        self.lr, self.steps, self.horizon, self.limits, self.at_probe = lr, steps, horizon, limits, at_probe
        self._schedulers: list[Scheduler] = []
        self._short: tuple[Any, Any] | None = None  # the short run's own limits, while the module sees the full run's
        self._losses: list[tuple[int, list[Any]]] = []  # of each step, its batches
        self._batches: list[Any] = []  # of the step under way

    def claim(self, module: Any, trainer: Any) -> None:
        """Let module and data see the full run while they are set up and optimizers are configured."""
        if module.automatic_optimization:  # else it steps its schedulers itself, by the steps that there are
            loop = trainer.fit_loop
            self._short = loop.max_epochs, loop.epoch_loop.max_steps
            loop.max_epochs, loop.epoch_loop.max_steps = self.limits

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the schedulers into the own hands, and train for as long as asked."""
        if self._short is not None:
            trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = self._short
        must_follow(self.lr, base_lrs(trainer.optimizers), self.at_probe, NO_EFFECT)
        self._schedulers = schedulers_of(trainer)
        if self._schedulers:
            for config in trainer.lr_scheduler_configs:
                config.interval = "paced"  # Lightning itself steps those of "step" and "epoch" alone

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Step the schedulers, and note the loss."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if loss is not None:  # as Lightning holds it, divided by the batches of a step
            self._batches.append(loss.detach() * trainer.accumulate_grad_batches)
        if self._batches and trainer.global_step > (self._losses[-1][0] if self._losses else 0):
            self._losses.append((trainer.global_step, self._batches))
            self._batches = []
        _step(self._schedulers, trainer.global_step * self.horizon // self.steps, pl_module)

    @property
    def points(self) -> list[Point]:
        """The training loss after each step."""
        return [(step, math.fsum(map(float, losses)) / len(losses)) for step, losses in self._losses]


def _step(schedulers: Sequence[Scheduler], step: int, module: Any) -> None:
    for one in schedulers:
        for _ in range(one.until(step) - one.done):
            module.lr_scheduler_step(one.scheduler, None)
            one.done += 1
