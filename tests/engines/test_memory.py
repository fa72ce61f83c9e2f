"""The memory that training takes, as it is told in advance."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, engine, lanes_of, small_task
from torch import nn

import etascope as eta
from etascope.engines.choose import choose
from etascope.engines.memory import memory, need_of
from etascope.engines.prepared import Prepared
from etascope.records import Engine as Ran

FROZEN = 4 * (5 * 4096 + 4096)  # bytes of the body


def frozen_body(seeded: bool = False) -> nn.Module:
    """A wide body that is not trained, and a small head that is."""
    body, head = nn.Linear(5, 4096), nn.Linear(4096, 3)
    if not seeded:
        nn.init.constant_(body.weight, 0.1)
        nn.init.zeros_(body.bias)
    body.requires_grad_(False)
    return nn.Sequential(body, nn.Tanh(), head)


def test_what_is_frozen_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task(model=frozen_body, train=batches("linear", n=1), val=None)
    head, activations = 4 * (4096 * 3 + 3), 4 * 7 * 4096
    need = need_of(Prepared(task, CPU), [0, 1])
    assert need.shared == FROZEN
    assert need.lane == pytest.approx(6 * head + 2 * activations, rel=0.02)
    monkeypatch.setattr(importlib.import_module("etascope.engines.choose"), "STACK_BYTES", FROZEN + 8 * need.lane)
    assert choose(Prepared(task, CPU), "lanes", 0, 1e4).engine.ran.chunk == 8


def test_what_is_frozen_and_drawn_from_the_seed_counts_for_each_lane() -> None:
    task = small_task(model=partial(frozen_body, True), val=None)
    assert need_of(Prepared(task, CPU), [0]).shared == FROZEN
    assert need_of(Prepared(task, CPU), [0, 1]).shared == 0


def test_memory_is_that_of_the_largest_stack_in_every_process() -> None:
    task = small_task(val=None)
    need = need_of(Prepared(task, CPU), [0])
    units = engine("lanes", task, chunk=4).units(lanes_of([1e-3 * 2**i for i in range(6)]))
    assert [len(unit) for unit in units] == [3, 3]
    for ran, lanes in ((Ran("lanes", 4, 1, "cpu"), 3), (Ran("loop", 1, 1, "cpu"), 1)):
        assert memory(Prepared(task, CPU), ran, units) == need.lane * lanes
    assert memory(Prepared(task, CPU), Ran("lanes", 4, 1, "cpu", workers=2), units) == need.lane * 6


def test_a_sweeps_plan_says_about_what_it_takes() -> None:
    class Told(eta.Progress):
        def __getattribute__(self, name: str) -> Any:
            return lines.append if name == "plan" else lambda *_: None

    lines: list[str] = []
    wide = small_task(model=lambda: nn.Sequential(nn.Linear(5, 50_000), nn.Tanh(), nn.Linear(50_000, 3)), horizon=2)
    eta.sweep(wide, lrs=[1e-3, 1e-2], engine="loop", progress=Told())
    assert lines[0].endswith("; 2 lrs x 1 seed x 2 steps; about 15 MB")  # 6 · 1.8 MB, and 10 rows · 50,000 twice
    eta.sweep(lambda lr, steps, seed: abs(lr - 0.1), horizon=10, lrs=[0.05, 0.2], init_loss=1.0, progress=Told())
    assert lines[1].endswith("x 10 steps")


def test_batches_that_are_kept_count() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batches("linear", n=2)[0]), batch_size=5)
    task = small_task(train=loader, val=None)
    need = need_of(Prepared(task, CPU), [0])
    assert need.step == 5 * 5 * 4 + 5 * 8
    units = [[s] for s in lanes_of([1e-3])]
    assert memory(Prepared(task, CPU), Ran("loop", 1, 1, "cpu"), units) == need.lane + 50 * need.step
    assert need_of(Prepared(small_task(), CPU), [0]).step == 0
