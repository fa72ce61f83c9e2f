"""Lanes are held to the loop: gradients at the loop's own state, and losses over a whole training.

Parameters are not compared over steps: adaptive rules turn the rounding of a gradient that is zero in exact
arithmetic, as a bias before BatchNorm has, into a full step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_tasks import (
    CLASSES,
    CPU,
    KINDS,
    batches,
    cross_entropy,
    lanes_of,
    largest_gap,
    mlp,
    off_at_the_loops_state,
    small_task,
    train,
    train_losses,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adagrad, Adam, AdamW, RMSprop

from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal
from etascope.engines.stack import Stack
from etascope.schedules import cosine, warmup

RULES: dict[str, tuple[Callable[..., Any], float]] = {  # optimizer, and the largest of the lanes' lrs
    "sgd momentum": (partial(SGD, momentum=0.9), 0.1),
    "sgd nesterov wd": (partial(SGD, momentum=0.9, nesterov=True, weight_decay=1e-2), 0.1),
    "adagrad": (Adagrad, 0.1),
    "rmsprop": (partial(RMSprop, momentum=0.5, centered=True), 3e-3),
    "adam": (Adam, 3e-2),
    "adamw": (partial(AdamW, weight_decay=0.1), 3e-2),
}
LANES = 8


def lrs_up_to(largest: float) -> list[float]:
    return [largest * 10 ** (-k / 3) for k in reversed(range(LANES))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
class TestEveryRuleAndModel:
    def test_gradients(self, kind: str, rule: str) -> None:
        optimizer, largest = RULES[rule]
        lrs = lrs_up_to(largest)
        gap, buffer_gap = off_at_the_loops_state(small_task(kind, torch.float64, optimizer=optimizer), lrs)
        single, _ = off_at_the_loops_state(small_task(kind, torch.float32, optimizer=optimizer), lrs)
        assert gap <= 1e-12
        assert buffer_gap <= 1e-12
        assert single <= 1e-5

    def test_losses_over_50_steps(self, kind: str, rule: str) -> None:
        optimizer, largest = RULES[rule]
        task = small_task(kind, torch.float64, optimizer=optimizer, val=None)
        lrs = lrs_up_to(largest)
        found, truth = (train(name, task, lrs, steps=50) for name in ("lanes", "loop"))
        assert all(len(c.train) == 50 and c.diverged_at is None for c in (*found, *truth))
        gap = largest_gap(found, truth)
        assert gap <= 1e-9


# ----------------------------------------------------------------------------- what a task may ask for


class TwoParts(nn.Module):
    """A body and a head, used apart in the loss; `tied`: the head's weight is the body's last."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5))
        self.head = nn.Linear(5, 5)
        self.register_buffer("scale", torch.tensor(2.0))
        if tied:
            self.head.weight = self.body[2].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)) * self.scale


def through_the_parts(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    penalty = sum(q.abs().sum() for q in model.parameters())
    return F.cross_entropy(model.head(model.body(x)) * model.scale, y) + 1e-3 * penalty


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return [
        {"params": model[0].parameters(), "weight_decay": 0.1},
        {"params": model[2].parameters(), "lr_scale": 0.1, "weight_decay": 0.0},
    ]


def half_frozen() -> nn.Module:
    model = mlp().double()
    model[0].requires_grad_(False)
    return model


class OwnLoss(nn.Module):
    """Takes a batch by its keys and computes its loss itself, as Hugging Face models do."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp().double()

    def forward(self, x: Tensor, labels: Tensor) -> SimpleNamespace:
        return SimpleNamespace(loss=F.cross_entropy(self.net(x), labels))


def as_dicts() -> list[dict[str, Tensor]]:
    return [{"x": x, "labels": y} for x, y in batches("linear", dtype=torch.float64)]


def as_encodings() -> list[Any]:
    encoding = pytest.importorskip("transformers").BatchEncoding
    return [encoding(batch) for batch in as_dicts()]


class Remembers(nn.Module):
    """Keeps a tensor from one step to the next, outside of buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.last = mlp().double(), torch.zeros(1).double()

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x) + self.last.mean()
        self.last = out.tanh().detach()
        return out * self.last.abs().mean()


