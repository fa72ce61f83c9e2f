"""A Lightning module as a training function: each run is a fresh module in a fresh `Trainer` like the given one.

`WatchCallback` is `eta.watch` in a `Trainer`.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ..engines import About, derive, rebuild, user_code
from ..engines.randomness import seed_all
from ..errors import TaskError
from ..records import Point
from .lightning_hooks import Look, Pace
from .running import PROBE, decays, hushed, in_words, tail

if TYPE_CHECKING:
    from .watch_lightning import WatchCallback

__all__ = ["ModuleRun", "WatchCallback", "training_function"]

PACKAGES = ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric")
FACTORY = "Give a function of the lr that builds a module: eta.find(lambda lr: Lit(lr=lr), trainer=trainer, ...)."
# Callbacks that only write, show or stop: no training differs without them.
NEUTRAL = (
    "ModelCheckpoint", "OnExceptionCheckpoint", "EarlyStopping", "TQDMProgressBar", "RichProgressBar", "ModelSummary",
    "RichModelSummary", "LearningRateMonitor", "DeviceStatsMonitor", "Timer",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name != "WatchCallback":  # a callback of Lightning's, which all else here does without
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(".watch_lightning", __package__).WatchCallback


def training_function(
    factory: Callable[..., Any],
    trainer: Any,
    package: str,
    datamodule: Any = None,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    monitor: str | None = None,
) -> ModuleRun:
    """`run(lr, steps, seed)` for a module's factory and a trainer.

    Args:
        factory: lr -> LightningModule.
        trainer: Lightning's, of one device.
        package: "lightning.pytorch" or "pytorch_lightning".
        datamodule: as `trainer.fit` takes it.
        train_dataloaders: as `trainer.fit` takes them.
        val_dataloaders: as `trainer.fit` takes them.
        monitor: the name of the validation loss; default "val_loss", or the only one with "loss" in its name.

    Raises:
        TaskError: they cannot be trained; says what to do.
    """
    data = {"datamodule": datamodule, "train_dataloaders": train_dataloaders, "val_dataloaders": val_dataloaders}
    return ModuleRun(factory, trainer, package, data, monitor)


class ModuleRun:
    """One complete training of a fresh module by a fresh trainer; returns its validation loss.

    The module is a copy of what the factory builds once everything is seeded, the data are copies that share their data
    sets. Its schedulers are built for the full horizon, whatever they read it from, and stepped `horizon / steps` times
    as fast (`Pace`). Nothing is written, shown, stopped or validated on the way; callbacks are left out.

    Args:
        factory: lr -> LightningModule.
        trainer: it stays as it is.
        package: the package that it is from.
        data: the datamodule, or the loaders; they stay as they are.
        monitor: the name of the validation loss.
    """

    def __init__(
        self, factory: Callable[..., Any], trainer: Any, package: str, data: dict[str, Any], monitor: str | None
    ) -> None:
        self._lightning = importlib.import_module(package)
        self.factory, self.trainer, self.data = _by_name(factory), trainer, data
        _refuse(trainer)
        with user_code("module or data"), hushed(*PACKAGES), TemporaryDirectory() as folder:
            look, module = self._look(folder)
            self.horizon = look.horizon
            self._at_probe, self._limits = look.lrs, look.limits
            self.has_val = self._has_validation(module)
            self.monitor = self._monitored(folder, monitor) if self.has_val else ""
        self.__name__ = type(module).__name__
        self.about = About(
            optimizer=" and ".join(in_words(optimizer) for optimizer in look.optimizers),
            groups=sum(len(optimizer.param_groups) for optimizer in look.optimizers),
            schedule={"foreign": look.schedule},
            multipliers=tuple(look.points),
            decays=decays(look.points),
            judged=f"{self.monitor} of trainer.validate() after the last step"
            if self.has_val
            else "mean training loss of the last tenth of the steps (there is no validation data)",
            validation="as trainer.validate() does" if self.has_val else "none",
            paste=_paste(factory, module),
            alone="a Trainer(max_steps={steps}) of the module at lr={lr}",
            notes=_notes(trainer),
        )

    def __call__(self, lr: float, steps: int, seed: int) -> Generator[Point, None, float]:
        """Train completely; yields the training curve. No steps: the loss at init."""
        loss, points = math.nan, []
        with hushed(*PACKAGES), TemporaryDirectory() as folder:
            module, data = self._module(lr, seed), self._data(seed)
            pace = self._hooks(Pace, lr, steps, self.horizon, self._limits, self._at_probe)
            trainer = self._fresh(folder, pace, max_steps=max(steps, 1), max_epochs=-1)
            if steps:
                pace.claim(module, trainer)
                _interruptible(trainer.fit, module, **data)
                points = pace.points
                loss = tail(points, steps)
            if self.has_val:
                loss = self._judge(self._validate(trainer, module, data))
        yield from ((step - 1, value) for step, value in points)  # steps count from 0
        return loss

    def _validate(self, trainer: Any, module: Any, data: dict[str, Any]) -> dict[str, float]:
        where = {"datamodule": data["datamodule"]} if data["datamodule"] is not None else {}
        if data["val_dataloaders"] is not None:
            where = {"dataloaders": data["val_dataloaders"]}
        results = _interruptible(trainer.validate, module, verbose=False, **where)
        return {name: float(value) for result in results for name, value in result.items()}

    def _judge(self, results: dict[str, float]) -> float:
        if self.monitor not in results:
            raise TaskError(*_nothing_to_judge(self.monitor, results))
        return results[self.monitor]

    # -------------------------------------------------------------------------------------- fresh ones

    def _module(self, lr: float, seed: int) -> Any:
        seed_all("module", seed)
        module = self.factory(lr)
        if not isinstance(module, self._lightning.LightningModule):
            raise TaskError(f"the function of the lr returned a {type(module).__name__}, no LightningModule.", FACTORY)
        # What the factory closes over (a pretrained backbone, or one module for all) must start anew every time; a
        # module that cannot be copied is taken as it was built.
        with suppress(Exception):
            module = copy.deepcopy(module)
        module.configure_callbacks = list  # early stopping, mostly
        return module

    def _data(self, seed: int) -> dict[str, Any]:
        loaders = ("train_dataloaders", "val_dataloaders")
        own = {name: _rebuilt(self.data[name], derive("loader", seed)) for name in loaders}
        return {"datamodule": _copied(self.data["datamodule"]), **own}

    def _fresh(self, folder: str, hooks: Any, **length: Any) -> Any:
        """A trainer with the given one's settings that a training depends on.

        `deterministic` and `benchmark` are not among them: they are torch's own, in force since the given one was made.
        """
        given, root = self.trainer, self.trainer.strategy.root_device
        clip = given.gradient_clip_algorithm
        return self._lightning.Trainer(
            accelerator=root.type,
            devices=1 if root.index is None or root.type == "cpu" else [root.index],
            precision=given.precision,
            accumulate_grad_batches=given.accumulate_grad_batches,
            gradient_clip_val=given.gradient_clip_val,
            gradient_clip_algorithm=getattr(clip, "value", clip),
            limit_train_batches=given.limit_train_batches,
            limit_val_batches=given.limit_val_batches,
            inference_mode=given.validate_loop.inference_mode,
            reload_dataloaders_every_n_epochs=given.reload_dataloaders_every_n_epochs,
            check_val_every_n_epoch=10**9,
            num_sanity_val_steps=0,
            logger=self._silent_logger(),
            callbacks=[hooks],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            **length,
        )

    def _silent_logger(self) -> Any:
        """A logger that keeps nothing: modules may call `self.logger.experiment`."""
        return importlib.import_module(f"{self._lightning.__name__}.loggers.logger").DummyLogger()

    def _hooks(self, kind: type[Any], *args: Any) -> Any:
        """Hooks as a callback of the trainer's own package."""
        return type(kind.__name__, (kind, self._lightning.Callback), {})(*args)

    # -------------------------------------------------------------------------------------- what there is

    def _look(self, folder: str) -> tuple[Any, Any]:
        """Begin the given trainer's run, see its length, optimizers and schedulers, and end it before it trains."""
        look, module = self._hooks(Look), self._module(PROBE, 0)
        trainer = self._fresh(folder, look, max_epochs=self.trainer.max_epochs, max_steps=self.trainer.max_steps)
        _interruptible(trainer.fit, module, **self._data(0))
        if not look.began:
            raise TaskError("there is nothing to train: Lightning ended before the first batch.", "Give training data.")
        return look, module

    def _has_validation(self, module: Any) -> bool:
        overridden = importlib.import_module(f"{self._lightning.__name__}.utilities.model_helpers").is_overridden
        data = self.data["datamodule"]
        given = (
            self.data["val_dataloaders"] is not None
            or (data is not None and overridden("val_dataloader", data))
            or overridden("val_dataloader", module)
        )
        return bool(given and overridden("validation_step", module) and self.trainer.limit_val_batches != 0)

    def _monitored(self, folder: str, monitor: str | None) -> str:
        """The name of the validation loss among what a validation logs."""
        trainer = self._fresh(folder, self._hooks(Look), max_epochs=-1, max_steps=1)
        results = self._validate(trainer, self._module(PROBE, 0), self._data(0))
        if monitor is None:
            losses = [name for name in results if "loss" in name.lower()]
            monitor = "val_loss" if "val_loss" in results else losses[0] if len(losses) == 1 else None
        if monitor not in results:
            raise TaskError(*_nothing_to_judge(monitor, results))
        return monitor


