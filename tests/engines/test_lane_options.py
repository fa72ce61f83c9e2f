"""Lanes that differ in more than lr and seed are held to the loop, and what a task does not take is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import (
    CLASSES,
    CPU,
    MODELS,
    batches,
    engine,
    largest_gap,
    off_at_the_loops_state,
    setting,
    small_task,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from etascope.engines import Setting, check_options
from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal
from etascope.engines.stack import Stack
from etascope.errors import OptionError
from etascope.schedules import cosine, linear, warmup

ROWS = torch.cat([x for x, _ in batches("linear", n=9, dtype=torch.float64)])
DATA = TensorDataset(ROWS, ROWS[:, :CLASSES].argmax(1))


def regularised(model: nn.Module, batch: Any, label_smoothing: float = 0.0, l1: float = 0.0) -> Tensor:
    x, y = batch
    penalty = sum(q.abs().sum() for q in model.parameters())
    return F.cross_entropy(model(x), y, label_smoothing=label_smoothing) + l1 * penalty


def folds(seed: int, fold: int = 0, ragged: bool = False) -> Iterator[Any]:
    """The rows outside a fold, in the seed's order; `ragged`: in batches whose size is the fold's own."""
    mine = torch.arange(len(ROWS))
    mine = mine[mine % 4 != fold]
    mine = mine[torch.randperm(len(mine), generator=torch.Generator().manual_seed(seed))]
    yield from (DATA[rows] for rows in mine.split(6 + fold if ragged else 6))


def shuffled() -> DataLoader[Any]:
    return DataLoader(DATA, batch_size=10, shuffle=True)


Case = tuple[dict[str, Any], list[Setting]]
CASES: dict[str, Callable[[], Case]] = {
    "weight decay, momentum, nesterov": lambda: (
        {"optimizer": partial(SGD, momentum=0.9)},
        [
            setting(0.01),
            setting(0.02, weight_decay=0.1),
            setting(0.03, momentum=0.0),
            setting(0.04, momentum=0.5, weight_decay=0.01),
            setting(0.05, nesterov=True),
            setting(0.06, nesterov=True, momentum=0.5),
        ],
    ),
    "betas and eps": lambda: (
        {"optimizer": AdamW},
        [setting(1e-3), setting(3e-3, betas=(0.8, 0.99), eps=1e-4), setting(1e-2, weight_decay=0.3), setting(0.02)],
    ),
    "alpha": lambda: ({"optimizer": RMSprop}, [setting(1e-3), setting(3e-3, alpha=0.5, momentum=0.9)]),
    "lr decay": lambda: ({"optimizer": Adagrad}, [setting(1e-2), setting(3e-2, lr_decay=0.1)]),
    "schedules": lambda: (
        {"optimizer": Adam, "schedule": linear()},
        [
            setting(1e-3),
            setting(1e-3, schedule=cosine()),
            setting(3e-3, schedule=warmup("10%") >> cosine(to=0.1)),
            setting(3e-3, schedule=warmup("40%") >> linear()),
        ],
    ),
    "arguments of the loss": lambda: (
        {"loss": regularised},
        [
            setting(0.01),
            setting(0.01, label_smoothing=0.2),
            setting(0.02, l1=1e-2),
            setting(0.03, l1=1e-3, label_smoothing=0.1),
        ],
    ),
    "one argument for all": lambda: (
        {"loss": regularised},
        [setting(0.01, label_smoothing=0.1), setting(0.02, label_smoothing=0.1)],
    ),
    "seeds, shuffled": lambda: (
        {"train": shuffled()},
        [setting(0.01, seed=0), setting(0.01, seed=1), setting(0.02, seed=1), setting(0.02, seed=2)],
    ),
    "folds": lambda: (
        {"train": folds},
        [setting(0.01), setting(0.01, fold=1), setting(0.02, fold=3), setting(0.02, fold=1, seed=2)],
    ),
    "folds with batches of other shapes": lambda: (
        {"train": partial(folds, ragged=True)},
        [setting(0.01), setting(0.01, fold=1), setting(0.02, fold=3), setting(0.03, fold=1)],
    ),
    "all of it": lambda: (
        {"train": folds, "loss": regularised, "optimizer": AdamW, "schedule": cosine(), "accumulate": 2},
        [
            setting(1e-3, weight_decay=0.1),
            setting(3e-3, seed=1, label_smoothing=0.1, schedule=linear()),
            setting(1e-2, fold=2, betas=(0.5, 0.9)),
            setting(1e-2, l1=1e-3, fold=1, seed=3),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["linear", "conv-bn"])
class TestLanesAreTheLoop:
    def task(self, case: str, kind: str) -> tuple[Any, list[Setting]]:
        changes, settings = CASES[case]()
        if kind == "conv-bn" and "train" in changes:
            net = lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES)).double()  # noqa: E731
            return small_task("linear", torch.float64, model=net, **changes), settings
        return small_task(kind, torch.float64, **changes), settings

    def test_losses_over_50_steps(self, case: str, kind: str) -> None:
        task, settings = self.task(case, kind)
        prepared = Prepared(task, CPU)
        check_options(prepared, settings)
        assert refusal(prepared, 0, settings) is None
        units = engine("lanes", task).units(settings)
        assert sorted(s for unit in units for s in unit) == sorted(settings)
        assert len(units) == (2 if "nesterov" in case else 1)
        for unit in units:
            found, truth = (train(name, task, unit, steps=50) for name in ("lanes", "loop"))
            assert all(len(c.train) == 50 and c.diverged_at is None for c in (*found, *truth))
            assert largest_gap(found, truth) <= 1e-9
            for f, t, s in zip(found, truth, unit, strict=True):
                assert (f.lr, f.seed, f.options) == (t.lr, t.seed, t.options) == (s.lr, s.seed, s.written())
                # adaptive rules move a bias before BatchNorm, whose gradient is rounding, and evaluation sees that
                close = 1e-6 if kind == "conv-bn" else 1e-9
                assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=close)
                assert f.loss == pytest.approx(t.loss, rel=close)
        assert len({c.train[-1][1] for c in found}) == len(found)

    def test_gradients(self, case: str, kind: str) -> None:
        task, settings = self.task(case, kind)
        for unit in engine("lanes", task).units(settings):
            gap, buffer_gap = off_at_the_loops_state(task, unit)
            assert gap <= 1e-12
            assert buffer_gap <= 1e-12


def test_the_same_options_again_train_the_same() -> None:
    """Options change what they are for, and nothing else: not the noise, nor the order of the data."""
    task = small_task("dropout", train=shuffled())
    plain = train("loop", small_task("dropout"), [0.01], 20)[0]
    said = train("loop", small_task("dropout"), [setting(0.01, momentum=0.9, dropout=0.3)], 20)[0]
    assert plain.train == said.train
    assert task.train is not None


# -------------------------------------------------------------------------------------------- dropout


class Masks(nn.Module):
    """Its gradient is the dropout masks themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.ones(4, 1000)), nn.Parameter(torch.ones(100, 50, 2, 2))
        self.drop, self.drop2d = nn.Dropout(0.3), nn.Dropout2d(0.4)

    def forward(self, batch: Tensor) -> Tensor:
        return self.drop(self.a).sum() + self.drop2d(self.b).sum() + 0 * batch.sum()