def popping(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch.pop("x")), batch.pop("labels"))


ASKED: dict[str, Callable[[], dict[str, Any]]] = {
    "groups": lambda: {"params": groups, "optimizer": AdamW},
    "accumulate": lambda: {"accumulate": 2},
    "clip_norm": lambda: {"clip_norm": 0.05},
    "clip_value": lambda: {"clip_value": 0.01},
    "clip both": lambda: {"clip_norm": 0.05, "clip_value": 0.01},
    "schedule": lambda: {"schedule": warmup("10%") >> cosine()},
    "own schedule": lambda: {"schedule": lambda t: 1 / (1 + t)},
    "lr-dependent options": lambda: {"optimizer": lambda ps, lr: AdamW(ps, lr=lr, weight_decay=0.01 / lr)},
    "frozen": lambda: {"model": half_frozen},
    "frozen by params": lambda: {"params": lambda model: model[2].parameters()},
    "parts and penalty": lambda: {"model": lambda: TwoParts().double(), "loss": through_the_parts},
    "tied": lambda: {"model": lambda: TwoParts(tied=True).double(), "loss": through_the_parts},
    "a given module": lambda: {"model": mlp().double()},
    "memory": lambda: {"model": Remembers},
    "dicts": lambda: {"model": OwnLoss, "loss": None, "train": as_dicts(), "val": as_dicts()[:2]},
    "encodings": lambda: {"model": OwnLoss, "loss": None, "train": as_encodings(), "val": as_encodings()[:2]},
    "a loss that pops keys": lambda: {"loss": popping, "train": as_dicts(), "val": as_dicts()[:2]},
    "a metric": lambda: {"evaluate": lambda model: float(model(torch.ones(1, 5).double())[0, 0].exp())},
}


@pytest.mark.parametrize("what", ASKED)
def test_every_option_of_a_task(what: str) -> None:
    task = small_task("linear", torch.float64, **ASKED[what]())
    lrs = lrs_up_to(0.03)
    assert refusal(Prepared(task, CPU), 0) is None
    found, truth = (train(name, task, lrs, steps=40) for name in ("lanes", "loop"))
    assert largest_gap(found, truth) <= 1e-9
    for f, t in zip(found, truth, strict=True):
        assert (f.lr, f.seed, f.trained, f.diverged, len(f.val)) == (
            t.lr,
            t.seed,
            t.trained,
            t.diverged,
            len(t.val),
        )
        assert [s for s, _ in f.val] == [s for s, _ in t.val]
        assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=1e-9)
        assert f.loss == pytest.approx(t.loss, rel=1e-9)
    assert len({c.train[-1][1] for c in found}) == LANES  # the lanes are different trainings


@pytest.mark.parametrize("kind", KINDS)
def test_validation_losses(kind: str) -> None:
    # SGD: under it a bias before BatchNorm, whose gradient is rounding alone, stays where it is
    task = small_task(kind, torch.float64)
    found, truth = (train(name, task, lrs_up_to(0.05), steps=30) for name in ("lanes", "loop"))
    for f, t in zip(found, truth, strict=True):
        assert len(f.val) > 2
        assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=1e-9)


def test_the_metric_sees_the_lanes_own_buffers() -> None:
    means = lambda model: float(model[1].running_mean.sum())  # noqa: E731
    task = small_task("conv-bn", torch.float64, evaluate=means)
    found, truth = (train(name, task, lrs_up_to(0.05), steps=10) for name in ("lanes", "loop"))
    for f, t in zip(found, truth, strict=True):
        assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=1e-9)


# -------------------------------------------------------------------------------------------- dropout


