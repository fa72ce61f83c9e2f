"""Compiled optimizer steps: the hook stays out of the graph, and a tensor lr recompiles nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, weights

import etascope as eta

dynamo = pytest.importorskip("torch._dynamo")
utils = pytest.importorskip("torch._dynamo.utils")


@pytest.fixture(autouse=True)
def _fresh() -> Any:
    dynamo.reset()
    utils.counters.clear()
    yield
    dynamo.reset()


def adam(groups: int = 2, lr: Any = None, **options: Any) -> torch.optim.Adam:
    lr = torch.tensor(0.1, dtype=torch.float64) if lr is None else lr
    return torch.optim.Adam([{"params": [w]} for w in weights(groups)], lr=lr, **options)


def graphs() -> tuple[int, int]:
    return utils.counters["stats"]["unique_graphs"], utils.counters["frames"]["total"]


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("target", ["function", "step"])
def test_no_recompiles_over_100_steps(backend: str, target: str) -> None:
    optimizer = adam()
    handle = eta.attach(eta.warmup(10) >> eta.cosine(), optimizer, horizon=100, groups={1: eta.linear()})

    def function() -> None:
        optimizer.step()

    step: Callable[[], Any] = torch.compile(function if target == "function" else optimizer.step, backend=backend)
    step()
    after_one = graphs()
    a, b = (eta.warmup(10) >> eta.cosine()).bind(100), eta.linear().bind(100)
    for t in range(1, 101):
        assert handle.step == t and lrs(optimizer) == [0.1 * a(t), 0.1 * b(t)]
        if t < 100:
            step()
    assert graphs() == after_one and after_one[0] > 0


def test_no_recompiles_after_a_load() -> None:
    optimizer = adam()
    handle = eta.attach(eta.cosine(), optimizer, horizon=100)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        step()
    saved = handle.state_dict()
    before = graphs()
    handle.load_state_dict(saved)
    handle.scale = 0.5
    for _ in range(3):
        step()
    assert graphs() == before and handle.step == 6


def test_a_compiled_step_computes_what_the_plain_one_does() -> None:
    plain, compiled = adam(), adam()
    a, b = (eta.attach(eta.cosine(), o, horizon=10) for o in (plain, compiled))
    step = torch.compile(compiled.step, backend="eager")
    for _ in range(8):
        plain.step()
        step()
    assert a.step == b.step == 8
    for x, y in zip(plain.param_groups, compiled.param_groups, strict=True):
        torch.testing.assert_close(x["params"], y["params"])


class Whole(torch.optim.Optimizer):
    """An optimizer without the graph breaks that torch's own have in `step`."""

    def __init__(self, params: Any, lr: Any) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        with torch.no_grad():
            for group in self.param_groups:
                for w in group["params"]:
                    w.sub_(group["lr"] * w.grad)


def test_one_whole_graph_needs_the_manual_clock() -> None:
    whole = Whole(weights(), torch.tensor(0.1))
    eta.attach(eta.linear(), whole, horizon=10)
    with pytest.raises(Exception, match="disable"):
        torch.compile(whole.step, backend="eager", fullgraph=True)()
    dynamo.reset()
    optimizer = Whole(weights(), torch.tensor(0.1, dtype=torch.float64))
    handle = eta.attach(eta.linear(), optimizer, horizon=10, clock="manual")
    step = torch.compile(optimizer.step, backend="eager", fullgraph=True)
    step()
    utils.counters.clear()
    for t in range(1, 6):
        handle.advance()
        step()
        assert lrs(optimizer) == [0.1 * eta.linear().bind(10)(t)]
    assert utils.counters["stats"]["unique_graphs"] == 0
    (w,) = optimizer.param_groups[0]["params"]
    torch.testing.assert_close(w.detach(), torch.full((2,), 1 - 0.1 * 0.1 * (1 + 0.9 + 0.8 + 0.7 + 0.6 + 0.5)))


def test_the_hook_is_left_out_of_the_graph() -> None:
    optimizer = Whole(weights(), torch.tensor(0.1, dtype=torch.float64))
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    step = torch.compile(lambda: optimizer.step(), backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # dynamo warns of what it tries to trace and cannot
        step()
    before = graphs()
    for _ in range(5):
        step()
    assert handle.step == 6 and graphs() == before
    assert any("_after_step" in reason and "disable" in reason for reason in utils.counters["graph_break"])


def test_a_plain_lr_is_counted_right_too() -> None:
    """It recompiles once, to have the lr as an input: torch's doing, with any scheduler."""
    optimizer = torch.optim.SGD(weights(), lr=0.1)
    handle = eta.attach(eta.linear(), optimizer, horizon=20)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        step()
    before = graphs()
    for _ in range(10):
        step()
    assert handle.step == 13 and lrs(optimizer) == [0.1 * eta.linear().bind(20)(13)] and graphs() == before


def test_torchs_own_steps_break_the_graph_without_us() -> None:
    with pytest.raises(Exception, match="graph_break"):
        torch.compile(adam().step, backend="eager", fullgraph=True)()
