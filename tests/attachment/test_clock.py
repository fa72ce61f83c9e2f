"""The clock counts optimizer updates that took place: no batches, no skipped ones, none twice."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, sgd, weights

import etascope as eta
from etascope.errors import OptionError

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.1, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, fused=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, foreach=False),
    "adam foreach": lambda p: torch.optim.Adam(p, lr=0.1, foreach=True),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
    "adamw fused tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.1, dtype=torch.float64), fused=True),
    "adagrad fused": lambda p: torch.optim.Adagrad(p, lr=0.1, fused=True),
}


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("build", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_gradient_scaler_that_skips(build: Any, unscale: bool) -> None:
    #            batch 0  1  2  3  4  5  6  7  8  9 10 11
    overflows = [1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]
    (w,) = weights()
    optimizer = build([w])
    handle = eta.attach(eta.linear(), optimizer, horizon=20)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    updates = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for overflow in overflows:
            before = w.detach().clone()
            optimizer.zero_grad()
            scaler.scale((w * (float("inf") if overflow else 1.0)).sum()).backward()
            if unscale:
                scaler.unscale_(optimizer)
            assert lrs(optimizer) == handle.lrs == [0.1 * eta.linear().bind(20)(updates)]
            scaler.step(optimizer)
            scaler.update()
            took_place = not torch.equal(before, w)
            assert took_place == (not overflow)
            updates += took_place
            assert handle.step == updates
    assert updates == 7


def test_accumulation_counts_updates_not_batches() -> None:
    optimizer = sgd(lr=0.1)
    (w,) = optimizer.param_groups[0]["params"]
    handle = eta.attach(eta.linear(), optimizer, horizon=5)
    used = []
    for batch in range(20):
        (w.sum() / 4).backward()
        if batch % 4 == 3:
            used += lrs(optimizer)
            optimizer.step()
            optimizer.zero_grad()
    assert handle.step == 5 and used == [0.1 * eta.linear().bind(5)(t) for t in range(5)]


def test_a_closure_counts_once() -> None:
    (w,) = weights()
    optimizer = torch.optim.LBFGS([w], lr=0.1, max_iter=5)
    handle = eta.attach(eta.linear(), optimizer, horizon=5)
    calls = []

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        calls.append(1)
        return loss

    optimizer.step(closure)
    assert len(calls) > 1 and handle.step == 1


def test_a_step_that_raises_does_not_count() -> None:
    optimizer = sgd()
    handle = eta.attach(eta.linear(), optimizer, horizon=5)

    def closure() -> float:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        optimizer.step(closure)
    assert handle.step == 0


def test_driven_by_hand() -> None:
    optimizer = sgd()
    handle = eta.attach(eta.linear(), optimizer, horizon=5000, clock="manual")
    optimizer.step()
    assert handle.step == 0
    handle.advance()
    handle.advance(2000)
    assert handle.step == 2001 and lrs(optimizer) == [0.1 * eta.linear().bind(5000)(2001)]
    for wrong in (0, -1, 1.5, True):
        with pytest.raises(eta.EtascopeError, match=r"advance\(n\)"):
            handle.advance(wrong)  # type: ignore[arg-type]
    assert handle.step == 2001


def test_advance_does_not_count_twice() -> None:
    handle = eta.attach(eta.linear(), optimizer := sgd(), horizon=5)
    with pytest.raises(OptionError, match="counts the optimizer's updates itself") as error:
        handle.advance()
    assert 'clock="manual"' in error.value.next_move and handle.step == 0 and optimizer


def test_two_optimizers_have_two_clocks() -> None:
    one, two = sgd(), sgd()
    a, b = eta.attach(eta.linear(), one, horizon=5), eta.attach(eta.linear(), two, horizon=5)
    one.step()
    assert (a.step, b.step) == (1, 0)


class Wrapper(torch.optim.Optimizer):
    """As Accelerate's and Lightning's: an Optimizer without hooks of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step(closure)


def test_wrappers_are_seen_through() -> None:
    inner = sgd()
    outer = Wrapper(Wrapper(inner))
    handle = eta.attach(eta.linear(), outer, horizon=5)
    outer.step()
    inner.step()
    assert handle.step == 2
    with pytest.raises(OptionError, match="already has a handle"):
        eta.attach(eta.linear(), inner, horizon=5)


@pytest.mark.parametrize("how", ["plain", "accelerate"])
def test_two_processes(how: str) -> None:
    if how == "accelerate" and not importlib.util.find_spec("accelerate"):
        pytest.skip("needs accelerate: pip install etascope[all]")
    if not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([sys.executable, script, how, port], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    truth = [0.1 * eta.linear().bind(6)(t) for t in range(6)]
    assert json.loads(done.stdout.splitlines()[-1]) == 2 * [[truth, 6]]
