"""What a setting may differ in beside seed and lr: names, what each is for, and whether the task takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import DataLoader

from ..errors import OptionError, ScheduleError
from ..schedules import Bound
from .base import Options, Setting

if TYPE_CHECKING:
    from .prepared import Prepared

__all__ = ["Homes", "Split", "check_options", "dropouts", "homes_of"]

OWN = ("dropout", "schedule")  # what etascope itself sets
NOT_OPTIONS = {"name", "params", "param_names", "lr", "lr_scale", "initial_lr"}
HOW = {"foreach", "fused", "capturable", "differentiable"}  # how to compute, not what
AT_ONCE = {"initial_accumulator_value", "decoupled_weight_decay"}  # what the class and its constructor settle


@dataclass(frozen=True)
class Split:
    """A setting's options by what they are for.

    Args:
        optimizer: options of every param group.
        loss: keyword arguments of the task's loss.
        data: keyword arguments of the task's `train` function.
        dropout: rate of every dropout module; None leaves each its own.
        schedule: in place of the task's own; None leaves that.
    """

    optimizer: Mapping[str, Any]
    loss: Mapping[str, float]
    data: Options
    dropout: float | None
    schedule: Bound | None


@dataclass(frozen=True)
class Homes:
    """The names that a task takes, by what takes them.

    Args:
        optimizer: the optimizer's class.
        groups: names in its param groups, with the first group's values.
        loss: names that the loss takes, with their defaults.
        data: names that the `train` function takes.
    """

    optimizer: str
    groups: Mapping[str, Any]
    loss: Mapping[str, Any]
    data: tuple[str, ...]

    def split(self, options: Options) -> Split:
        """The options by what they are for; names that nothing takes are passed over."""
        given = dict(options)
        return Split(
            optimizer={name: value for name, value in given.items() if name in self.groups and name not in OWN},
            loss={name: float(value) for name, value in given.items() if name in self.loss and name not in OWN},
            data=tuple((name, value) for name, value in options if name in self.data),
            dropout=given.get("dropout"),
            schedule=given.get("schedule"),
        )

    def takers(self, name: str) -> list[str]:
        """All that take this name, in words."""
        found = {
            "etascope itself": OWN,
            self.optimizer: self.groups,
            "the loss": self.loss,
            "the function train": self.data,
        }
        return [taker for taker, names in found.items() if name in names]

    def __str__(self) -> str:
        named = [
            ("the optimizer", self.groups),
            ("the loss", self.loss),
            ("train", self.data),
            ("any task", ("lr", "seed", "schedule", "dropout")),
        ]
        return "; ".join(f"for {home}: {', '.join(sorted(names))}" for home, names in named if names)


def homes_of(optimizer: torch.optim.Optimizer, loss: Any, train: Any) -> Homes:
    """What takes which name, read off an optimizer and off the signatures of loss and training data."""
    groups = {
        name: value
        for name, value in optimizer.param_groups[0].items()
        if name not in NOT_OPTIONS | HOW | AT_ONCE and _is_numeric(value)
    }
    reads = callable(train) and not isinstance(train, DataLoader | Sequence)
    return Homes(
        type(optimizer).__name__,
        groups,
        _keywords(loss.forward if isinstance(loss, nn.Module) else loss, 2),
        tuple(_keywords(train, 1)) if reads else (),
    )


def dropouts(model: nn.Module) -> list[_DropoutNd]:
    """The model's dropout modules, each once."""
    return [module for module in model.modules() if isinstance(module, _DropoutNd)]


def check_options(prepared: Prepared, settings: Sequence[Setting]) -> None:
    """Refuse, before anything is trained, what the task does not take.

    Raises:
        OptionError: an unknown or ambiguous name, a value of the wrong kind, a schedule that does not fit.
    """
    for setting in settings:
        for name, value in setting.options:
            _check(prepared, setting, name, value)
    if optimized := [s for s in settings if prepared.split(s.options).optimizer]:
        _check_constructor(prepared, optimized)


def _check(prepared: Prepared, setting: Setting, name: str, value: Any) -> None:
    homes = prepared.homes
    takers, lane = homes.takers(name), f"lane {setting}"
    if not takers:
        raise OptionError(f"{lane}: nothing in this task takes {name!r}.", f"There is, {homes}.")
    if len(takers) > 1:
        raise OptionError(
            f"{lane}: {name!r} could mean two things: {' and '.join(takers)} take it.",
            "Rename the argument of your function.",
        )
    if name == "schedule":
        try:
            prepared.bound(value)
        except ScheduleError as error:
            raise OptionError(f"{lane}: the schedule cannot be used: {error.cause}", error.next_move) from error
    elif name == "dropout":
        if not _is_number(value) or not 0 <= value <= 1:
            raise OptionError(f"{lane}: dropout is {value!r}.", "Give a rate from 0 to 1.")
        if not dropouts(prepared.model(setting.seed)):
            raise OptionError(
                f"{lane}: the model has no nn.Dropout whose rate could be set.",
                "Build it with one, nn.Dropout(0.0), or pass the rate to the loss as an argument of your own.",
            )
    elif name in homes.loss and not _is_number(value):
        raise OptionError(f"{lane}: {name} is {value!r}, and the loss gets numbers alone.", "Give a number.")
    elif name in homes.groups and not _alike(value, own := homes.groups[name]):
        kind = f"{len(own)} numbers" if isinstance(own, tuple) else "a bool" if isinstance(own, bool) else "a number"
        raise OptionError(f"{lane}: {name} is {value!r}.", f"{homes.optimizer} takes {kind} there, as {own!r}.")


def _check_constructor(prepared: Prepared, settings: Sequence[Setting]) -> None:
    """Have torch's own constructor look at values that are set after it ran."""
    model = prepared.model(settings[0].seed)
    for setting in settings:
        optimizer, _ = prepared.optimizer(model, setting.lr, setting.options)
        make: Any = type(optimizer)
        known = inspect.signature(make).parameters
        if not make.__module__.startswith("torch.optim"):
            continue
        for group in optimizer.param_groups:
            values = {name: group[name] for name in prepared.homes.groups if name in known and name in group}
            try:
                make([nn.Parameter(torch.zeros(1))], lr=setting.lr, **values)
            except (ValueError, TypeError) as error:
                raise OptionError(f"lane {setting}: {error}.", f"See torch.optim.{make.__name__}.") from error


def _keywords(function: Callable[..., Any], first: int) -> dict[str, Any]:
    """The arguments after the first few that can be given by name, with their defaults."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return {}
    taken, found = 0, {}
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and taken < first:
            taken += 1
        elif p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            found[p.name] = p.default
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_numeric(value: Any) -> bool:
    several = isinstance(value, tuple | list) and bool(value)
    return isinstance(value, Real) or (several and all(_is_number(v) for v in value))


def _alike(value: Any, own: Any) -> bool:
    if isinstance(own, tuple | list):
        return isinstance(value, tuple) and len(value) == len(own) and all(_is_number(v) for v in value)
    return isinstance(value, bool) if isinstance(own, bool) else _is_number(value)