@pytest.mark.parametrize("name", ["loop", "lanes"])
def test_dropout_rates_differ_between_lanes(name: str) -> None:
    task = small_task(model=Masks, loss=lambda model, batch: model(batch), train=[torch.zeros(2)], val=None)
    rates = [0.0, 0.1, 0.5, 0.9, 1.0]
    settings = [setting(0.1), *(setting(0.1, dropout=rate) for rate in rates)]
    prepared = Prepared(task, CPU)
    if name == "lanes":
        masks, _ = Stack(prepared, settings).gradients([torch.zeros(2)])
    else:
        grads = []
        for s in settings:
            objective = prepared.objective(s.seed, s.options)
            objective(torch.zeros(2)).backward()
            grads.append(torch.cat([q.grad.flatten() for q in objective.parameters()]))
        masks = torch.stack(grads)
    for mask, rate, rate_2d in zip(masks, [0.3, *rates], [0.4, *rates], strict=True):
        flat, channels = mask[:4000], mask[4000:].view(100, 50, 4)
        assert (channels == channels[:, :, :1]).all()  # whole channels
        for entries, p in ((flat, rate), (channels[:, :, 0].flatten(), rate_2d)):
            kept = entries[entries != 0]
            n = len(entries)
            assert abs(len(kept) / n - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / n)
            assert torch.allclose(kept, torch.full_like(kept, 1 / (1 - p) if p < 1 else 0.0))


def test_dropout_rates_are_no_part_of_the_judgement() -> None:
    settings = [setting(1e-9, dropout=0.9), setting(2e-9)]
    a, b = train("lanes", small_task("dropout"), settings, 10)
    assert a.val[0] == b.val[0]
    assert a.val[-1][1] == pytest.approx(a.val[0][1], rel=1e-4)


