"""What every engine promises: settings in, curves out."""

from __future__ import annotations

import gc
import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import batches, engine, small_task, train
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from etascope.engines.base import Setting
from etascope.engines.judging import LAST_TENTH
from etascope.records import Curve
from etascope.schedules import cosine, warmup
from etascope.task import Task

LRS = [0.003, 0.01, 0.03, 0.1, 0.3]
pytestmark = pytest.mark.parametrize("name", ["loop", "lanes"])


def shuffled() -> DataLoader[Any]:
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=8, shuffle=True)


def noisy(**changes: Any) -> Task:
    """A task with dropout and a shuffled loader: all the randomness there is."""
    return small_task("dropout", **({"train": shuffled()} | changes))


@pytest.mark.parametrize("chunk", [1, 3, 32])
def test_units_partition_the_settings(name: str, chunk: int) -> None:
    settings = [Setting(seed, lr) for lr in reversed(LRS) for seed in (1, 0)]
    units = engine(name, small_task(), chunk).units(settings)
    assert sorted(s for unit in units for s in unit) == sorted(settings)
    assert units == engine(name, small_task(), chunk).units(settings[::-1])
    assert all(len({s.seed for s in unit}) == 1 and len(unit) <= chunk for unit in units)
    if name == "lanes":
        assert max(map(len, units)) - min(map(len, units)) <= 1
        assert len(units) == 2 * math.ceil(len(LRS) / chunk)


def test_curves_come_in_the_units_order(name: str) -> None:
    lrs = [0.1, 0.003, 0.03]
    curves = train(name, small_task(), lrs, steps=20, seed=4)
    assert [c.lr for c in curves] == lrs
    assert all((c.seed, c.steps, c.trained, c.diverged_at) == (4, 20, 20, None) for c in curves)
    for c in curves:
        steps, losses = [s for s, _ in c.val], [v for _, v in c.val]
        assert steps[0] == 0
        assert steps[-1] == 20
        assert steps == sorted(set(steps))
        assert c.train[-1][0] == 20
        assert all(math.isfinite(v) for v in losses)
    assert len({c.val[0] for c in curves}) == 1  # one init


def test_no_tensor_stays_from_each_step(name: str) -> None:
    held: list[int] = []

    def count(*_: int) -> None:
        held.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))

    gc.freeze()  # what was there before is not looked at again at each step
    try:
        engine(name, small_task(horizon=256)).train([Setting(0, lr) for lr in LRS[:3]], 256, 0, count)
    finally:
        gc.unfreeze()
    assert len(held) >= 16
    assert held[-2] - held[2] < 32  # a few of each evaluation; what stays among what goes makes the heap grow


def test_training_learns(name: str) -> None:
    curve = train(name, small_task("linear", horizon=200), [0.1], steps=200)[0]
    assert curve.loss < 0.6 * curve.val[0][1]


def test_repetition_is_the_same_to_the_bit(name: str) -> None:
    first = train(name, noisy(), LRS, steps=30)
    torch.rand(5)  # whatever the state outside
    assert train(name, noisy(), LRS, steps=30) == first


def test_repetition_on_one_engine_is_the_same_to_the_bit(name: str) -> None:
    own = engine(name, noisy())
    unit = [Setting(0, lr) for lr in LRS]
    first, *others = (own.train(unit, 30, rung, lambda *_: None).curves for rung in (0, 1, 0))
    assert others[1] == first  # from kept batches, or read again
    assert others[0] != first  # another rung, other noise


