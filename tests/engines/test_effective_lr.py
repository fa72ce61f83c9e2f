"""Step sizes of adaptive rules, as curves have them: lanes against the loop, and both against plain torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from small_tasks import MODELS, batches, cross_entropy, setting, small_task, train
from tests.rules.lions import Lion
from torch import nn
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop

from etascope.engines.effective import SAMPLE
from etascope.records import Curve
from etascope.schedules import cosine, warmup

LRS, STEPS = [1e-3, 1e-2, 3e-2], 20
AFTER = (1, 3, 10, 20)  # the first step, an eighth of the run, half of it, all of it
ADAPTIVE: dict[str, Callable[..., Any]] = {
    "adadelta": Adadelta,
    "adagrad": partial(Adagrad, lr_decay=0.1, initial_accumulator_value=0.1),
    "adam": Adam,
    "adam amsgrad": partial(Adam, amsgrad=True, betas=(0.9, 0.9)),
    "adamax": Adamax,
    "adamw": AdamW,
    "nadam": NAdam,
    "radam": partial(RAdam, betas=(0.9, 0.99)),  # adaptive from the sixth step on
    "rmsprop": RMSprop,
    "rmsprop centered": partial(RMSprop, centered=True, momentum=0.5, eps=1e-3),
}


def both(task: Any, lrs: Any, steps: int = STEPS) -> tuple[list[Curve], list[Curve]]:
    return train("lanes", task, lrs, steps), train("loop", task, lrs, steps)


def assert_same(found: list[Curve], truth: list[Curve], tolerance: float = 1e-9) -> None:
    for a, b in zip(found, truth, strict=True):
        assert a.effective_lr.keys() == b.effective_lr.keys()
        for layer, points in b.effective_lr.items():
            np.testing.assert_allclose(a.effective_lr[layer], points, rtol=tolerance)


@pytest.mark.parametrize("rule", ADAPTIVE)
def test_lanes_equal_the_loop(rule: str) -> None:
    schedule = warmup("10%") >> cosine(to=0.1)
    task = small_task("linear", torch.float64, optimizer=ADAPTIVE[rule], schedule=schedule)
    found, truth = both(task, LRS)
    assert_same(found, truth)
    for curve in truth:
        assert list(curve.effective_lr) == ["0", "2"]
        for points in curve.effective_lr.values():
            assert tuple(step for step, *_ in points) == AFTER
            assert all(0 < low <= median <= high for _, low, median, high in points)
    assert any(low < high for points in truth[0].effective_lr.values() for _, low, _, high in points)


@pytest.mark.parametrize("kind", ["lstm", "conv-bn", "embedding-bag"])
def test_whatever_the_model(kind: str) -> None:
    # Where a gradient is all but 0, what is left of it is rounding, which each engine has its own; eps stands above it.
    assert_same(*both(small_task(kind, torch.float64, optimizer=partial(Adam, eps=1e-5)), LRS[:2]), tolerance=1e-8)


def test_against_plain_torch() -> None:
    """η / (√v̂ + ε) by hand, from the state of an optimizer that nobody but this test has stepped."""
    torch.manual_seed(0)
    net = MODELS["linear"]().double()
    data = batches("linear", n=STEPS, dtype=torch.float64)
    task = small_task("linear", model=net, train=data, optimizer=Adam, val=None, schedule=cosine(), horizon=STEPS)
    found, lr = both(task, [1e-2]), 1e-2
    opt = Adam(net.parameters(), lr=lr)
    points: dict[str, list[Any]] = {"0": [], "2": []}
    for t, (batch, multiplier) in enumerate(zip(data, task.bound_schedule.multipliers(), strict=True)):
        opt.param_groups[0]["lr"] = lr * multiplier
        opt.zero_grad()
        cross_entropy(net, batch).backward()
        opt.step()
        if t + 1 in AFTER:
            for layer, own in points.items():
                square = torch.cat([opt.state[p]["exp_avg_sq"].flatten() for p in net[int(layer)].parameters()])
                sizes = lr * multiplier / ((square / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
                own.append((t + 1, *np.quantile(sizes.numpy(), (0.1, 0.5, 0.9), method="nearest")))
    for (curve,) in found:
        for layer, own in points.items():
            np.testing.assert_allclose(curve.effective_lr[layer], own, rtol=1e-9)


@pytest.mark.parametrize("optimizer", [SGD, partial(SGD, momentum=0.9), ASGD, Lion])
def test_nothing_where_all_parameters_have_one(optimizer: Callable[..., Any]) -> None:
    found, truth = both(small_task(optimizer=optimizer), LRS[:2])
    assert all(curve.effective_lr == {} for curve in (*found, *truth))


def test_nothing_of_an_optimizer_that_is_not_known() -> None:
    class Mine(Adam):
        pass

    (curve,) = train("loop", small_task(optimizer=Mine), [1e-2], STEPS)
    assert math.isfinite(curve.loss) and curve.effective_lr == {}


def test_nothing_while_a_lazy_module_has_no_tensors() -> None:
    net = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 3))
    (curve,) = train("loop", small_task(model=net, optimizer=Adam), [1e-2], STEPS)
    assert math.isfinite(curve.loss) and curve.effective_lr == {}


def test_eps_alone_where_there_never_was_a_gradient() -> None:
    """Torch has no state of such a parameter, and a rule one of zeros: its step would be η / ε."""

    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = MODELS["linear"](), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    found, truth = both(small_task(model=Idle, optimizer=partial(Adam, eps=1e-4)), [1e-2])
    for (curve,) in (found, truth):
        (_, *first), *_ = curve.effective_lr["idle"]
        assert first == pytest.approx([100.0] * 3, rel=1e-6)


def test_groups_and_lanes_of_their_own() -> None:
    """A layer's weights in one group and its biases in another, at a tenth of the lr and with another eps."""

    def split(net: nn.Module) -> list[dict[str, Any]]:
        weights, biases = ([p for p in net.parameters() if p.dim() == d] for d in (2, 1))
        return [{"params": weights}, {"params": biases, "lr_scale": 0.1, "eps": 1e-3}]

    task = small_task("linear", torch.float64, optimizer=Adam, params=split)
    lanes = [setting(1e-2, eps=1e-8), setting(1e-2, eps=1e-2), setting(3e-2, betas=(0.8, 0.9))]
    found, truth = both(task, lanes)
    assert_same(found, truth)
    assert truth[0].effective_lr != truth[1].effective_lr


