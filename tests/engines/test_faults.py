"""A fault in one lane, in the data or in memory: the other lanes learn the same, and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_tasks import (
    CLASSES,
    CPU,
    batches,
    cross_entropy,
    engine,
    lanes_of,
    largest_gap,
    nearly,
    setting,
    small_task,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from etascope.engines import Setting
from etascope.engines.prepared import Prepared
from etascope.engines.stack import Stack
from etascope.errors import TaskError
from etascope.task import Task

LRS = [0.001 * (k + 1) for k in range(6)]


def net(rate: float) -> Any:
    return lambda: nn.Sequential(
        nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(rate), nn.Linear(8, CLASSES), nn.Sigmoid()
    )


def probability_loss(model: nn.Module, batch: Any) -> Tensor:
    """Raises where a probability is NaN."""
    return F.binary_cross_entropy(model(batch[0]), F.one_hot(batch[1], CLASSES).float())


# --------------------------------------------------------------------------------------------- one lane

FAULTS: dict[str, dict[str, Any]] = {
    "overflows": {"loss": cross_entropy, "optimizer": SGD, "lr": 1e38},
    "raises": {"loss": probability_loss, "optimizer": SGD, "lr": 3e38},
    "is poisoned": {"loss": lambda m, b, poison=0.0: cross_entropy(m, b) / (1 - poison), "poison": 1.0},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_lane_that_fails_touches_no_other(fault: str, at: int) -> None:
    given = FAULTS[fault]
    task = small_task(model=net(0.3), loss=given["loss"], optimizer=given.get("optimizer", Adam))
    harmless: list[Setting] = lanes_of(LRS)
    bad = setting(0.01, poison=given["poison"]) if "poison" in given else setting(given["lr"])
    if "poison" in given:  # so that the noise and the arithmetic of the others are those of a mixed stack
        harmless[at] = setting(0.01, poison=0.5)
    a, b = train("lanes", task, harmless, 40), train("lanes", task, [*harmless[:at], bad, *harmless[at + 1 :]], 40)
    assert b[at].diverged_at is not None
    assert all(a[k] == b[k] for k in range(len(LRS)) if k != at)


def steep_loss(model: nn.Module, batch: Any) -> Tensor:
    """Its gradient overflows in fp16 at the scale that torch begins with, and on the smaller last batch once more."""
    return (300 if len(batch[0]) == 10 else 5000) * cross_entropy(model, batch)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_lane_that_overflows_in_fp16_touches_no_other(rate: float) -> None:
    """Neither the noise nor the batch norm of those that take their gradient again beside it."""
    task = small_task(model=net(rate), loss=steep_loss, precision="fp16", optimizer=SGD)
    harmless, wild = (train("lanes", task, [1e-5, lr, 2e-5, 3e-5], 20) for lr in (4e-5, 1e30))
    assert wild[1].diverged_at == 1
    assert [wild[0], *wild[2:]] == [harmless[0], *harmless[2:]]


def test_a_dead_lane_is_not_tried_again_in_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    """It idles on a gradient that never fits: no reason to take everybody's fifty times at every step."""

    class Endless(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor, poison: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
            ctx.poison = inputs[1]

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
            return torch.where(ctx.poison > 0, math.inf, grad), None

        @staticmethod
        def vmap(info: Any, in_dims: Any, x: Tensor, poison: Tensor) -> tuple[Tensor, int]:
            return Endless.apply(x, poison), 0

    calls: list[int] = []
    gradients = Stack.gradients
    monkeypatch.setattr(Stack, "gradients", lambda stack, *args: calls.append(1) or gradients(stack, *args))

    def loss(model: nn.Module, batch: Any, poison: float = 0.0) -> Tensor:
        return Endless.apply(cross_entropy(model, batch), torch.as_tensor(poison))

    settings = [setting(lr, poison=float(k == 1)) for k, lr in enumerate(LRS[:3])]
    found = train("lanes", small_task(loss=loss, precision="fp16"), settings, 20)
    assert [c.diverged_at for c in found] == [None, 0, None]
    assert len(calls) < 20 + 60


def deep_loss(model: nn.Module, batch: Any) -> Tensor:
    """Raises where the logits are NaN, and has no other reason to."""
    out = model(batch[0])
    chance = out.softmax(1).amax(1)
    return F.cross_entropy(out, batch[1]) + F.binary_cross_entropy(chance, torch.ones_like(chance))


@pytest.mark.parametrize("kind", ["linear", "lstm", "conv-bn"])
def test_a_lane_whose_evaluation_raises_leaves_the_others_numbers(kind: str) -> None:
    """An LSTM that is evaluated lane by lane rounds otherwise."""
    task = small_task(kind, loss=deep_loss, optimizer=SGD)
    harmless, wild = (train("lanes", task, [0.01, lr, 0.02], 1) for lr in (0.03, 3e38))
    assert (wild[1].loss, len(wild[1].val)) == (math.inf, 1)
    assert [wild[0], wild[2]] == [harmless[0], harmless[2]]


# --------------------------------------------------------------------------------------------- the data


def spoilt(seed: int, fold: int = 0) -> Iterator[Any]:
    """The seventh batch of fold 1 holds a NaN."""
    for i, (x, y) in enumerate(batches("linear", n=20, seed=seed % 1000)):
        yield (torch.where(torch.arange(5) == 2, torch.nan, x) if fold and i == 7 else x), y


def ragged(data: Any) -> Any:
    """The same, with another number of rows in each fold."""
    return lambda seed, fold=0: ((x[fold:], y[fold:]) for x, y in data(seed, fold))


def binary_loss(model: nn.Module, batch: Any) -> Tensor:
    """Raises where a probability is NaN."""
    return F.binary_cross_entropy(model(batch[0])[:, 0], (batch[1] == 0).float())


@pytest.mark.parametrize("loss", [cross_entropy, binary_loss])
@pytest.mark.parametrize("shapes", ["alike", "ragged"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_nan_in_one_lanes_data_ends_that_lane_alone(loss: Any, shapes: str, accumulate: int) -> None:
    """The dead lane meets it again in every epoch."""

    def task(data: Any) -> Task:
        of_folds = data if shapes == "alike" else ragged(data)
        return small_task(model=net(0.3), loss=loss, train=of_folds, val=None, accumulate=accumulate)

    settings, steps = [setting(lr, fold=k % 2) for k, lr in enumerate(LRS[:3])], 45 // accumulate
    clean = task(lambda seed, fold=0: spoilt(seed))
    for name in ("lanes", "loop"):
        found, whole = (train(name, t, settings, steps) for t in (task(spoilt), clean))
        assert [c.diverged_at for c in found] == [None, 7 // accumulate, None]
        assert [found[0], found[2]] == [whole[0], whole[2]]  # to the bit


@pytest.mark.parametrize("loss", [cross_entropy, binary_loss])
@pytest.mark.parametrize("at", [1, 4])
def test_nan_in_everybodys_data_ends_all_at_that_step(loss: Any, at: int) -> None:
    data = batches("linear", n=9)
    data[at][0][0, 0] = torch.nan
    task = small_task(model=net(0.0), loss=loss, train=data, val=batches("linear", n=2))
    found, truth = (train(name, task, LRS, 15) for name in ("lanes", "loop"))
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth] == [at] * len(LRS)


@pytest.mark.parametrize("name", ["lanes", "loop"])
def test_a_loss_that_raises_at_init_is_an_error_beside_nan_too(name: str) -> None:
    def fussy(model: nn.Module, batch: Any) -> Tensor:
        if len(batch[0]) < 10:
            raise ValueError("ten rows, please")
        return binary_loss(model, batch)

    data = batches("linear", n=5)
    data[4][0][0, 0] = torch.nan  # the batch with fewer rows
    with pytest.raises(TaskError, match="ten rows, please"):
        train(name, small_task(model=net(0.0), loss=fussy, train=data), LRS, 15)


# --------------------------------------------------------------------------------------------- memory

OUT = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    MemoryError(),
)


class Little:
    """A memory for so many lanes: what needs more raises, from a certain step on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lanes: int, where: str, step: int = 0, error: Any = OUT[0]):
        self.lanes, self.step, self.error, self.calls = lanes, step, error, 0
        self.tried: list[int] = []
        own = getattr(Stack, where)
        monkeypatch.setattr(Stack, where, lambda stack, *args: self._try(stack, own, *args))

    def _try(self, stack: Stack, own: Any, *args: Any) -> Any:
        self.calls += 1
        if not self.tried or self.tried[-1] != len(stack.unit):
            self.tried.append(len(stack.unit))
        if len(stack.unit) > self.lanes and self.calls > self.step:
            raise self.error
        return own(stack, *args)


@pytest.mark.parametrize("error", OUT, ids=["cuda", "cpu", "python"])
@pytest.mark.parametrize(("where", "step"), [("_place", 0), ("gradients", 0), ("gradients", 7)])
@pytest.mark.parametrize("kind", ["linear", "lstm", "embedding-bag", "batch norm"])
def test_out_of_memory_halves_the_stack_and_goes_on(
    where: str, step: int, error: Exception, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = small_task(kind) if kind != "batch norm" else small_task(model=net(0.0))
    truth = train("lanes", task, LRS, 20)
    ticks: list[tuple[int, ...]] = []
    with monkeypatch.context() as patch:
        memory = Little(patch, 2, where, step, error)
        found = train("lanes", task, LRS, 20, tick=lambda *new: ticks.append(new))
    if kind == "batch norm":  # torch sums a channel in an order that depends on how many there are
        assert largest_gap(found, truth) <= 1e-6
    else:
        assert found == truth  # to the bit
    assert memory.tried == [6, 3, 2, 1, 2, 1]
    done = sum(c.trained for c in found)
    assert [sum(new) for new in zip(*ticks, strict=True)] == [done, sum(c.diverged for c in found), 120 - done]


def test_later_units_start_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = engine("lanes", small_task(model=net(0.0)), chunk=6)
    memory = Little(monkeypatch, 3, "gradients")
    for seed in (0, 1):
        lanes.train(lanes_of(LRS, seed), 5, 0, lambda *_: None)
    assert memory.tried == [6, 3]


def test_with_dropout_they_go_on_with_other_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same as if the halves had been stacks of their own from the first: so the distribution is the same."""
    task = small_task(model=net(0.3))
    halves = [*train("lanes", task, LRS[:3], 20), *train("lanes", task, LRS[3:], 20)]
    Little(monkeypatch, 3, "gradients", 10)
    found = train("lanes", task, LRS, 20)
    assert found == halves  # to the bit
    assert len({c.train[0][1] for c in found[:3]}) == 3  # each lane of a stack has its own


@pytest.mark.parametrize("kind", ["linear", "lstm", "conv-bn"])
@pytest.mark.parametrize("fits", [4, 1])
def test_memory_that_runs_out_in_evaluation_halves_that_alone(
    kind: str, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = small_task(kind, torch.float64)
    truth = train("lanes", task, LRS, 20)
    validate, tried = Stack.validate, set[int]()

    def little(stack: Stack, which: Any, lanes: Tensor | None = None) -> Tensor:
        n = len(stack.unit) if lanes is None else len(lanes)
        tried.add(n)
        if n > fits:
            raise TaskError("the task's loss raised OutOfMemoryError") from OUT[0]
        return validate(stack, which, lanes)

    monkeypatch.setattr(Stack, "validate", little)
    assert nearly(train("lanes", task, LRS, 20)) == truth
    assert tried == ({6, 3} if fits == 4 else {6, 3, 2, 1})


@pytest.mark.parametrize(
    ("name", "call"), [*(("lanes", n) for n in (2, 3, 5, 8, 20)), *(("loop", n) for n in (30, 31, 32))]
)
def test_memory_that_runs_out_by_chance_is_no_divergence(name: str, call: int) -> None:
    """Neither in a step nor in an evaluation: it would be taken for the parameters' fault."""
    calls: list[int] = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) == call:
            raise MemoryError
        return cross_entropy(model, batch)

    truth = train(name, small_task(), LRS, 20)
    if name == "loop":
        with pytest.raises(TaskError, match="MemoryError"):
            train(name, small_task(loss=loss), LRS, 20)
    else:
        assert train(name, small_task(loss=loss), LRS, 20) == truth
    assert len(calls) >= call


def test_one_lane_that_does_not_fit_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    Little(monkeypatch, 0, "gradients")
    with pytest.raises(TaskError, match="out of memory"):
        train("lanes", small_task(), LRS, 5)


def test_another_error_is_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Little(monkeypatch, 2, "gradients", 0, RuntimeError("no such kernel"))
    with pytest.raises(TaskError, match="no such kernel"):
        train("lanes", small_task(), LRS, 5)
    assert memory.tried == [6]


def test_what_is_halved_is_freed_first() -> None:
    """No frame of the error holds the stack that did not fit."""
    import gc
    import weakref

    alive: list[Any] = []
    prepared = Prepared(small_task(), CPU)
    before = Stack.gradients

    def gradients(stack: Stack, *args: Any) -> Any:
        if len(stack.unit) > 3:
            alive.append(weakref.ref(stack))
            raise OUT[0].__class__("out of memory")
        if alive:
            gc.collect()
            alive[:] = [ref for ref in alive if ref() is not None]
            assert not alive
        return before(stack, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "gradients", gradients)
        assert len(engine("lanes", prepared.task).train(lanes_of(LRS), 3, 0, lambda *_: None).curves) == len(LRS)
