"""A fault in one lane, in the data or in memory: the other lanes learn the same to the bit, and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from small_tasks import CLASSES, CPU, batches, cross_entropy, engine, lanes_of, largest_gap, setting, small_task, train
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam

from etascope.engines import Setting
from etascope.engines.prepared import Prepared
from etascope.engines.stack import Stack
from etascope.errors import TaskError

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


# --------------------------------------------------------------------------------------------- the data


def spoilt(seed: int, fold: int = 0) -> Iterator[Any]:
    """The seventh batch of fold 1 holds a NaN."""
    for i, (x, y) in enumerate(batches("linear", n=20, seed=seed % 1000)):
        yield (torch.where(torch.arange(5) == 2, torch.nan, x) if fold and i == 7 else x), y


def test_nan_in_one_lanes_data_ends_that_lane_alone() -> None:
    task = small_task(model=net(0.3), train=spoilt, val=None)
    clean = small_task(model=net(0.3), train=lambda seed, fold=0: spoilt(seed), val=None)
    settings = [setting(lr, fold=k % 2) for k, lr in enumerate(LRS[:3])]
    found, whole, truth = (
        train(name, t, settings, 15) for name, t in (("lanes", task), ("lanes", clean), ("loop", task))
    )
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth] == [None, 7, None]
    assert [found[0], found[2]] == [whole[0], whole[2]]  # to the bit


def test_nan_in_everybodys_data_ends_all_at_that_step() -> None:
    data = batches("linear", n=9)
    data[4][0][0, 0] = torch.nan
    task = small_task(model=net(0.0), train=data, val=None)
    found, truth = (train(name, task, LRS, 15) for name in ("lanes", "loop"))
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth] == [4] * len(LRS)


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
    ticks: list[int] = []
    with monkeypatch.context() as patch:
        memory = Little(patch, 2, where, step, error)
        found = train("lanes", task, LRS, 20, tick=ticks.append)
    if kind == "batch norm":  # torch sums a channel in an order that depends on how many there are
        assert largest_gap(found, truth) <= 1e-6
    else:
        assert found == truth  # to the bit
    assert memory.tried == [6, 3, 2, 1, 2, 1]
    assert sum(ticks) == sum(c.trained for c in found)


def test_later_units_start_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = engine("lanes", small_task(model=net(0.0)), chunk=6)
    memory = Little(monkeypatch, 3, "gradients")
    for seed in (0, 1):
        lanes.train(lanes_of(LRS, seed), 5, 0, lambda n: None)
    assert memory.tried == [6, 3]


def test_with_dropout_they_go_on_with_other_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    Little(monkeypatch, 3, "gradients", 10)
    found = train("lanes", small_task(model=net(0.3)), LRS, 20)
    assert all(c.trained == 20 and math.isfinite(c.train[-1][1]) for c in found)
    assert len({c.train[0][1] for c in found[:3]}) == 3  # each lane of a stack has its own


def test_memory_that_runs_out_in_evaluation_evaluates_lane_by_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task("linear", torch.float64)
    truth = train("lanes", task, LRS, 20)

    def no_memory(stack: Stack, which: Any) -> Tensor:
        raise TaskError("the task's loss raised OutOfMemoryError") from OUT[0]

    monkeypatch.setattr(Stack, "validate", no_memory)
    found = train("lanes", task, LRS, 20)
    for f, t in zip(found, truth, strict=True):
        assert f.train == t.train
        assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=1e-12)


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
        assert len(engine("lanes", prepared.task).train(lanes_of(LRS), 3, 0, lambda n: None).curves) == len(LRS)