def bounded(model: nn.Module, batch: Any) -> torch.Tensor:
    """Infinite as soon as a parameter is larger than 3."""
    largest = torch.stack([p.abs().max() for p in model.parameters()]).max()
    return cross_entropy(model, batch) / (largest <= 3)


def test_only_what_came_before_a_divergence() -> None:
    task = small_task("linear", torch.float64, optimizer=Adam, loss=bounded, val=None)
    found, truth = both(task, [1e-3, 0.5, 10.0])  # an update of Adam is about lr
    assert_same(found, truth)
    steps_of = [[step for step, *_ in curve.effective_lr["0"]] for curve in truth]
    #          step 1: after it lr 10 is beyond 3        steps 3 to 10: after one of them lr 0.5 is
    assert steps_of == [[1, 3, 10, 20], [1, 3], [1]]
    assert truth[0].diverged_at is None and truth[2].diverged_at == 1
    assert truth[1].diverged_at is not None and 3 <= truth[1].diverged_at < 10


class Wide(nn.Module):
    """A large layer, of which each row of the gradient has its own size, and a tensor of the model's own."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(256, 64)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.wide(x) * torch.logspace(-1, 0, 64)


def test_a_large_layer_is_sampled() -> None:
    net = Wide()
    batch = torch.randn(8, 256) * torch.logspace(-2, 0, 256), torch.randint(64, (8,))
    (found,), (truth,) = both(small_task(model=net, train=[batch], val=None, optimizer=Adagrad), [1e-6], steps=1)
    assert_same([found], [truth], tolerance=1e-3)
    assert truth.effective_lr.keys() == {"wide", "scale"}

    cross_entropy(net, batch).backward()
    sizes = torch.cat([1e-6 / (p.grad.abs().flatten() + 1e-10) for p in net.wide.parameters()])
    assert len(sizes) > 10 * SAMPLE and sizes.quantile(0.9) > 100 * sizes.quantile(0.1)
    ((_, *quantiles),) = truth.effective_lr["wide"]
    for wanted, value in zip((0.1, 0.5, 0.9), quantiles, strict=True):
        assert abs(float((sizes <= value).double().mean()) - wanted) < 0.05
