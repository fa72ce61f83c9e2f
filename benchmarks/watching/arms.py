"""Who watches a training: nobody, clipping, `ReduceLROnPlateau`, Lightning's SpikeDetection, etascope.

An arm is entered with `with`, yields the batches, and is told of each loss, update and validation. It raises alarms as
[batch, code, action, whether it was done].
"""

import os
import tempfile
from contextlib import ExitStack
from functools import cache

import torch

import etascope as eta


class Nothing(ExitStack):
    """Nobody watches; the other arms differ from it in what they override.

    Args:
        model: the model.
        optimizer: its optimizer.
        handle: of the schedule.
        scaler: the gradient scaler, or None.
        horizon: updates.
    """

    name, validates = "nothing", False

    def __init__(self, model, optimizer, handle, scaler, horizon):
        super().__init__()
        self.model, self.optimizer, self.handle, self.scaler = model, optimizer, handle, scaler
        self.horizon, self.alarms, self.stops, self.number = horizon, [], False, 0

    def batches(self, loader):
        """As many batches as updates are due."""
        for i, batch in enumerate(loader):
            if i == self.horizon:
                return
            yield batch

    def before_step(self, loss):
        """Called when the gradients are there."""

    def after_step(self, loss):
        """Called after the update."""

    def validate(self, loss):
        """Called with a validation loss every 50 batches, if the arm validates."""


class Clipping(Nothing):
    """The norm of the gradients is clipped to 1."""

    name = "clipping"

    def before_step(self, loss):
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)


class Plateau(Nothing):
    """torch's ReduceLROnPlateau, factor 0.5, patience 2, on a validation loss every 50 batches.

    It runs its own code on an optimizer of its own, whose lr is the factor on the scheduled lr. A reduction counts as
    an alarm.
    """

    name, validates = "plateau", True

    def __enter__(self):
        self.factor = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(self.factor, factor=0.5, patience=2)
        return super().__enter__()

    def validate(self, loss):
        before = self.factor.param_groups[0]["lr"]
        self.plateau.step(loss)
        if (factor := self.factor.param_groups[0]["lr"]) != before:
            self.handle.scale = factor
            self.alarms.append([self.number, "plateau", "scale", True])


@cache
def fabric():
    from lightning.fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


class Spikes(Nothing):
    """Lightning's SpikeDetection by its defaults: at its exception the run ends, as it does with Lightning."""

    name = "spike detection"

    def __enter__(self):
        from lightning.fabric.utilities.spike import SpikeDetection

        folder = self.enter_context(tempfile.TemporaryDirectory())
        self.detection = SpikeDetection(exclude_batches_path=os.path.join(folder, "skip_batches.json"))  # noqa: PTH118
        return super().__enter__()

    def after_step(self, loss):
        from lightning.fabric.utilities.spike import TrainingSpikeException

        try:
            self.detection.on_train_batch_end(fabric(), loss.detach(), None, self.number)
        except TrainingSpikeException:
            self.alarms.append([self.number, "spike", "stop", True])
            self.stops = True


class Watched(Nothing):
    """`eta.watch` by its defaults, which acts."""

    name, validates, act = "etascope", True, True

    def __enter__(self):
        super().__enter__()
        self.watch = self.enter_context(
            eta.watch(self.model, self.optimizer, schedule=self.handle, scaler=self.scaler, horizon=self.horizon,
                      act=self.act, log=None)
        )  # fmt: skip
        self.told = 0
        return self

    def batches(self, loader):
        return self.watch.batches(loader)

    def before_step(self, loss):
        self.watch.observe(loss)
        self._hear()

    def after_step(self, loss):
        self._hear()
        self.stops = self.watch.should_stop

    def validate(self, loss):
        self.watch.validate(loss)
        self._hear()

    def _hear(self):
        """Keep what was decided since; a policy's own decisions, without a code, are no alarms."""
        decisions = self.watch.decisions
        for decision in decisions[self.told :]:
            if decision.code:
                self.alarms.append([self.number, decision.code, decision.action, decision.taken])
        self.told = len(decisions)


class Proposed(Watched):
    """`eta.watch` that only proposes: the run is as it would be without."""

    name, act = "etascope, act=False", False


ARMS = {arm.name: arm for arm in (Nothing, Clipping, Plateau, Spikes, Watched, Proposed)}


def available(name):
    """Whether what the arm needs is there."""
    return not issubclass(ARMS[name], Watched) or hasattr(eta, "watch")
