"""A resumed run goes on to the bit: every schedule, every order of building and loading, any step."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, weights
from tests.schedules.members import HORIZON, MEMBERS

import etascope as eta
from etascope.schedules import Schedule

PAST = 6
LRS = (0.3, 0.007)
SCHEDULES = [*MEMBERS, eta.schedules.as_schedule(lambda t: 1 / (t + 1))]


def build() -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [w], "lr": lr} for w, lr in zip(weights(2), LRS, strict=True)], momentum=0.9)


def attach(s: Schedule, optimizer: torch.optim.Optimizer, **options: Any) -> eta.Handle:
    return eta.attach(s, optimizer, horizon=HORIZON, steps_per_epoch=10, **options)


def attach_optimizer_handle(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    handle = attach(s, optimizer)
    optimizer.load_state_dict(o)
    handle.load_state_dict(h)


def attach_handle_optimizer(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    handle = attach(s, optimizer)
    handle.load_state_dict(h)
    optimizer.load_state_dict(o)


def optimizer_attach_handle(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    optimizer.load_state_dict(o)
    attach(s, optimizer).load_state_dict(h)


def the_handle_alone(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    attach(s, optimizer).load_state_dict(h)


def the_handle_alone_another_lr_in_the_optimizer(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 17.0
    attach(s, optimizer).load_state_dict(h)


def explicit_optimizer_attach_handle(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    optimizer.load_state_dict(o)
    attach(s, optimizer, lr=LRS).load_state_dict(h)


def explicit_handle_optimizer(s: Schedule, optimizer: Any, o: Any, h: Any) -> None:
    handle = attach(s, optimizer, lr=LRS)
    handle.load_state_dict(h)
    optimizer.load_state_dict(o)


ORDERS: list[Callable[..., None]] = [
    attach_optimizer_handle,
    attach_handle_optimizer,
    optimizer_attach_handle,
    the_handle_alone,
    the_handle_alone_another_lr_in_the_optimizer,
    explicit_optimizer_attach_handle,
    explicit_handle_optimizer,
]


def through_a_file(data: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("order", ORDERS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("s", SCHEDULES, ids=repr)
def test_any_order_at_20_random_steps(s: Schedule, order: Callable[..., None]) -> None:
    truth = build()
    handle = attach(s, truth, lr=LRS if order.__name__.startswith("explicit") and random.random() < 0.5 else None)
    saved, used = [], []
    for _ in range(HORIZON + PAST):
        saved.append((through_a_file(truth.state_dict()), json.loads(json.dumps(handle.state_dict(), allow_nan=False))))
        used += run(truth, 1)
    for t in random.sample(range(HORIZON + PAST), 20):
        resumed = build()
        order(s, resumed, *saved[t])
        assert run(resumed, HORIZON + PAST - t) == used[t:]


def build_three() -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": [w]} for w in weights(3)], lr=0.01, weight_decay=0.1)


def attach_three(optimizer: torch.optim.Optimizer) -> eta.Handle:
    return eta.attach(
        {
            "lr": eta.warmup(4) >> eta.cosine(),
            "weight_decay": eta.linear(),
            "beta1": eta.absolute(eta.linear(start=0.9, to=0.5)),
        },
        optimizer,
        horizon=30,
        groups={1: 3 * eta.cosine(), 2: {"weight_decay": lambda t: 0.9**t}},
        factors=[eta.plateau(factor=0.7, patience=1), eta.greedy(patience=1)],
    )


def values(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [(g["lr"], g["weight_decay"], g["betas"]) for g in optimizer.param_groups]


@pytest.mark.parametrize("order", ["attach optimizer handle", "attach handle optimizer", "optimizer attach handle"])
def test_every_key_group_and_factor(order: str) -> None:
    metrics = [random.choice([1.0, 0.9, 1.1, float("nan"), -2.0]) for _ in range(30)]

    def go(optimizer: Any, handle: eta.Handle, steps: range) -> list[Any]:
        used = []
        for t in steps:
            handle.observe(metrics[t])
            used.append((values(optimizer), handle.scale))
            optimizer.step()
        return used

    for t in range(0, 30, 7):
        truth = build_three()
        handle = attach_three(truth)
        go(truth, handle, range(t))
        saved = through_a_file({"optimizer": truth.state_dict(), "handle": handle.state_dict()})
        rest = go(truth, handle, range(t, 30))
        resumed, again = build_three(), None
        for what in order.split():
            if what == "attach":
                again = attach_three(resumed)
            elif what == "optimizer":
                resumed.load_state_dict(saved["optimizer"])
            else:
                assert again is not None
                again.load_state_dict(saved["handle"])
        assert again is not None
        assert go(resumed, again, range(t, 30)) == rest


def test_weights_too() -> None:
    def train(optimizer: Any, steps: int) -> None:
        for _ in range(steps):
            for group in optimizer.param_groups:
                for w in group["params"]:
                    w.grad = w.detach() * 0.3 + 0.1
            optimizer.step()

    truth = build()
    handle = attach(eta.cosine(), truth)
    train(truth, 13)
    saved = through_a_file(
        [truth.state_dict(), handle.state_dict(), [g["params"][0].detach() for g in truth.param_groups]]
    )
    train(truth, 20)
    resumed = build()
    with torch.no_grad():
        for group, w in zip(resumed.param_groups, saved[2], strict=True):
            group["params"][0].copy_(w)
    optimizer_attach_handle(eta.cosine(), resumed, saved[0], saved[1])
    train(resumed, 20)
    assert lrs(resumed) == lrs(truth)
    for a, b in zip(resumed.param_groups, truth.param_groups, strict=True):
        assert torch.equal(a["params"][0], b["params"][0])


def test_functions_that_are_objects_are_the_same_in_another_process() -> None:
    script = Path(__file__).with_name("callables.py")

    def run_script(what: str, given: str = "") -> str:
        done = subprocess.run([sys.executable, script, what], input=given, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    saved = run_script("save")
    assert "0x" not in saved
    names = [state["given"]["schedules"]["lr"]["bound"]["schedule"]["name"] for state in json.loads(saved)]
    assert names[1] == "Plain" and names[3] == "partial(Fading(fn=fade, by=3.0))"
    assert names[2] == "partial(power, 0.5, of=2.0, others=list(fade, {'a': Plain}))"
    assert [row[0] for row in json.loads(run_script("load", saved))] == 6 * [1]
