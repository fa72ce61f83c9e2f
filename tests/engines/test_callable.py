"""The training function: what it says, and what becomes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from etascope.engines import Setting, TrainingFunction
from etascope.errors import TaskError
from etascope.records import Engine as Ran


def function(run: Callable[..., Any], init_loss: float | None = None) -> TrainingFunction:
    return TrainingFunction(run, 10, Ran("callable", 1, 0, "its own"), init_loss)


def train(own: TrainingFunction) -> Any:
    return own.train([Setting(0, 0.1)], 10, 0, lambda *_: None).curves[0]


def yields_losses(lr: float, steps: int, seed: int) -> Iterator[Any]:
    for i in range(steps):
        yield 1 / (i + 1)
    return 0.1


def yields_pairs(lr: float, steps: int, seed: int) -> Iterator[Any]:
    for i in range(steps):
        yield i, 1 / (i + 1)
    return 0.1


def test_what_is_yielded_is_a_step_and_its_loss() -> None:
    assert train(function(yields_pairs)).loss == 0.1
    with pytest.raises(TaskError, match=r"yielded 1\.0, not \(step, train_loss\)"):
        train(function(yields_losses))


def test_the_loss_at_init_is_asked_once() -> None:
    asked: list[int] = []

    def run(lr: float, steps: int, seed: int) -> float:
        asked.append(steps)
        return 2.0 if seed == 0 else math.nan

    own = function(run)
    assert [own.init_loss(seed) for seed in (0, 1, 0)] == [2.0] * 3
    assert asked == [0]
    assert function(run, 5.0).init_loss(0) == 5.0
    unknown = function(run)
    assert [unknown.init_loss(seed) for seed in (1, 0)] == [None, None]
    assert asked == [0, 0]
