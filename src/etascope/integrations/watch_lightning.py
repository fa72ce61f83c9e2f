"""`eta.watch` as a callback of Lightning's `Trainer`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import OptionError
from ..watching import Watch, watch
from ..watching.scaling import scale_of
from .updates import Losses, checked, handle_of, here

if TYPE_CHECKING:
    from lightning.pytorch import Callback
else:
    try:
        from lightning.pytorch import Callback
    except ImportError:  # under its old name
        from pytorch_lightning import Callback

__all__ = ["WatchCallback"]

SHARDED = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class WatchCallback(Callback):
    """Looks after a training by Lightning: `Trainer(callbacks=[WatchCallback(act=True, log="run.jsonl")])`.

    An update is observed after its backward and before clipping and step, with the mean loss of its batches.
    Lightning's schedulers stay as they are; a `ScheduleLR` among them is watched as a handle is. The watch's state goes
    into Lightning's checkpoints, and `trainer.fit(..., ckpt_path=...)` goes on with it.

    Args:
        monitor: the logged metric that is shown to `validate`; default None: "val_loss", where it is logged.
        options: those of `eta.watch`; the horizon is the trainer's by default.

    Attributes:
        watch: the `Watch` of the present or the last `fit`; None before.

    Raises:
        TypeError: an option that `eta.watch` does not know.
        OptionError: when `fit` begins: the module optimizes by hand, or its training cannot be watched.
    """

    def __init__(self, monitor: str | None = None, **options: Any) -> None:
        self.monitor, self.options = monitor, checked(options)
        self.watch: Watch | None = None
        self._optimizer: Any = None
        self._scaler: Any = None
        self._losses = Losses()
        self._state: dict[str, Any] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Forget what another run left behind."""
        self._state = {}
        if stage == "fit":
            self.watch, self._losses = None, Losses()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, or go on from the checkpoint."""
        _refuse(trainer, pl_module)
        optimizer = self._optimizer = trainer.optimizers[0]
        self._scaler = getattr(trainer.precision_plugin, "scaler", None)
        handles = (handle_of(config.scheduler, optimizer) for config in trainer.lr_scheduler_configs)
        found: dict[str, Any] = {"schedule": next((h for h in handles if h is not None), None), "scaler": self._scaler}
        if self.options.get("schedule", found["schedule"]) is None and math.isfinite(
            trainer.estimated_stepping_batches
        ):
            found["horizon"] = int(trainer.estimated_stepping_batches)
        self.watch = watch(pl_module, optimizer, **here({**found, **self.options}, trainer.global_rank))
        if self._state:
            self.watch.load_state_dict(self._state)
            self._state = {}

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        """Note a batch's loss, which Lightning has divided by the batches of an update, and scaled under AMP."""
        loss = loss.detach() * trainer.accumulate_grad_batches
        scale = scale_of(self._scaler, self._optimizer)
        self._losses.add(loss if scale is None else loss / scale)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Observe an update."""
        loss = self._losses.take()
        if loss is None or self.watch is None:  # training_step returned None: there is no update
            return
        if trainer.world_size > 1 and not self.watch.acts:  # one that acts takes the mean itself
            loss = trainer.strategy.reduce(loss, reduce_op="mean")
        self.watch.observe(loss)
        if self.watch.should_stop:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the monitored metric."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or self.watch is None:
            return
        name = self.monitor or "val_loss"
        if name in trainer.callback_metrics:
            self.watch.validate(trainer.callback_metrics[name])
        elif self.monitor is not None:
            raise OptionError(
                f"No {name} was logged, but {', '.join(sorted(trainer.callback_metrics)) or 'nothing'}.",
                "Give WatchCallback(monitor=...) a name that validation_step logs.",
            )
        if self.watch.should_stop:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the watch."""
        if self.watch is not None:
            self.watch.close("stopped" if trainer.should_stop else "over")  # by whomever

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """End the watch, and say what was raised."""
        if self.watch is not None:
            self.watch.close(type(exception).__name__)

    def state_dict(self) -> dict[str, Any]:
        """The watch's state, for a checkpoint."""
        return self._state if self.watch is None else self.watch.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a checkpoint's state until the training begins."""
        self._state = state_dict


def _refuse(trainer: Any, module: Any) -> None:
    if not module.automatic_optimization:
        raise OptionError(
            f"{type(module).__name__} optimizes by hand, so only it knows which loss belongs to which update.",
            "Watch in the module: self.w = eta.watch(self, optimizer) in on_train_start, and "
            "self.w.observe(loss) between manual_backward and optimizer.step.",
        )
    if len(trainer.optimizers) != 1 or isinstance(trainer.optimizers[0], torch.optim.LBFGS):
        raise OptionError(
            f"{type(module).__name__} has {len(trainer.optimizers)} optimizers, or LBFGS.",
            "Give one whose step is one update.",
        )
    if (kind := type(trainer.strategy).__name__) in SHARDED:
        raise OptionError(f"{kind} shares parameters out, and no process sees them whole.", "Train by DDP.")