class Mask(nn.Module):
    """Its gradient is the dropout mask itself."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4000))
        self.drop = nn.Dropout(0.3)

    def forward(self, batch: Tensor) -> Tensor:
        return self.drop(self.weight).sum() + 0 * batch.sum()


def test_dropout_has_its_rate_and_is_independent_between_lanes_and_steps() -> None:
    task = small_task(model=Mask, loss=lambda model, batch: model(batch), train=[torch.zeros(2)], val=None)
    stack = Stack(Prepared(task, CPU), lanes_of(lrs_up_to(0.1)))
    masks = torch.stack([stack.gradients([torch.zeros(2)])[0] > 0 for _ in range(3)]).flatten(0, 1).double()
    n = masks.shape[1]
    assert ((masks.mean(1) - 0.7).abs() < 5 * math.sqrt(0.21 / n)).all()
    correlation = torch.corrcoef(masks) - torch.eye(len(masks))
    assert correlation.abs().max() < 6 / math.sqrt(n)


@pytest.mark.parametrize("name", ["loop", "lanes"])
def test_evaluation_does_not_move_the_noise(name: str) -> None:
    def evaluate(model: nn.Module) -> float:
        torch.rand(7)
        return float(model(torch.ones(1, 5)).sum())

    plain, judged = small_task("dropout", val=None), small_task("dropout", evaluate=evaluate)
    a, b = (train(name, task, [0.01, 0.05], steps=20) for task in (plain, judged))
    assert len(b[0].val) > 2
    assert [c.train for c in a] == [c.train for c in b]


# ------------------------------------------------------------------------------------ diverging lanes


def square(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - F.one_hot(y, CLASSES)).square().mean()


@pytest.mark.parametrize("at", [0, 3, 7])
@pytest.mark.parametrize("steps", [12, 40])
def test_a_diverging_lane_touches_no_other(at: int, steps: int) -> None:
    lrs = [0.01 + 0.001 * k for k in range(LANES)]
    task = small_task("conv-bn", loss=square, model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)))
    harmless = train("lanes", task, lrs, steps)
    wild_lrs = [*lrs[:at], 1e4, *lrs[at + 1 :]]
    wild, truth = (train(name, task, wild_lrs, steps) for name in ("lanes", "loop"))

    assert wild[at].diverged_at is not None
    assert (wild[at].diverged_at, wild[at].trained) == (truth[at].diverged_at, truth[at].trained)
    assert wild[at].loss == math.inf
    assert [s for s, _ in wild[at].val] == [s for s, _ in truth[at].val]
    for k in set(range(LANES)) - {at}:
        assert wild[k] == harmless[k]  # to the bit
        assert not wild[k].diverged


def test_batchnorm_statistics_of_a_diverging_lane_touch_no_other() -> None:
    lrs = [0.01, 0.02, 0.03, 0.04]
    task = small_task("conv-bn", optimizer=SGD, loss=lambda m, b: square(m, b) / (m[8].weight.abs().sum() < 1e3))
    a, b = train("lanes", task, lrs, 40), train("lanes", task, [*lrs[:3], 1e6], 40)
    assert b[3].diverged_at is not None
    assert a[:3] == b[:3]


def test_all_lanes_may_diverge() -> None:
    task = small_task(loss=square, model=lambda: nn.Linear(5, CLASSES))
    found, truth = (train(name, task, [1e5, 1e6, 1e7], 100) for name in ("lanes", "loop"))
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth]
    assert all(c.diverged_at is not None for c in found)


def test_the_sum_of_lanes_is_not_one_of_them() -> None:
    """A chunk's size does not change what a lane without noise learns, beyond rounding."""
    task = small_task("linear", torch.float64)
    lrs = lrs_up_to(0.1)
    together = train("lanes", task, lrs, 20)
    alone = [train("lanes", task, [lr], 20)[0] for lr in lrs]
    assert largest_gap(together, alone) <= 1e-12
    assert not torch.equal(train_losses(together[0]), train_losses(together[-1]))
    assert cross_entropy is task.loss
