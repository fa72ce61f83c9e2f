"""`eta.watch` for loops with an `Accelerator`: micro-batches, scaler and checkpoints are seen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..attachment import inner_optimizer
from ..errors import OptionError
from ..records.run import Decision
from ..watching import Watch
from ..watching import watch as plain_watch
from .updates import Losses, here

__all__ = ["AcceleratedWatch", "watch"]

SHARDED = ("DEEPSPEED", "FSDP", "MEGATRON_LM", "XLA")


def watch(accelerator: Any, model: nn.Module | Sequence[nn.Module], optimizer: Any, **options: Any) -> AcceleratedWatch:
    """Look after a training whose model and optimizer were prepared by an accelerator.

        with watch(accelerator, model, optimizer, act=True, log="run.jsonl") as w:
            for batch in loader:
                with accelerator.accumulate(model):
                    loss = model(**batch).loss
                    accelerator.backward(loss)
                    w.observe(loss)                  # every micro-batch; after clipping, where there is any
                    optimizer.step()
                    optimizer.zero_grad()

    Its state is in what `accelerator.save_state` saves, and `accelerator.load_state` goes on with it.

    Args:
        accelerator: the `Accelerator`.
        model: as `accelerator.prepare` returned it, one module or several.
        optimizer: as `accelerator.prepare` returned it.
        options: those of `eta.watch`.

    Raises:
        OptionError: as `eta.watch`; or the parameters are shared out over processes.
    """
    kind = str(accelerator.distributed_type).rsplit(".", 1)[-1]
    if kind in SHARDED:
        raise OptionError(f"The accelerator trains by {kind}: no process sees the parameters whole.", "Train by DDP.")
    models = [accelerator.unwrap_model(m) for m in ([model] if isinstance(model, nn.Module) else model)]
    found = {"scaler": getattr(accelerator, "scaler", None), **options}
    inner = plain_watch(models, inner_optimizer(optimizer), **here(found, accelerator.process_index))
    watched = AcceleratedWatch(accelerator, inner)
    accelerator.register_for_checkpointing(watched)
    return watched


class AcceleratedWatch:
    """A `Watch` that is shown micro-batches; all else is the watch's.

    Attributes:
        watch: the `Watch` itself.
    """

    def __init__(self, accelerator: Any, watch: Watch) -> None:
        self.watch = watch
        self._accelerator, self._losses = accelerator, Losses()

    def observe(self, loss: Any) -> Decision | None:
        """Show a micro-batch's loss, after `accelerator.backward(loss)`; the last one of an update is its observation.

        Args:
            loss: what `accelerator.backward` was given, a tensor where there are several processes.

        Returns:
            The decision, where there is an alarm.
        """
        self._losses.add(loss)
        if not self._accelerator.sync_gradients:
            return None
        mean = self._losses.take()
        several = self._accelerator.num_processes > 1 and isinstance(mean, Tensor)
        if several and not self.watch.acts:  # one that acts takes the mean itself
            mean = self._accelerator.reduce(mean, "mean")
        return self.watch.observe(mean)

    def state_dict(self) -> dict[str, Any]:
        """The watch's state, which `accelerator.save_state` asks for."""
        return self.watch.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where the saved run stopped; in the middle of a run, one that does not act stays as it is.

        Raises:
            RecordError, OptionError: as `Watch.load_state_dict`.
        """
        self.watch.load_with_others(state)

    def __enter__(self) -> AcceleratedWatch:
        return self

    def __exit__(self, *raised: Any) -> None:
        self.watch.__exit__(*raised)

    def __getattr__(self, name: str) -> Any:
        if name == "watch":  # before __init__
            raise AttributeError(name)
        return getattr(self.watch, name)
