"""The task: horizons, epochs, schedules; what cannot be used is in engines/test_refusals.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from etascope.errors import TaskError
from etascope.schedules import constant, cosine, linear, step_decay, warmup
from etascope.task import Task

LOADER: DataLoader[Any] = DataLoader(TensorDataset(torch.zeros(10, 2)), batch_size=3)  # 4 batches


def task(**changes: Any) -> Task:
    options = {"model": nn.Linear(2, 1), "optimizer": torch.optim.SGD, "train": LOADER, "horizon": 100}
    return Task(**(options | changes))


@pytest.mark.parametrize(
    ("horizon", "accumulate", "steps"),
    [
        (100, 1, 100),
        (1, 1, 1),
        ("3ep", 1, 12),
        (" 2 ep ", 1, 8),
        ("0.5ep", 1, 2),
        ("3ep", 2, 6),
        ("3ep", 3, 4),  # of 12 batches: an accumulation goes on into the next epoch
        ("9ep", 9, 4),
        (np.int64(30), 1, 30),
    ],
)
def test_steps(horizon: Any, accumulate: int, steps: int) -> None:
    assert task(horizon=horizon, accumulate=accumulate).steps == steps


@pytest.mark.parametrize("train", [[torch.zeros(2)] * 4, LOADER])
def test_epochs_of_anything_with_a_length(train: Any) -> None:
    assert task(train=train, horizon="2ep").steps == 8


@pytest.mark.parametrize("horizon", [0, -1, 1.5, 100.0, None, "3", "ep", "-3ep", "3epochs", "nanep", True, [3]])
def test_no_horizon(horizon: Any) -> None:
    with pytest.raises(TaskError, match="no number of steps") as raised:
        task(horizon=horizon)
    assert "epochs" in raised.value.next_move


def test_epochs_need_a_length() -> None:
    with pytest.raises(TaskError, match="no length to count epochs by"):
        task(train=lambda seed: iter([torch.zeros(1)]), horizon="3ep")


def test_schedules_are_laid_out_on_the_horizon() -> None:
    assert task().bound_schedule(50) == 1.0
    assert task(schedule=constant()).bound_schedule.decays is False
    bound = task(schedule=warmup("10%") >> cosine()).bound_schedule
    assert bound(0) < 0.1 < bound(10) == 1.0
    assert bound.decays
    assert task(horizon="5ep", schedule=step_decay("2ep", 0.1)).bound_schedule(8) == pytest.approx(0.1)
    assert task(schedule=lambda t: 0.5**t).bound_schedule(2) == 0.25


def test_epochs_that_accumulation_does_not_divide() -> None:
    """10 epochs of 4 batches, 7 to a step: 5.7 steps, and a schedule of as many epochs fits."""
    whole = task(horizon="10ep", accumulate=7, schedule=warmup("1ep") >> linear("9ep"))
    assert whole.steps == 6
    #                          0         4/7: half a step is a step
    assert whole.bound_schedule([0, 1, 6]).tolist() == [0.5, 1.0, 0.0]
    part = task(horizon="10ep", accumulate=3, schedule=step_decay("5ep"))
    assert part.bound_schedule([0, 6, 7, 12]).tolist() == pytest.approx([1, 1, 0.1, 0.1])


def test_epochs_in_a_schedule_need_a_length() -> None:
    with pytest.raises(TaskError, match="the schedule cannot be used") as raised:
        task(train=lambda seed: iter([]), schedule=warmup("2ep") >> cosine())
    assert raised.value.__cause__ is not None


def test_the_loss_may_be_the_models_own() -> None:
    class Output:
        loss = torch.ones(())

    class Own(nn.Module):
        def forward(self, x: torch.Tensor) -> Output:
            return Output()

    for one in (task(model=Own()), task(model=Own(), loss=None)):
        assert one.loss(one.model, {"x": torch.zeros(1)}) == 1


def test_a_task_is_frozen_and_compares_by_identity() -> None:
    one = task()
    with pytest.raises(AttributeError):
        one.horizon = 5  # type: ignore[misc]
    assert one == one
    assert one != task()
    assert len({one, task()}) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": partial(torch.optim.AdamW, weight_decay=0.1)},
        {"optimizer": lambda params, lr: torch.optim.SGD(params, lr=lr)},
        {"model": lambda: nn.Linear(2, 1)},
        {"evaluate": lambda model: 0.5, "goal": "max"},
        {"precision": "bf16", "accumulate": 4, "clip_norm": 1.0},
        {"val": LOADER},
        {"train": (torch.zeros(2), torch.ones(2))},
    ],
)
def test_what_can_be_used(changes: dict[str, Any]) -> None:
    assert task(**changes).steps == 100