def _nothing_to_judge(monitor: str | None, results: dict[str, float]) -> tuple[str, str]:
    logged = ", ".join(results) or "nothing"
    if monitor is None:
        return (
            f"which loss to judge is not plain: trainer.validate() logs {logged}.",
            "Name one with monitor=..., or log it in validation_step: self.log('val_loss', loss).",
        )
    return f"trainer.validate() logs no {monitor}, but {logged}.", "Name one of these with monitor=..., or log it."


def _refuse(trainer: Any) -> None:
    many = trainer.num_devices * trainer.num_nodes
    if many > 1:
        raise TaskError(
            f"the trainer has {many} devices, and the runs take place in this process, on one.",
            f"Give Trainer(devices=1, accumulate_grad_batches={many * trainer.accumulate_grad_batches}, ...): "
            "the same batch, and the same lr.",
        )
    if trainer.fast_dev_run:
        raise TaskError("the trainer has fast_dev_run, so its run is a few steps.", "Leave fast_dev_run out.")


def _by_name(factory: Callable[..., Any]) -> Callable[[float], Any]:
    """The factory, called by the name of its parameter, lr or learning_rate, or by the only one that it needs."""
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return factory
    for name in ("lr", "learning_rate"):
        if name in known and known[name].kind is not inspect.Parameter.POSITIONAL_ONLY:
            return lambda lr: factory(**{name: lr})
    needed = [
        p for p in known.values() if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) != 1:
        raise TaskError(f"{getattr(factory, '__name__', factory)}{inspect.signature(factory)} takes no lr.", FACTORY)
    return factory


