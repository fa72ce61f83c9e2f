"""Faults to inject into a training, each of one kind, from a step drawn from the run's seed.

What goes wrong with the data is tied to the number of the batch drawn, and so passes for whoever skips batches. So are
the others but the bug in a schedule, which is a function of the update. All are seeded: the same run has the same
fault.
"""

from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
import torch
from torch import nn

from .workloads import Workload

NOISE = 100.0  # times a standard normal, where images are standardised


@dataclass
class Fault:
    """No fault, and the places where others come in. Each fault says in its first line what it does.

    Attributes:
        work: the workload.
        seed: of the run.
        scaled: whether the training goes through a `torch.amp.GradScaler`.
    """

    work: Workload
    seed: int
    scaled = False
    kind = "clean"

    @cached_property
    def start(self):
        """The first batch, or update, that is not as it should be, counted from 0: in the middle half of the run."""
        return int(
            self.work.horizon * np.random.default_rng([self.seed, crc32(self.kind.encode())]).uniform(0.25, 0.75)
        )

    def generator(self, number):
        """Random numbers of the fault in a batch."""
        return torch.Generator().manual_seed(1_000_003 * self.seed + number)

    def schedule(self, multiplier):
        """The schedule that the user gives."""
        return multiplier

    def batch(self, number, x, y):
        """The batch as it is drawn."""
        return x, y

    def before_forward(self, number, model):
        """Called before the forward pass."""

    def after_backward(self, number, model):
        """Called when the gradients are there."""

    def before_step(self, number, optimizer):
        """Called before the update, and before whoever watches looks at it."""

    def before_scaling(self, number, scaler):
        """Called before the loss is multiplied by the scaler's scale."""


class Inside(Fault):
    """The user's own schedule has a bug: from an update on, its multiplier is so many times as large, to the end."""

    times: float

    def schedule(self, multiplier):
        return lambda step: multiplier(step) * (self.times if step >= self.start else 1.0)


class Inside10(Inside):
    kind, times = "lr x 10 inside", 10.0


class Inside100(Inside):
    kind, times = "lr x 100 inside", 100.0


class Outside(Fault):
    """Somebody multiplies the lr of every param group before each update, from a batch on, to the end.

    Where the optimizer still has what this wrote, since no update was made in between, it is not multiplied again.
    """

    times: float
    wrote: float | None = None

    def before_step(self, number, optimizer):
        if number < self.start:
            return
        for group in optimizer.param_groups:
            if group["lr"] != self.wrote:
                group["lr"] = self.wrote = group["lr"] * self.times


class Outside10(Outside):
    kind, times = "lr x 10 outside", 10.0


class Outside100(Outside):
    kind, times = "lr x 100 outside", 100.0


class LeftAtWarmup(Fault):
    """From the end of the warmup on, somebody writes the lr of its first update before each update, to the end."""

    kind = "lr left at warmup"

    @cached_property
    def start(self):
        """The update after the warmup."""
        multiplier = self.work.schedule()
        return next(step for step in range(self.work.horizon) if multiplier(step + 1) <= multiplier(step))

    def before_step(self, number, optimizer):
        if number >= self.start:
            for group in optimizer.param_groups:
                group["lr"] = self.work.lr * self.work.schedule()(0)


class Corrupt(Fault):
    """So many batches in a row are noise: images a standard normal x 100; text random characters, random targets."""

    length: int

    def batch(self, number, x, y):
        if not self.start <= number < self.start + self.length:
            return x, y
        generator = self.generator(number)
        if x.is_floating_point():
            return NOISE * torch.randn(x.shape, generator=generator), y
        return tuple(torch.randint(self.work.classes, of.shape, generator=generator) for of in (x, y))


class Corrupt1(Corrupt):
    kind, length = "1 corrupt batch", 1


class Corrupt5(Corrupt):
    kind, length = "5 corrupt batches", 5


class Shuffled(Fault):
    """In so many batches the targets are permuted: labels within the batch, next characters over all its places."""

    length: int

    def batch(self, number, x, y):
        if not self.start <= number < self.start + self.length:
            return x, y
        order = torch.randperm(y.numel(), generator=self.generator(number))
        return x, y.flatten()[order].view_as(y)


class Shuffled20(Shuffled):
    kind, length = "labels shuffled, 20", 20


class Shuffled200(Shuffled):
    kind, length = "labels shuffled, 200", 200


class NanGradient(Fault):
    """One number of one gradient is NaN, once, after backward."""

    kind = "NaN in a gradient"

    def after_backward(self, number, model):
        if number == self.start:
            gradients = [p.grad for p in model.parameters()]
            gradients[len(gradients) // 2].view(-1)[0] = float("nan")


class InfActivation(Fault):
    """In one batch, one number of a hidden activation is inf, of the first row."""

    kind = "inf activation"

    def before_forward(self, number, model):
        if number != self.start:
            return

        def spoil(module: nn.Module, given, made):
            hook.remove()
            made = made.clone()
            made.view(-1)[0] = float("inf")
            return made

        hook = model.get_submodule(self.work.inside).register_forward_hook(spoil)


class Scaler(Fault):
    """The scale of the gradient scaler becomes inf: every update is skipped from there, as inf x 0.5 is inf."""

    kind, scaled = "exploding scaler", True

    def before_scaling(self, number, scaler):
        if number == self.start:
            scaler._scale.fill_(float("inf"))


class CleanScaled(Fault):
    """No fault, and a gradient scaler, which has nothing to do."""

    scaled = True


FAULTS = {
    fault.kind: fault
    for fault in (
        Inside10, Inside100, Outside10, Outside100, LeftAtWarmup, Corrupt1, Corrupt5, Shuffled20, Shuffled200,
        NanGradient, InfActivation, Scaler,
    )
}  # fmt: skip


def fault_of(kind, work, seed):
    """What is injected in a run; "clean" is nothing, of every fifth seed with a scaler."""
    if kind in FAULTS:
        return FAULTS[kind](work, seed)
    return CleanScaled(work, seed) if seed % 5 == 4 else Fault(work, seed)