def test_loss_options_are_no_part_of_the_judgement() -> None:
    settings = [setting(1e-9, l1=100.0), setting(2e-9)]
    for name in ("lanes", "loop"):
        a, b = train(name, small_task(loss=regularised), settings, 10)
        assert a.val[0] == b.val[0]
        assert a.val[-1][1] == pytest.approx(b.val[-1][1], rel=1e-4)
        assert a.train[0][1] > 10 * b.train[0][1]


# ------------------------------------------------------------------------------------ memory and speed


def test_lanes_that_see_the_same_hold_one_batch() -> None:
    task = small_task("linear", torch.float64)  # a list: its order is kept, whatever the seed
    stack = Stack(Prepared(task, CPU), [setting(0.01, seed=s) for s in range(3)])
    assert stack.data_L is None
    one_seed = Stack(Prepared(small_task(train=shuffled()), CPU), [setting(0.01), setting(0.02, weight_decay=0.1)])
    assert one_seed.data_L is None
    assert not one_seed.options
    assert not one_seed.rates


def test_small_groups_share_a_stack_and_large_ones_do_not() -> None:
    lanes = engine("lanes", small_task("linear", torch.float64, train=shuffled()), chunk=8)
    apart = [setting(0.01, seed=s) for s in range(12)]
    assert [len(unit) for unit in lanes.units(apart)] == [6, 6]
    many = [setting(lr, seed=s) for s in range(3) for lr in (0.01, 0.02, 0.03, 0.04, 0.05)]
    assert [{s.seed for s in unit} for unit in lanes.units(many)] == [{0}, {1}, {2}]


class Permuted(nn.Module):
    """Draws at init what is neither parameter nor buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.order, self.net = torch.randperm(5), MODELS["linear"]().double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x[:, self.order])


def test_seeds_whose_models_differ_in_more_than_tensors_have_stacks_of_their_own() -> None:
    task = small_task("linear", torch.float64, model=Permuted)
    settings = [setting(0.01, seed=s) for s in range(4)]
    units = engine("lanes", task).units(settings)
    assert [len(unit) for unit in units] == [1, 1, 1, 1]
    for unit in units:
        assert largest_gap(*(train(name, task, unit, 20) for name in ("lanes", "loop"))) <= 1e-9
    assert len(engine("lanes", small_task()).units(settings)) == 1


# ------------------------------------------------------------------------------------------- refusals


def test_where_vmap_cannot_take_an_option_the_reason_is_named() -> None:
    def own(model: nn.Module, batch: Any, margin: float = 0.0) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1]) * (2.0 if margin > 0.5 else 1.0)

    prepared = Prepared(small_task(loss=own), CPU)
    settings = [setting(0.01), setting(0.02, margin=1.0)]
    assert refusal(prepared, 0) is None
    reason = refusal(prepared, 0, settings)
    assert reason is not None
    assert "vmap cannot take" in reason
    assert refusal(prepared, 0, [setting(0.01, margin=1.0), setting(0.02, margin=1.0)]) is None  # it stays a float


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "unknown": ({}, {"weight_decy": 0.1}, r"nothing in this task takes 'weight_decy'"),
    "two homes": ({"loss": lambda m, b, momentum=0.0: regularised(m, b)}, {"momentum": 0.1}, "could mean two things"),
    "a number for two": ({"optimizer": Adam}, {"betas": 0.9}, r"betas is 0\.9"),
    "a text": ({}, {"momentum": "much"}, "momentum is 'much'"),
    "out of range": ({"optimizer": Adam}, {"betas": (0.9, 1.5)}, "Invalid beta parameter"),
    "nesterov without momentum": ({"optimizer": SGD}, {"nesterov": True}, "Nesterov momentum requires"),
    "no dropout": ({}, {"dropout": 0.1}, r"no nn\.Dropout"),
    "a rate": ({"model": MODELS["dropout"]}, {"dropout": 1.1}, "dropout is 1.1"),
    "a flag for the loss": ({"loss": regularised}, {"l1": True}, "l1 is True"),
    "too long": ({}, {"schedule": warmup(1000) >> cosine()}, "the schedule cannot be used"),
    "data of a loader": ({"train": shuffled()}, {"fold": 1}, "nothing in this task takes 'fold'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_options_that_a_task_does_not_take(what: str) -> None:
    changes, options, words = REFUSED[what]
    task = small_task("linear", torch.float64, **{"optimizer": SGD} | changes)
    with pytest.raises(OptionError, match=words) as raised:
        check_options(Prepared(task, CPU), [setting(0.01), setting(0.02, **options)])
    assert raised.value.next_move