def _interruptible(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call Lightning, which turns Ctrl-C into sys.exit(1) and leaves it ignored: here it stays what it was."""
    import signal
    import threading

    before = signal.getsignal(signal.SIGINT)
    try:
        return call(*args, **kwargs)
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error


def _copied(datamodule: Any) -> Any:
    """A copy of a datamodule that shares the data sets and arrays it holds, and knows no trainer."""
    if datamodule is None:
        return None
    memo: dict[int, Any] = {
        id(value): value for value in _held(vars(datamodule)) if isinstance(value, Dataset | torch.Tensor | np.ndarray)
    }
    trainer = getattr(datamodule, "trainer", None)
    if trainer is not None:
        memo[id(trainer)] = None
    return copy.deepcopy(datamodule, memo)


def _held(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _held(inner)
    else:
        yield value


def _rebuilt(loaders: Any, seed: int) -> Any:
    """Loaders like the given ones, over the same data sets, with samplers and generators of their own."""
    if isinstance(loaders, DataLoader):
        return rebuild(loaders, seed)
    if isinstance(loaders, dict):
        return {name: _rebuilt(loader, seed) for name, loader in loaders.items()}
    if isinstance(loaders, list | tuple) and any(isinstance(loader, DataLoader) for loader in loaders):
        return [_rebuilt(loader, seed) for loader in loaders]
    return loaders


def _paste(factory: Any, module: Any) -> str:
    known = inspect.signature(type(module)).parameters
    for name in ("lr", "learning_rate"):
        if name in known:
            return f"{type(module).__name__}({name}={{lr}})"
    name = getattr(factory, "__name__", "<lambda>")
    return f"{'module' if name == '<lambda>' else name}({{lr}})"


def _notes(trainer: Any) -> tuple[str, ...]:
    callbacks = [type(c).__name__ for c in trainer.callbacks if type(c).__name__ not in NEUTRAL]
    return (f"callbacks are left out of the runs: {', '.join(callbacks)}",) if callbacks else ()