def test_an_engine_that_trained_before_is_like_a_new_one(name: str) -> None:
    """What is left of a rung may be trained in another process: nothing may hang on what ran before."""

    class Augmented(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 20

        def __getitem__(self, i: int) -> Any:
            return torch.randn(5) + i / 10, i % 3  # draws from the global generator

    task = noisy(train=DataLoader(Augmented(), batch_size=4), val=None)
    used = engine(name, task)
    for lr in LRS[:3]:
        used.train([Setting(0, lr)], 10, 0, lambda *_: None)
    again = used.train([Setting(0, LRS[3])], 12, 0, lambda *_: None).curves
    assert again == engine(name, task).train([Setting(0, LRS[3])], 12, 0, lambda *_: None).curves


def test_seeds_differ(name: str) -> None:
    a, b = (train(name, noisy(), [0.03], steps=20, seed=seed)[0] for seed in (0, 1))
    assert a.train != b.train
    assert a.val[0] != b.val[0]  # another init


def test_the_lr_does_not_change_the_randomness(name: str) -> None:
    a, b = train(name, noisy(optimizer=torch.optim.SGD), [1e-12, 2e-12], steps=10)
    if name == "loop":  # lanes have noise of their own
        assert [v for _, v in a.train] == pytest.approx([v for _, v in b.train], rel=1e-5)
    assert a.val[0] == b.val[0]


@pytest.mark.parametrize("steps", [1, 15, 16, 17, 48, 70])
@pytest.mark.parametrize("wild", [(), (1e3,), (1e3, 1e8, 1e20), (1e30,)])
def test_ticks_count_the_trained_steps(name: str, steps: int, wild: tuple[float, ...]) -> None:
    square = lambda model, batch: model(batch[0]).square().mean()  # noqa: E731
    task = small_task(model=lambda: nn.Linear(5, 3), loss=square, optimizer=torch.optim.SGD)
    ticks: list[int] = []
    curves = train(name, task, [0.01, *wild], steps, tick=lambda n, *_: ticks.append(n))
    assert sum(ticks) == sum(c.trained for c in curves)
    assert all(n >= 0 for n in ticks)
    assert all(c.trained == (steps if c.diverged_at is None else c.diverged_at + 1) for c in curves)


@pytest.mark.parametrize("at", [0, 14, 15, 16, 31, 33])
def test_ticks_and_steps_of_a_loss_that_stops_being_finite(name: str, at: int) -> None:
    data = batches("linear", n=40)
    data[at][0][0, 0] = math.nan
    ticks: list[int] = []
    curves = train(name, small_task(train=data, val=None), [0.01, 0.02], steps=36, tick=lambda n, *_: ticks.append(n))
    assert [(c.diverged_at, c.trained, c.loss) for c in curves] == [(at, at + 1, math.inf)] * 2
    assert all(len(c.train) == at for c in curves)
    assert sum(ticks) == 2 * (at + 1)


def test_without_val_the_training_loss_is_judged(name: str) -> None:
    curve = train(name, small_task(val=None), [0.03], steps=45)[0]
    assert curve.val == ()
    assert curve.loss == pytest.approx(sum(v for _, v in curve.train[-5:]) / 5, rel=1e-12)  # the last tenth


def test_a_constant_schedule_is_judged_by_a_mean_in_the_last_tenth(name: str) -> None:
    curve = train(name, small_task(), [0.03], steps=80)[0]
    at = dict(curve.val)
    final = [math.ceil(f * 80) for f in LAST_TENTH]
    assert final[0] > 0.9 * 80
    assert len(final) == 4
    assert curve.loss == pytest.approx(sum(at[s] for s in final) / 4, rel=1e-12)


def test_a_decaying_schedule_is_judged_after_the_last_step(name: str) -> None:
    curve = train(name, small_task(schedule=cosine()), [0.03], steps=80)[0]
    assert curve.loss == dict(curve.val)[80]


def test_a_metric_that_is_better_when_higher_is_negated(name: str) -> None:
    x, y = batches("linear", n=1, rows=64, seed=9)[0]

    def accuracy(model: nn.Module) -> float:
        assert not model.training
        return float((model(x).argmax(1) == y).double().mean())

    curve = train(name, small_task(evaluate=accuracy, goal="max"), [0.1], steps=60)[0]
    assert all(-1 <= v <= 0 for _, v in curve.val)
    assert curve.loss == curve.val[-1][1] < curve.val[0][1]
    lower = train(name, small_task(evaluate=accuracy, goal="min"), [1e-9], steps=20)[0]
    assert lower.loss == -train(name, small_task(evaluate=accuracy, goal="max"), [1e-9], steps=20)[0].loss


def test_a_run_that_ends_above_its_start_diverged_without_a_step(name: str) -> None:
    curve = train(name, small_task(val=None), [300.0], steps=30)[0]
    assert (curve.loss, curve.diverged_at, curve.trained) == (math.inf, None, 30)
    assert all(math.isfinite(v) for _, v in curve.train)


class Probe(nn.Module):
    """Its loss is its weight, whose gradient is 1: so each loss says what lr the step before it had."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.weight + 0 * batch.sum()


def applied_lrs(name: str, task: Task, steps: int) -> list[float]:
    """The lr of every step but the last."""
    curve: Curve = train(name, task, [2.0], steps)[0]
    losses = [v for _, v in curve.train]
    assert len(losses) == steps
    return [a - b for a, b in itertools.pairwise(losses)]


@pytest.mark.parametrize("steps", [3, 10, 25, 100])
def test_fewer_steps_are_a_complete_rescaled_run(name: str, steps: int) -> None:
    task = small_task(
        model=Probe,
        loss=lambda model, batch: model(batch),
        train=[torch.zeros(2)],
        val=None,
        optimizer=torch.optim.SGD,
        horizon=100,
        schedule=warmup("10%") >> cosine(),
    )
    lrs = applied_lrs(name, task, steps)
    assert lrs == pytest.approx(2.0 * task.bound_schedule.rescale(steps).multipliers()[:-1], abs=1e-12)
    multipliers = task.bound_schedule.rescale(steps).multipliers()
    assert len(multipliers) == steps
    assert multipliers[-1] <= 1 / steps  # it came all the way down
    assert multipliers.max() > 0.8


def test_a_loss_may_pop_keys_and_work_in_place(name: str) -> None:
    """Neither the next training nor the weights of validation batches (10 and 7 rows) may see it."""

    def plain(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch["x"] * 0.5), batch["y"])

    def greedy(model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(model(batch.pop("x").mul_(0.5)), batch.pop("y"))

    def judged(loss: Any) -> list[Curve]:
        train_data, val = ([{"x": x, "y": y} for x, y in batches("linear", n=2, seed=seed)] for seed in (1, 2))
        own = engine(name, small_task(loss=loss, train=train_data, val=val))
        return [c for _ in range(2) for c in own.train([Setting(0, 0.1)], 20, 0, lambda *_: None).curves]

    assert judged(greedy) == judged(plain)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_accumulation_averages_batches_and_takes_one_step(name: str, accumulate: int) -> None:
    data = [(torch.full((2, 5), float(i)), torch.zeros(2).long()) for i in range(6)]
    task = small_task(
        train=data,
        val=None,
        accumulate=accumulate,
        model=lambda: nn.Linear(5, 3).double(),
        loss=lambda model, batch: model(batch[0].double()).sum() * 0 + batch[0].mean(),
    )
    curve = train(name, task, [0.1], steps=4)[0]
    read = [i % 6 for i in range(4 * accumulate)]
    expected = [sum(read[t * accumulate : (t + 1) * accumulate]) / accumulate for t in range(4)]
    assert [v for _, v in curve.train] == pytest.approx(expected)


def test_eval_mode_is_for_evaluation_alone(name: str) -> None:
    modes: list[bool] = []

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        modes.append(model.training)
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    train(name, small_task("dropout", loss=loss), [0.01], steps=20)
    assert not modes[0]  # the loss at init
    assert modes[2]
    assert modes[-1] is False
    assert modes.count(True) == 20 if name == "loop" else 2 < modes.count(True) < 10  # lanes replay the other steps


def test_facts_know_the_task(name: str) -> None:
    task = small_task(optimizer=partial(torch.optim.AdamW, weight_decay=0.1), schedule=cosine())
    facts = engine(name, task).facts(0)
    assert facts.init_loss is not None
    assert math.isfinite(facts.init_loss)
    assert facts.optimizer == "AdamW(weight_decay=0.1)"
    assert facts.decays
    assert facts.multipliers[0] == (0, 1.0)
