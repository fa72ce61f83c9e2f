"""Optimizers that set their own learning rate train on the loop, through their own libraries, as by hand."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, cross_entropy, small_task
from torch import nn

from etascope.engines import Prepared, Setting
from etascope.engines.loop import Loop
from etascope.engines.refusals import refusal
from etascope.records import Engine as Ran

LIBRARIES = {
    "Prodigy": "prodigyopt",
    "AdamWScheduleFree": "schedulefree",
    "SGDScheduleFree": "schedulefree",
    "DAdaptAdam": "dadaptation",
}


@pytest.fixture(params=LIBRARIES)
def optimizer(request: pytest.FixtureRequest) -> Any:
    name: str = request.param
    pytest.importorskip(LIBRARIES[name])
    return getattr(importlib.import_module(LIBRARIES[name]), name)


def test_the_loop_trains_and_judges_as_one_would_by_hand(optimizer: Any) -> None:
    """Schedule-Free is judged at its average of the weights, and trained at others."""
    data, val = batches("linear", n=4), batches("linear", n=1, seed=9)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    task = small_task(model=net, optimizer=lambda params, lr: optimizer(params, lr=lr), train=data, val=val)
    curve = (
        Loop(Prepared(task, CPU), Ran("loop", 1, 1, "cpu")).train([Setting(0, 0.5)], 20, 0, lambda *_: None).curves[0]
    )

    by_hand = optimizer(net.parameters(), lr=0.5)
    has_modes = hasattr(by_hand, "train")
    judged = dict(curve.val)
    for t in range(20):
        if has_modes:
            by_hand.train()
        by_hand.zero_grad()
        cross_entropy(net, data[t % 4]).backward()
        by_hand.step()
        if t + 1 in judged:
            if has_modes:
                by_hand.eval()
            assert judged[t + 1] == pytest.approx(float(cross_entropy(net, val[0])), rel=1e-6)
    assert len(judged) > 2


def test_lanes_refuse_them_by_name(optimizer: Any) -> None:
    task = small_task(optimizer=lambda params, lr: optimizer(params, lr=lr))
    reason = refusal(Prepared(task, CPU), 0)
    assert reason is not None and optimizer.__name__ in reason
