"""The doors that people already stand at: a framework's trainer, taken as the training function that it is.

A trainer is known by the names in its type's ancestry, so no framework is imported before one of its objects is here;
its adapter stands in `etascope.integrations`, above this room, and is loaded by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol

from ..engines import undisturbed
from ..errors import OptionError, TaskError
from .opening import Subject

__all__ = ["Given", "Lightning", "entered"]

HUGGING_FACE = {"transformers.trainer.Trainer": "transformers"}
LIGHTNING = {
    "lightning.pytorch.trainer.trainer.Trainer": "lightning.pytorch",
    "pytorch_lightning.trainer.trainer.Trainer": "pytorch_lightning",
}
MODULE = {
    "lightning.pytorch.core.module.LightningModule": "lightning.pytorch",
    "pytorch_lightning.core.module.LightningModule": "pytorch_lightning",
}
FACTORY = "Give a function of the lr that builds the module: eta.find(lambda lr: Lit(lr=lr), trainer=trainer, ...)."


class Trains(Protocol):
    """A trainer: Hugging Face's."""

    train: Callable[..., Any]
    evaluate: Callable[..., Any]


Given = Subject | Trains | Callable[..., Any]


@dataclass(frozen=True)
class Lightning:
    """What a verb was given for Lightning; None where it was not.

    Args:
        trainer: Lightning's.
        datamodule: as Lightning's `trainer.fit` takes it.
        train_dataloaders: as Lightning's `trainer.fit` takes them.
        val_dataloaders: as Lightning's `trainer.fit` takes them.
        monitor: what of Lightning's validation is the loss.
    """

    trainer: Any
    datamodule: Any
    train_dataloaders: Any
    val_dataloaders: Any
    monitor: str | None


def entered(task: Any, horizon: int | None, lightning: Lightning) -> tuple[Subject, int | None]:
    """The task, or the training function that a framework's trainer is, and its horizon.

    Args:
        task: what a verb was given first: a task, a training function, Hugging Face's `Trainer`, or with Lightning's
            trainer a function of the lr that builds a LightningModule.
        horizon: for a training function only; a trainer has its own.
        lightning: what was given for Lightning.

    Raises:
        OptionError, TaskError: what does not go together, or cannot be trained.
    """
    more = {field.name: getattr(lightning, field.name) for field in fields(lightning)}
    given = [name for name, value in more.items() if value is not None]
    trainer = more.pop("trainer")
    if _package(task, LIGHTNING):
        raise TaskError("Lightning's Trainer knows no module before it fits one.", FACTORY)
    if _package(task, MODULE):
        raise TaskError(f"a {type(task).__name__} that is built has one lr already.", FACTORY)
    hugging_face = _package(task, HUGGING_FACE)
    if hugging_face is None and trainer is None:
        if given:
            raise OptionError(f"{given[0]}= is Lightning's, and there is no trainer.", "Give trainer=L.Trainer(...).")
        return task, horizon
    if hugging_face is not None and given:
        raise OptionError(
            f"{given[0]}= is Lightning's, and a Hugging Face Trainer is given.", f"Leave {given[0]}= out."
        )
    if horizon is not None:
        raise OptionError(
            "horizon is given twice: the trainer has its own.", "Leave horizon= out, or change the trainer's max_steps."
        )
    with undisturbed():
        if hugging_face is not None:
            run = _adapter("huggingface").training_function(task)
        else:
            run = _adapter("lightning").training_function(_factory(task), trainer, _lightning(trainer), **more)
    return run, run.horizon


def _lightning(trainer: Any) -> str:
    package = _package(trainer, LIGHTNING)
    if package is not None:
        return package
    if _package(trainer, HUGGING_FACE):
        raise OptionError("trainer= is Lightning's, and this is Hugging Face's.", "Give it first: eta.find(trainer).")
    raise TaskError(f"a {type(trainer).__name__} is no trainer of Lightning.", "Give trainer=L.Trainer(...).")


def _factory(task: Any) -> Any:
    if not callable(task):
        raise TaskError(f"a {type(task).__name__} builds no module.", FACTORY)
    return task


def _package(value: Any, known: dict[str, str]) -> str | None:
    """The package of the first ancestor of a value's type that is known."""
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(value).__mro__)
    return next((known[name] for name in names if name in known), None)


def _adapter(name: str) -> Any:
    return importlib.import_module(f"etascope.integrations.{name}")
