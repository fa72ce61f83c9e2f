"""`eta.watch` as a callback of Hugging Face's `Trainer`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor
from transformers import TrainerCallback

from ..attachment import inner_optimizer
from ..errors import OptionError
from ..watching import Watch, watch
from .updates import Losses, checked, handle_of, here

__all__ = ["FILE", "WatchCallback"]

FILE = "etascope_watch.pt"  # in a checkpoint's folder


class WatchCallback(TrainerCallback):
    """Looks after a training by `Trainer`: `Trainer(..., callbacks=[WatchCallback(act=True, log="run.jsonl")])`.

    An update is observed after backward and clipping, before its step. Its loss is what the model returns as `loss`
    (`Trainer` tells callbacks none); where another one is trained (`compute_loss_func`, label smoothing, an overridden
    `compute_loss`), hand it over:

        class Mine(Trainer):
            def training_step(self, *args, **kwargs):
                loss = super().training_step(*args, **kwargs)
                callback.take(loss)
                return loss

    The watch's state is saved into each checkpoint's folder, and `trainer.train(resume_from_checkpoint=...)` goes on
    with it.

    Args:
        monitor: the evaluation metric that is shown to `validate`; default "eval_loss".
        resume: the checkpoint's folder, where it is not `checkpoint-<step>` in `output_dir`.
        options: those of `eta.watch`; the horizon is the trainer's by default.

    Attributes:
        watch: the `Watch` of the present or the last training; None before.

    Raises:
        TypeError: an option that `eta.watch` does not know.
        OptionError: when training begins: it cannot be watched; at an update, where the watch acts: there is no loss.
    """

    def __init__(
        self, monitor: str = "eval_loss", *, resume: str | os.PathLike[str] | None = None, **options: Any
    ) -> None:
        self.monitor, self.resume, self.options = monitor, resume, checked(options)
        self.watch: Watch | None = None
        self._hook: Any = None
        self._losses, self._taken = Losses(), Losses()
        self._add_up = self._warned = False

    def take(self, loss: Tensor) -> None:
        """Hand over what `training_step` returned: an update's add up to its loss."""
        self._taken.add(loss)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin, or go on from the checkpoint."""
        self._end("interrupted")
        _refuse(args)
        model, optimizer = kwargs["model"], inner_optimizer(kwargs["optimizer"])
        found: dict[str, Any] = {
            "schedule": handle_of(kwargs.get("lr_scheduler"), optimizer),
            "scaler": getattr(kwargs["optimizer"], "scaler", None),
        }
        if self.options.get("schedule", found["schedule"]) is None:
            found["horizon"] = int(state.max_steps)
        self.watch = watch(model, optimizer, **here({**found, **self.options}, args.process_index))
        if state.global_step:
            self._go_on(args, state)
        self._losses, self._taken, self._warned = Losses(), Losses(), False
        self._hook = model.register_forward_hook(self._look, with_kwargs=True)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Observe an update."""
        if self.watch is None:
            return
        seen, taken = self._losses.take(self._add_up), self._taken.take(add_up=True)
        loss = seen if taken is None else taken
        if loss is None:
            self._complain()
            return
        if args.world_size > 1 and isinstance(loss, Tensor):
            if taken is None and self._add_up and args.average_tokens_across_devices:
                loss = loss * args.world_size  # each has a share of it, and they add up
            if not self.watch.acts:  # one that acts takes the mean itself
                loss = reduce(loss, "mean")
        self.watch.observe(loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop, where a policy has said so."""
        if self.watch is not None and self.watch.should_stop:
            control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the evaluation loss."""
        loss = (kwargs.get("metrics") or {}).get(self.monitor)
        if self._hook is None or self.watch is None or loss is None:
            return
        self.watch.validate(loss)
        if self.watch.should_stop:
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the state beside the trainer's."""
        folder = _folder(args, state)
        if self.watch is not None and state.is_world_process_zero and folder.is_dir():
            part = folder / f".{FILE}.part"
            torch.save(self.watch.state_dict(), part)
            part.replace(folder / FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End the watch."""
        self._end("stopped" if control.should_training_stop and state.global_step < state.max_steps else "over")

    def _end(self, why: str) -> None:
        if self._hook is not None and self.watch is not None:
            self._hook.remove()
            self._hook = None
            self.watch.close(why)

    def _go_on(self, args: Any, state: Any) -> None:
        assert self.watch is not None
        given = (self.resume, getattr(args, "resume_from_checkpoint", None), _folder(args, state))
        folders = [Path(folder) for folder in given if isinstance(folder, str | os.PathLike)]
        for folder in folders:
            if (folder / FILE).exists():
                self.watch.load_state_dict(torch.load(folder / FILE, map_location="cpu", weights_only=True))
                return
        if self.resume is not None:
            raise OptionError(f"{self.resume} holds no {FILE}.", "Give the folder of a checkpoint of a watched run.")
        warnings.warn(
            f"The run goes on at step {state.global_step}, and {folders[-1]} holds no {FILE}: the watch begins anew. "
            "If the checkpoint lies elsewhere, give WatchCallback(resume=folder).",
            stacklevel=2,
        )

    def _look(self, model: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        """After the model's forward pass."""
        if not (model.training and torch.is_grad_enabled()):
            return
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs[0] if isinstance(outputs, tuple) else None
        if isinstance(loss, Tensor) and loss.numel() == 1:
            # Then each micro-batch's is divided by the items of the whole update.
            self._add_up = kwargs.get("num_items_in_batch") is not None
            self._losses.add(loss.detach().clone())  # Trainer multiplies it in place, by the number of processes

    def _complain(self) -> None:
        cause = "The model returns no loss, as with compute_loss_func or label smoothing, and Trainer tells none."
        move = "Hand it over: callback.take(loss) in an overridden training_step, as WatchCallback's docstring has it."
        if self.options.get("act"):
            raise OptionError(cause, move)
        if not self._warned:
            self._warned = True
            warnings.warn(f"{cause} {move} The training goes on unwatched.", stacklevel=2)


def _folder(args: Any, state: Any) -> Path:
    return Path(args.output_dir) / f"checkpoint-{state.global_step}"


def _refuse(args: Any) -> None:
    if args.n_gpu > 1:
        raise OptionError("The trainer spreads its model over several GPUs by DataParallel.", "Start it by torchrun.")
    if getattr(args, "deepspeed", None) or getattr(args, "fsdp", None):
        raise OptionError("DeepSpeed and FSDP share parameters out: no process sees them whole.", "Train by DDP.")
