"""A setting whose parameters make the loss or the metric raise has diverged, like one whose loss is not finite."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, cross_entropy, lanes_of, mlp, nearly, small_task, train
from torch import Tensor, nn
from torch.nn import functional as F

from etascope.engines.prepared import Prepared
from etascope.engines.stack import Stack

WILD, WILD_64 = 3e38, 1.5e308  # beyond them, lrs are infinite in float32 and float64
both_engines = pytest.mark.parametrize("name", ["loop", "lanes"])


def probabilities() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())


def bce(model: nn.Module, batch: Any) -> Tensor:
    """Raises where a probability is NaN."""
    chance = model(batch[0]).squeeze(1)
    return F.binary_cross_entropy(chance, (batch[1] == 0).to(chance.dtype))


def normal(model: nn.Module, batch: Any) -> Tensor:
    """Raises where a mean or a scale is NaN."""
    mean, log_scale = model(batch[0])[:, :2].unbind(1)
    return -torch.distributions.Normal(mean, log_scale.exp()).log_prob(batch[0].sum(1)).mean()


def no_zeros(model: nn.Module, batch: Any) -> Tensor:
    """Raises at NaN under vmap too, and where every parameter is zero."""
    return bce(model, batch) + 0 / model[0].weight.abs().sum()


RAISING = {"bce": (probabilities, bce), "no zeros": (probabilities, no_zeros)}


@both_engines
@pytest.mark.parametrize("kind", RAISING)
@pytest.mark.parametrize("steps", [2, 5, 40])
def test_a_loss_that_raises_is_a_divergence(name: str, kind: str, steps: int) -> None:
    model, loss = RAISING[kind]
    exact = {"model": lambda: model().double(), "loss": loss, "optimizer": torch.optim.SGD, "dtype": torch.float64}
    task = small_task(**exact)
    good, bad, also_good = train(name, task, [0.01, WILD_64, 0.02], steps)
    assert (bad.diverged_at, bad.trained, bad.loss) == (1, 2, math.inf)
    assert nearly([good, also_good]) == train(name, task, [0.01, 0.02], steps)
    assert (good.diverged_at, good.trained) == (None, steps)


@both_engines
def test_a_loss_may_be_infinite_a_step_before_it_raises(name: str) -> None:
    """The first of the two counts."""
    model = lambda: nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 2))  # noqa: E731
    task = small_task(model=model, loss=normal, optimizer=torch.optim.Adam)
    lrs = [1e-3, 1.0, 1e2, 1e4]
    found, truth = (train(n, task, lrs, 40) for n in (name, "loop"))
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth]
    assert not found[0].diverged
    assert found[-1].diverged_at is not None


def test_a_lane_that_raises_touches_neither_the_noise_nor_the_buffers_of_others() -> None:
    """The step is taken again, as if for the first time."""
    task = small_task(
        model=lambda: nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1), nn.Sigmoid()),
        loss=bce,
        optimizer=torch.optim.SGD,
    )
    harmless, wild = (train("lanes", task, [0.01, 0.02, lr], 40) for lr in (0.03, WILD))
    assert wild[2].diverged_at == 1
    assert wild[:2] == harmless[:2]  # to the bit


@both_engines
def test_engines_agree_on_when_it_diverged(name: str) -> None:
    lrs = [0.01, 1e2, 1e8, 1e15, 1e30, WILD]
    task = small_task(model=probabilities, loss=bce, optimizer=partial(torch.optim.SGD, momentum=0.9))
    found, truth = (train(n, task, lrs, 40) for n in (name, "loop"))
    assert [(c.diverged_at, c.trained) for c in found] == [(c.diverged_at, c.trained) for c in truth]


@both_engines
def test_all_may_raise(name: str) -> None:
    task = small_task(model=probabilities, loss=bce, optimizer=torch.optim.SGD)
    assert all(c.diverged_at == 1 for c in train(name, task, [2e38, WILD], 40))


@both_engines
@pytest.mark.parametrize("steps", [1, 20])
def test_an_evaluation_that_raises_is_a_divergence(name: str, steps: int) -> None:
    def metric(model: nn.Module) -> float:
        if not torch.isfinite(out := model(torch.ones(3, 5))).all():
            raise ValueError("Input contains NaN.")  # as scikit-learn's metrics do
        return float(out.square().mean())

    for task in (
        small_task(model=probabilities, loss=bce, optimizer=torch.optim.SGD),
        small_task(evaluate=metric, optimizer=torch.optim.SGD, schedule=lambda t: 1.0),
    ):
        good, bad = train(name, task, [1e-4, WILD], steps)
        assert bad.loss == math.inf
        assert len(good.val) > len(bad.val) == 1  # the points at which it is known


def test_a_lane_by_itself_is_the_settings_seeds_own_model() -> None:
    """What is neither parameter nor buffer is drawn at init as well."""

    class Permuted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.order, self.net = torch.randperm(5), mlp()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x[:, self.order])

    prepared = Prepared(small_task(model=Permuted), CPU)
    for seed in (1, 2, 3):
        stack = Stack(prepared, lanes_of([0.01, 0.02], seed))
        assert torch.equal(stack.lane(1).model.order, prepared.model(seed).order)


def test_updates_that_fp16_skips_are_no_steps() -> None:
    updates: list[int] = []

    class Counted(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            updates.append(1)
            return super().step(closure)

    def steep(model: nn.Module, batch: Any) -> Tensor:
        return 300 * cross_entropy(model, batch)

    task = small_task(loss=steep, precision="fp16", optimizer=Counted, train=batches("linear", n=1))
    curve = train("loop", task, [1e-4], 20)[0]
    assert (curve.trained, len(updates)) == (20, 20)


def test_a_gradient_that_fp16_never_takes_is_a_divergence() -> None:
    class Endless(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * math.inf

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return Endless.apply(cross_entropy(model, batch))

    curve = train("loop", small_task(loss=loss, precision="fp16"), [1e-4], 20)[0]
    assert curve.diverged_at == 0
