"""What the adapters of trainers share: silence, the end of a training curve, an optimizer in words, its schedule."""

from __future__ import annotations

import inspect
import logging
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..errors import TaskError
from ..records import Point

__all__ = ["PROBE", "base_lrs", "decays", "hushed", "in_words", "must_follow", "play", "tail"]

PROBE = 1e-3  # the lr at which a trainer is looked at before anything is trained
SAID = 200  # steps whose multipliers a record holds, at most
QUIET = ("foreach", "fused", "capturable", "differentiable", "maximize")  # how it computes, not what


@contextmanager
def hushed(*names: str) -> Iterator[None]:
    """Let a framework announce none of many short trainings; its loggers and the filters of warnings are given back.

    Args:
        names: the framework's packages, which are its loggers' names as well.
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            for name, logger in zip(names, loggers, strict=True):
                warnings.filterwarnings("ignore", module=rf"{re.escape(name)}(\.|$)")
                logger.setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")  # as `play` does
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def tail(points: Sequence[Point], steps: int) -> float:
    """The mean training loss of the last tenth of a run; nan where nothing was told.

    >>> tail([(80, 3.0), (95, 2.0), (100, 1.0)], 100), tail([(3, 4.0)], 9)
    (1.5, 4.0)
    """
    last = [loss for step, loss in points if step > 0.9 * steps] or [loss for _, loss in points[-1:]]
    return math.fsum(last) / len(last) if last else math.nan


def in_words(optimizer: Any) -> str:
    """An optimizer's name and the options in which it differs from its class's defaults."""
    known = inspect.signature(type(optimizer)).parameters
    options = {k: v for k, v in optimizer.defaults.items() if k in known and isinstance(v, bool | int | float | tuple)}
    changed = {k: v for k, v in options.items() if k != "lr" and k not in QUIET and v != known[k].default}
    decay = max((g.get("weight_decay", 0.0) for g in optimizer.param_groups), default=0.0)
    if decay and "weight_decay" in options and decay != known["weight_decay"].default:
        changed["weight_decay"] = decay  # Hugging Face's Trainer says it in the groups alone
    return f"{type(optimizer).__name__}({', '.join(f'{k}={v!r}' for k, v in changed.items())})"


def base_lrs(optimizers: Sequence[Any]) -> list[float]:
    """The lr of every param group before a schedule multiplies it."""
    return [float(g.get("initial_lr", g["lr"])) for optimizer in optimizers for g in optimizer.param_groups]


def must_follow(lr: float, at_lr: Sequence[float], at_probe: Sequence[float], next_move: str) -> None:
    """Raise where another lr gives the very same optimizer: there is nothing to find then."""
    if lr != PROBE and at_lr and list(at_lr) == list(at_probe):
        raise TaskError(
            f"the lr has no effect: the optimizer's is {at_lr[0]:g} at lr={PROBE:g} and at lr={lr:g}.", next_move
        )


def play(optimizer: torch.optim.Optimizer, lr: float, steps: int, step: Callable[[int], None]) -> list[Point]:
    """The first group's lr over a complete run, as (step, multiple of `lr`); `step(t)` ends step t, counted from 0."""
    shown = set(np.unique(np.linspace(0, steps - 1, min(steps, SAID)).round().astype(int)).tolist())
    points: list[Point] = []
    for t in range(steps):
        if t in shown:
            points.append((t, float(optimizer.param_groups[0]["lr"]) / lr))
        step(t)
    return points


def decays(points: Sequence[Point]) -> bool:
    """Whether the last multiplier is below half the largest, as `Bound.decays` has it."""
    return bool(points) and points[-1][1] < max(v for _, v in points) / 2
