"""Why the lr was what it was: the terms give it to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import etascope as eta
from etascope.errors import OptionError
from etascope.watcher import why


def trained(bad: dict[int, float], extend_at: int | None = None, horizon: int = 300, **options: Any) -> eta.Watch:
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 1)
    adam = torch.optim.Adam(net.parameters(), lr=0.03)
    handle = eta.attach(eta.warmup("5%") >> eta.cosine(to=0.1), adam, lr=0.03, horizon=horizon)
    with eta.watch(net, adam, schedule=handle, act=True, log=None, **options) as w:
        batches = [torch.randn(256, 4) for _ in range(10)]
        seen = 0
        while w.step < handle.schedule.horizon and not w.should_stop:
            x = batches[seen % 10]
            if seen == extend_at:
                handle.extend(horizon=2 * horizon, keep="value")
            adam.zero_grad()
            loss = (net(x) - x.sum(1, keepdim=True)).square().mean() + bad.get(seen, 0.0)
            loss.backward()
            w.observe(loss)
            adam.step()
            seen += 1
    return w


def test_peak_factors_and_schedule_give_the_lr_to_the_bit() -> None:
    w = trained({150: 1e3, 151: 1e3, 152: 1e3}, extend_at=200)
    assert any(d.action == "rewind" for d in w.decisions)
    log = w.log
    last = {own.step: own.lr for own in log.observations()}
    assert max(last) == 599
    for step in [*range(0, 600, 13), *range(140, 170), *range(195, 205), 599]:
        found, lr = why(log, step), last[step]
        assert found.exact and found.lr == lr, step
        assert found.peak is not None and found.schedule is not None
        assert (found.peak * found.scale) * found.schedule == lr


def test_it_says_who_did_it() -> None:
    w = trained({150: 1e3, 151: 1e3, 152: 1e3})
    assert str(w.why(10)).startswith("step 10: lr 2.062e-2 = peak 3e-2 · schedule 0.6875")
    late = w.why(290)
    assert late.factors == {"rewind": 0.5} and "rewind 0.5" in str(late) and "rewound to step" in late.since[-1]


def test_a_step_that_is_not_there() -> None:
    w = trained({}, horizon=40)
    with pytest.raises(OptionError, match="no step 40"):
        w.why(40)


def test_without_a_handle_the_lr_is_what_the_optimizer_has() -> None:
    net = torch.nn.Linear(2, 1)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    with eta.watch(net, sgd, horizon=30, log=None) as w:
        for _ in w.batches([0]):
            loss = net(torch.ones(4, 2)).square().mean()
            loss.backward()
            w.observe(loss)
            sgd.step()
            sgd.zero_grad()
    assert str(w.why(3)) == "step 3: lr 1e-2 = what the optimizer has"
