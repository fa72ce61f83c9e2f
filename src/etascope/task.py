"""What comes in: a task made of the user's own plain PyTorch pieces, unchanged."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from .errors import ScheduleError, TaskError
from .schedules import Bound, Schedule, as_schedule

__all__ = ["Task", "resumed"]

Model = nn.Module | Callable[[], nn.Module]
Loss = Callable[[nn.Module, Any], Tensor]
Optimizer = Callable[..., torch.optim.Optimizer]
Params = Callable[[nn.Module], Iterable[Tensor] | Iterable[dict[str, Any]]]
Data = DataLoader[Any] | Sequence[Any] | Callable[[int], Iterator[Any]]
PRECISIONS = ("fp32", "bf16", "fp16")


def resumed(optimizer: Optimizer, state: Mapping[str, Any]) -> Optimizer:
    """An optimizer that starts where a checkpoint left it, for a learning rate from there on.

    Moments, step counts and options (betas, weight decay) are the checkpoint's, as `load_state_dict` has it; the lr of
    each group is the one asked for. The model of the task is
    then the checkpoint's too, the horizon what is left to train, and the schedule what is left of it.

    Args:
        optimizer: as a `Task` takes it.
        state: the checkpoint's `optimizer.state_dict()`; it is copied.

    Returns:
        A function (params, lr) -> Optimizer. Lanes start every optimizer anew, so the loop engine trains it.

    >>> net = torch.nn.Linear(2, 1)
    >>> before = torch.optim.Adam(net.parameters(), lr=0.5)
    >>> net(torch.ones(1, 2)).sum().backward(); before.step()
    >>> now = resumed(torch.optim.Adam, before.state_dict())(net.parameters(), 0.1)
    >>> now.param_groups[0]["lr"], now.state[net.bias]["step"].item()
    (0.1, 1.0)
    """

    def start(params: Any, lr: float) -> torch.optim.Optimizer:
        made = optimizer(params, lr)
        lrs = [group["lr"] for group in made.param_groups]
        made.load_state_dict(copy.deepcopy(dict(state)))
        for group, own in zip(made.param_groups, lrs, strict=True):
            group["lr"] = own
        return made

    return start


def model_output_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that a model computes itself, as Hugging Face models do: `model(**batch).loss`."""
    loss: Tensor = model(**batch).loss
    return loss


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A training that can be repeated: model, loss, data, optimizer, horizon and schedule.

    Nothing given here is ever changed: the model is copied, the loaders are rebuilt, never iterated.

    Args:
        model: an `nn.Module` (copied), or a function that makes one, called with the seed set.
        optimizer: a `torch.optim` class, a `functools.partial` of one, or `(params, lr) -> Optimizer`; called
            once for each setting.
        train: a DataLoader, a list of batches (its order is kept), or a function from a seed to an iterator.
            Batches may be any nesting of tensors in tuples, lists, dicts and mappings. What a function takes beyond
            the seed, by name and with a default, `sweep(lanes=[...])` may set: `lambda seed, fold=0: ...`.
        horizon: optimizer steps of a complete run, or a text such as "3ep" (epochs of `train`).
        loss: `(model, batch) -> scalar`; default `model(**batch).loss`. What it takes beyond, by name and with a number
            as default, `sweep(lanes=[...])` may set: `def loss(model, batch, label_smoothing=0.0)`.
        params: from the model to the tensors, or param groups, to optimize; default: all that require grad,
            in one group. A group's `lr_scale` (default 1) multiplies the peak lr.
        group: the "name" of the param group whose lr is asked for; the others keep the `lr` that they have. None
            (default) asks for the peak of all, their ratios kept.
        val: batches to judge on, iterable again and again; None judges the smoothed training loss.
        evaluate: `model -> float`, judged instead of the loss on `val`.
        goal: whether a lower ("min") or a higher ("max") `evaluate` is better.
        schedule: a schedule, a function from step to multiplier over the horizon, or None for constant.
        accumulate: batches per optimizer step, whose losses are averaged.
        clip_norm: largest gradient norm, over the optimized parameters; None does not clip.
        clip_value: largest absolute value of a gradient's element, clipped after the norm; None does not clip.
        precision: "fp32", or "bf16" / "fp16" for autocast (fp16 with a gradient scaler).
        name: what reports call it.

    Raises:
        TaskError: a piece that cannot be used, with its name and the next move.
    """

    model: Model
    optimizer: Optimizer
    train: Data
    horizon: int | str
    loss: Loss = model_output_loss
    params: Params | None = None
    group: str | None = None
    val: Iterable[Any] | None = None
    evaluate: Callable[[nn.Module], float] | None = None
    goal: Literal["min", "max"] = "min"
    schedule: Schedule | Callable[[int], float] | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    clip_value: float | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    name: str = "task"

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, before anything is."""
        if self.loss is None:  # written out as `loss=None`, it means the default
            object.__setattr__(self, "loss", model_output_loss)
        self._check_functions()
        self._check_optimizer()
        _check_data("train", self.train, one_of="a DataLoader, a list of batches, or a function seed -> iterator")
        if not isinstance(self.train, DataLoader | Sequence) and not callable(self.train):
            raise TaskError(
                f"train is a {type(self.train).__name__}, which can only be iterated, not started anew from a seed.",
                "Give the DataLoader inside it, or a function seed -> iterator.",
            )
        if self.val is not None:
            _check_data("val", self.val, one_of="a DataLoader or a list of batches")
            if callable(self.val) and not hasattr(self.val, "__iter__"):
                raise TaskError("val is a function.", "Give batches that can be iterated again and again.")
        if self.goal not in ("min", "max"):
            raise TaskError(f"goal is {self.goal!r}.", 'Give "min" or "max".')
        if self.goal == "max" and self.evaluate is None:
            raise TaskError(
                'goal="max" without `evaluate`: a loss is always minimised.',
                "Give evaluate=..., a function from the model to the metric.",
            )
        if self.precision not in PRECISIONS:
            raise TaskError(f"precision is {self.precision!r}.", f"Give one of {', '.join(PRECISIONS)}.")
        if not _whole(self.accumulate) or self.accumulate < 1:
            raise TaskError(f"accumulate is {self.accumulate!r}.", "Give the batches per optimizer step, 1 or more.")
        for field, what in (("clip_norm", "norm"), ("clip_value", "bound")):
            limit = getattr(self, field)
            if limit is not None and not (_is_number(limit) and limit > 0):
                raise TaskError(f"{field} is {limit!r}.", f"Give a positive {what}, or None.")
        _ = self.steps
        try:
            _ = self.bound_schedule
        except ScheduleError as error:
            raise TaskError(f"the schedule cannot be used: {error.cause}", error.next_move) from error

    def _check_functions(self) -> None:
        if not isinstance(self.model, nn.Module) and not callable(self.model):
            raise TaskError(
                f"model is a {type(self.model).__name__}.", "Give an nn.Module, or a function that makes one."
            )
        if isinstance(self.loss, nn.Module) and type(self.loss).__module__.startswith("torch.nn"):
            name = type(self.loss).__name__
            raise TaskError(
                f"loss is nn.{name}, which knows nothing of the model and the batch.",
                f"Give a function: loss=lambda model, batch: nn.{name}()(model(batch[0]), batch[1])",
            )
        for field in ("loss", "params", "evaluate"):
            value = getattr(self, field)
            if value is not None and not callable(value):
                raise TaskError(f"{field} is a {type(value).__name__}, not a function.", "See help(etascope.Task).")

    def _check_optimizer(self) -> None:
        opt = self.optimizer
        if isinstance(opt, torch.optim.Optimizer):
            name = type(opt).__name__
            raise TaskError(
                f"optimizer is an instance of {name}, bound to parameters and an lr.",
                f"Give the class, torch.optim.{name}, or functools.partial(torch.optim.{name}, ...) with its options.",
            )
        if not callable(opt):
            raise TaskError(
                f"optimizer is a {type(opt).__name__}.",
                "Give a torch.optim class, or (params, lr) -> Optimizer.",
            )
        if isinstance(opt, functools.partial) and "lr" in opt.keywords:
            raise TaskError(
                f"optimizer has an lr of its own ({opt.keywords['lr']!r}), and the lr is what etascope looks for.",
                "Leave lr out of functools.partial(...); for groups of other lrs use `lr_scale` in params.",
            )

    @property
    def steps_per_epoch(self) -> float | None:
        """Optimizer steps of one epoch, not always whole; None where the training data has no length."""
        try:
            return len(self.train) / self.accumulate or None  # type: ignore[arg-type]
        except TypeError:
            return None

    @property
    def steps(self) -> int:
        """The horizon in optimizer steps."""
        if _whole(self.horizon) and int(self.horizon) > 0:
            return int(self.horizon)
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*ep\s*", str(self.horizon))
        if isinstance(self.horizon, str) and match:
            if self.steps_per_epoch is None:
                raise TaskError(
                    f"horizon is {self.horizon!r}, and the training data has no length to count epochs by.",
                    "Give the horizon in optimizer steps.",
                )
            if (steps := round(float(match[1]) * self.steps_per_epoch)) > 0:
                return steps
        raise TaskError(
            f"horizon is {self.horizon!r}, which is no number of steps.",
            'Give the optimizer steps of a complete run (1 or more), or epochs such as "3ep".',
        )

    @property
    def bound_schedule(self) -> Bound:
        """The schedule, laid out on the horizon."""
        return as_schedule(self.schedule).bind(self.steps, self.steps_per_epoch)


def _check_data(field: str, data: Any, one_of: str) -> None:
    if isinstance(data, Dataset):
        raise TaskError(
            f"{field} is a dataset.",
            f"Wrap it: {field}=torch.utils.data.DataLoader(dataset, batch_size=..., shuffle=...)",
        )
    if isinstance(data, Iterator):
        raise TaskError(
            f"{field} is an iterator, which can be read only once.",
            f"Give {one_of}, so that each run can start anew.",
        )
    if isinstance(data, DataLoader) and type(data).__iter__ is not DataLoader.__iter__:
        raise TaskError(
            f"{field} is a {type(data).__name__}, a DataLoader that iterates in a way of its own, which a loader that "
            "etascope makes from its dataset would not follow.",
            f"Do it in the dataset or in collate_fn, with torch's DataLoader; or give {one_of.split(', ', 1)[-1]}.",
        )
    if isinstance(data, Tensor | Mapping) or not (callable(data) or isinstance(data, Iterable)):
        raise TaskError(f"{field} is a {type(data).__name__}.", f"Give {one_of}.")
    if isinstance(data, Sequence) and not data:
        raise TaskError(f"{field} is empty: it has no batches.", "Check how the data is loaded.")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
