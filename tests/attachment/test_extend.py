"""A run made longer on its way: what follows, what is saved, and that it resumes to the bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.attachment.small_optimizers import lrs, run, sgd

import etascope as eta
from etascope.errors import EtascopeError, OptionError

S = eta.warmup(4) >> eta.cosine(to=0.1)
HOW: list[dict[str, Any]] = [
    {},
    {"keep": "value"},
    {"keep": "schedule"},
    {"rewarm": 5},
    {"keep": "schedule", "rewarm": 3},
]


@pytest.mark.parametrize("how", HOW)
def test_it_goes_on_as_bound_extend_says(how: dict[str, Any]) -> None:
    optimizer = sgd(lr=0.3)
    handle = eta.attach(S, optimizer, horizon=20)
    used = run(optimizer, 12)
    handle.extend(50, **how)
    b = S.bind(20).extend(12, 50, **how)
    assert lrs(optimizer) == handle.lrs == [0.3 * b(12)]
    used += run(optimizer, 45)
    assert used == [[0.3 * b(t)] for t in range(57)]


def test_the_lr_alone_is_warmed_up_again() -> None:
    optimizer = sgd(lr=0.3, momentum=0.9)
    handle = eta.attach({"lr": eta.constant(), "momentum": eta.constant()}, optimizer, horizon=20)
    run(optimizer, 10)
    handle.extend(40, rewarm=3)
    assert lrs(optimizer) == [0.3 * 0.25] and optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("order", ["attach optimizer handle", "attach handle optimizer", "optimizer attach handle"])
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("s", [S, lambda t: 1 / (t + 1)])
def test_resume_to_the_bit_after_two_extensions(s: Any, how: dict[str, Any], order: str) -> None:
    truth = sgd(2, lr=0.3)
    old = eta.attach(s, truth, horizon=20, groups={1: 0.5 * S})
    saved, used = [], []
    for t in range(60):
        if t in (8, 25):
            old.extend({8: 30, 25: 50}[t], **how)
        saved.append((truth.state_dict(), json.loads(json.dumps(old.state_dict()))))
        used += run(truth, 1)
    for t in (3, 8, 9, 24, 25, 26, 40, 55):
        resumed, handle = sgd(2, lr=0.3), None
        for what in order.split():
            if what == "attach":
                handle = eta.attach(s, resumed, horizon=20, groups={1: 0.5 * S})
            elif what == "optimizer":
                resumed.load_state_dict(saved[t][0])
            else:
                assert handle is not None
                handle.load_state_dict(saved[t][1])
        assert handle is not None and handle.state_dict() == saved[t][1]
        end = 8 if t < 8 else 25 if t < 25 else 60
        assert run(resumed, end - t) == used[t:end]


def test_a_script_with_a_longer_horizon_is_told_how_to_go_on() -> None:
    truth = sgd()
    old = eta.attach(S, truth, horizon=20)
    run(truth, 12)
    optimizer = sgd()
    handle = eta.attach(S, optimizer, horizon=50)
    with pytest.raises(OptionError, match="horizon is 20 there and 50 here") as error:
        handle.load_state_dict(old.state_dict())
    assert "handle.extend" in error.value.next_move
    handle.load_state_dict(old.state_dict(), prefer="saved")
    handle.extend(50)
    assert lrs(optimizer) == [0.1 * S.bind(20).extend(12, 50)(12)]
    again = sgd()
    other = eta.attach(S, again, horizon=50)
    other.load_state_dict(handle.state_dict(), prefer="saved")
    assert run(again, 40) == run(optimizer, 40)


def test_loading_a_state_from_before_goes_back() -> None:
    optimizer = sgd()
    handle = eta.attach(S, optimizer, horizon=20)
    run(optimizer, 5)
    state, then = handle.state_dict(), lrs(optimizer)
    handle.extend(50, keep="schedule")
    run(optimizer, 5)
    handle.load_state_dict(state)
    assert lrs(optimizer) == then and handle.state_dict() == state


@pytest.mark.parametrize(
    ("horizon", "how", "cause"),
    [
        (12, {}, "new horizon is 12"),
        (0, {}, "horizon is 0"),
        (40, {"keep": "fractoin"}, "keep is 'fractoin'"),
        (40, {"rewarm": -1}, "rewarm is -1"),
        (40, {"rewarm": 39}, "rewarm=39 is longer"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_changed(horizon: Any, how: Any, cause: str) -> None:
    optimizer = sgd()
    handle = eta.attach(S, optimizer, horizon=20)
    run(optimizer, 12)
    before, state = lrs(optimizer), handle.state_dict()
    with pytest.raises(EtascopeError, match=cause):
        handle.extend(horizon, **how)
    assert lrs(optimizer) == before and handle.state_dict() == state
    state["extensions"] = [{"at": 12, "horizon": horizon, "keep": how.get("keep", "fraction"), "rewarm": 0, **how}]
    with pytest.raises(EtascopeError, match=cause):
        handle.load_state_dict(state)
    assert lrs(optimizer) == before
