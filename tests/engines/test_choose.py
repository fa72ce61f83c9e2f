"""The choice of an engine: what the trials measure, and what becomes of a fault in them."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, cross_entropy, mlp, setting, small_task
from torch import Tensor, nn

from etascope.engines.choose import Chosen, choose
from etascope.engines.prepared import Prepared
from etascope.engines.stack import Stack
from etascope.engines.trials import samples_of
from etascope.errors import EngineError, TaskError
from etascope.task import Task

choose_module = importlib.import_module("etascope.engines.choose")  # its name is also that of the function
PLENTY = 1e5  # steps to come


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`test_workers.py` has several."""
    monkeypatch.setattr(choose_module, "cores", lambda: 1)


def chosen(task: Task, asked: str = "auto", steps_to_come: float = PLENTY, **options: Any) -> Chosen:
    return choose(Prepared(task, CPU), asked, 0, steps_to_come, **options)


def test_slow_data_and_slow_evaluation_are_part_of_a_step() -> None:
    def slow_data(seed: int) -> Any:
        while True:
            time.sleep(0.02)
            yield batches("linear", n=1)[0]

    def slow_metric(model: nn.Module) -> float:
        time.sleep(0.05)
        return float(model(torch.ones(1, 5)).sum())

    slow = chosen(small_task(train=slow_data, val=None), "loop", time_it=True)
    assert slow.step_s > 0.02 / 4  # four settings share what is read
    metric = small_task(evaluate=slow_metric, horizon=20)
    points = len(Prepared(metric, CPU).judging(20).batches_at)
    assert points > 1
    assert chosen(metric, "loop", time_it=True).step_s > points * 0.05 / 20


@pytest.mark.parametrize(("asked", "spent"), [("loop", 6), ("lanes", 24)])
def test_an_explicit_engine_is_timed_with_one_thread_and_with_all(asked: str, spent: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert chosen(small_task(), asked, time_it=True).trial_steps == spent
        assert chosen(small_task(), asked).trial_steps == 0
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("steps_to_come", "least"), [(10, 0), (100, 3), (280, 3 + 8), (1000, 3 + 3 + 12 + 3 + 8)])
def test_trials_take_at_most_four_hundredths(steps_to_come: float, least: int) -> None:
    # the second round leaves out what the first showed to be far slower
    assert least <= chosen(small_task(), steps_to_come=steps_to_come).trial_steps <= steps_to_come * 0.04


def test_a_trial_of_lanes_that_fails_is_a_refusal() -> None:
    """The second batch is what `vmap` cannot take."""

    def loss(model: nn.Module, batch: Any) -> Tensor:
        value = cross_entropy(model, batch)
        return value if len(batch[0]) == 10 else value * (1 if value > 0 else 2)

    task = small_task(loss=loss, train=batches("linear", n=2), val=None)
    auto = chosen(task).engine.ran
    assert auto.engine == "loop"
    assert auto.why.startswith("lanes cannot: a trial of them failed: ")
    assert "data-dependent control flow" in auto.why
    with pytest.raises(EngineError, match="a trial of them failed"):
        chosen(task, "lanes", time_it=True)


class Unwilling(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:
        raise ValueError("not today")


def fails_later(model: nn.Module, batch: Any) -> Tensor:
    if len(batch[0]) < 10:
        raise KeyError("too few")
    return cross_entropy(model, batch)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": Unwilling}, "the task's optimizer raised ValueError: not today"),
        ({"loss": fails_later, "train": batches("linear", n=2)}, "the task's loss raised KeyError: 'too few'"),
    ],
)
def test_the_users_own_faults_in_a_trial_are_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(TaskError, match=words):
        chosen(small_task(**changes, val=None))


def test_activations_count_in_how_many_lanes_there_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 1), nn.Tanh(), Spread(), mlp())

    class Spread(nn.Module):
        def forward(self, x: Tensor) -> Tensor:  # 4 kB a row kept for the gradient, and no parameter
            return (x * torch.ones(1, 1000)).exp().mean(1, keepdim=True).expand(-1, 5)

    monkeypatch.setattr(choose_module, "STACK_BYTES", 8 * 2**20)
    small, big = (batches("linear", n=1, rows=rows) for rows in (10, 200))
    chunks = [chosen(small_task(model=wide, train=data, val=None), "lanes").engine.ran.chunk for data in (small, big)]
    assert chunks[0] == 32
    # 197 rows · 1000 · 4 bytes: what exp keeps; the product keeps its factor, 4 kB; twice that for the gradients
    assert chunks[1] == 8 * 2**20 // (2 * 4 * 1000 * 197) == 5


def folds(seed: int, fold: int = 0) -> Any:
    return batches("linear", seed=fold)


def test_trials_train_what_a_sweep_does_once_for_each_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = [setting(10.0 ** (3 + i), seed=i % 2, fold=i % 3, weight_decay=0.1) for i in range(9)]
    switched = [setting(10.0**-i, nesterov=True) for i in range(3)]
    prepared = Prepared(small_task(train=folds), CPU)
    samples = sorted(samples_of(prepared, [*plain, *switched], 0, 32), key=lambda sample: -sample.share)
    assert [(len(s.unit), s.share) for s in samples] == [(9, 0.75), (3, 0.25)]
    assert {s.lr for sample in samples for s in sample.unit} <= {1e-4 * 1.1**i for i in range(9)}  # none diverges
    assert sorted((s.seed, s.options) for s in samples[0].unit) == sorted((s.seed, s.options) for s in plain)

    made: list[tuple[int, bool]] = []
    init = Stack.__init__

    def noted(self: Stack, prepared: Prepared, unit: Any, **how: Any) -> None:
        init(self, prepared, unit, **how)
        made.append((len(unit), self.data_L is not None))

    monkeypatch.setattr(Stack, "__init__", noted)
    assert chosen(small_task(train=folds), settings=[*plain, *switched]).trial_steps > 0
    assert {(9, True), (3, False)} <= set(made)
