"""Param groups that are added after attach, or replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, sgd, weights

import etascope as eta
from etascope.errors import OptionError

B = eta.linear().bind(10)


def add(optimizer: torch.optim.Optimizer, **options: Any) -> None:
    optimizer.add_param_group({"params": weights(), **options})


def test_follow_its_own_value_is_its_peak_from_its_first_update_on() -> None:
    optimizer = sgd(1, lr=0.1, momentum=0.6)
    handle = eta.attach({"lr": eta.linear(), "momentum": eta.constant(value=0.5)}, optimizer, horizon=10)
    run(optimizer, 4)
    add(optimizer, lr=0.7, momentum=0.8)
    assert lrs(optimizer) == handle.lrs == [0.1 * B(4), 0.7 * B(4)]
    assert optimizer.param_groups[1]["momentum"] == 0.4
    assert run(optimizer, 3)[-1] == [0.1 * B(6), 0.7 * B(6)]
    add(optimizer)  # without an lr of its own: the optimizer's default
    assert lrs(optimizer)[2] == 0.1 * B(7)
    assert handle.peaks == [0.1, 0.7, 0.1]


@pytest.mark.parametrize("tensor", [False, True])
def test_an_explicit_lr_is_that_of_added_groups_without_one(tensor: bool) -> None:
    lr: Any = torch.tensor(0.1, dtype=torch.float64) if tensor else 0.1
    optimizer = torch.optim.Adam(weights(), lr=lr)
    handle = eta.attach(eta.linear(), optimizer, lr=2.0, horizon=10)
    run(optimizer, 4)
    add(optimizer, lr_scale=0.25)
    add(optimizer)
    add(optimizer, lr=0.7)
    assert handle.peaks == [2.0, 0.5, 2.0, 0.7] and lrs(optimizer) == [peak * B(4) for peak in (2.0, 0.5, 2.0, 0.7)]
    one_for_each = sgd(1, lr=0.1)
    handle = eta.attach(eta.linear(), one_for_each, lr=[2.0], horizon=10)
    add(one_for_each)
    assert handle.peaks == [2.0, 0.1]


def test_leave() -> None:
    optimizer = sgd(1, lr=0.1)
    handle = eta.attach(eta.linear(), optimizer, horizon=10, added="leave")
    run(optimizer, 4)
    add(optimizer, lr=0.7)
    run(optimizer, 3)
    assert lrs(optimizer) == handle.lrs == [0.1 * B(7), 0.7]
    again = sgd(1, lr=0.1)
    other = eta.attach(eta.linear(), again, horizon=10, added="leave")
    add(again, lr=0.7)
    again.load_state_dict(optimizer.state_dict())
    other.load_state_dict(handle.state_dict())
    assert run(again, 5) == run(optimizer, 5)


def test_raise_comes_at_the_line_that_adds() -> None:
    optimizer = sgd(1)
    eta.attach(eta.linear(), optimizer, horizon=10, added="raise")
    with pytest.raises(OptionError, match="added after attach") as error:
        add(optimizer)
    assert "follow" in error.value.next_move and len(optimizer.param_groups) == 1
    optimizer.step()


def test_a_group_that_cannot_follow_is_not_added() -> None:
    optimizer = sgd(1)
    eta.attach({"lr": eta.linear(), "extra": eta.linear()}, _with_extra(optimizer), horizon=10)
    with pytest.raises(OptionError, match="'extra' of param group 1"):
        add(optimizer)
    assert len(optimizer.param_groups) == 1
    add(optimizer, extra=3.0)
    assert len(optimizer.param_groups) == 2


def _with_extra(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    optimizer.param_groups[0]["extra"] = 2.0
    return optimizer


@pytest.mark.parametrize("order", ["add optimizer handle", "add handle optimizer", "optimizer handle"])
def test_resume_with_an_adopted_group(order: str) -> None:
    truth = sgd(1, lr=0.1)
    old = eta.attach(eta.linear(), truth, horizon=10, lr=0.2)
    run(truth, 4)
    add(truth, lr=0.7)
    run(truth, 2)
    o, h = truth.state_dict(), old.state_dict()
    resumed = sgd(1, lr=0.1)
    if not order.startswith("add"):
        add(resumed, lr=0.3)  # as a script does that builds all its groups at once
    handle = eta.attach(eta.linear(), resumed, horizon=10)
    for what in order.split():
        if what == "add":
            add(resumed, lr=0.7)
        elif what == "optimizer":
            resumed.load_state_dict(o)
        else:
            handle.load_state_dict(h)
    assert run(resumed, 6) == run(truth, 6)


def test_a_state_with_more_groups_says_to_add_them_first() -> None:
    truth = sgd(1)
    old = eta.attach(eta.linear(), truth, horizon=10)
    add(truth)
    optimizer = sgd(1)
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    with pytest.raises(OptionError, match="2 param groups, and the optimizer has 1") as error:
        handle.load_state_dict(old.state_dict())
    assert "add_param_group" in error.value.next_move


def test_groups_that_came_another_way_follow_too() -> None:
    optimizer = sgd(1, lr=0.1)
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    run(optimizer, 2)
    optimizer.param_groups.append({**optimizer.param_groups[0], "params": weights(), "lr": 0.5})
    assert handle.lrs == lrs(optimizer) == [0.1 * B(2), 0.5 * B(2)]
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    run(optimizer, 1)
    assert lrs(optimizer) == [0.1 * B(3), 0.5 * B(3)]
    optimizer.param_groups = optimizer.param_groups[:1]
    with pytest.raises(OptionError, match="had 2 param groups and has 1"):
        optimizer.step()


@pytest.mark.parametrize("look", [lambda o, h: h.lrs, lambda o, h: h.state_dict(), lambda o, h: run(o, 1200)])
def test_dictionaries_put_in_the_place_of_others_are_noticed(look: Any) -> None:
    optimizer = sgd(2, lr=0.1)
    handle = eta.attach(eta.linear(), optimizer, horizon=2000)
    run(optimizer, 10)
    optimizer.param_groups[1] = {**optimizer.param_groups[1], "lr": 7.0}
    look(optimizer, handle)
    assert lrs(optimizer) == 2 * [0.1 * eta.linear().bind(2000)(handle.step)]
    optimizer.param_groups.clear()
    with pytest.raises(OptionError, match="had 2 param groups and has 0 now"):
        look(optimizer, handle)


def test_a_wrapper_around_our_patch_outlives_the_handle() -> None:
    optimizer = sgd(1)
    handle = eta.attach(eta.linear(), optimizer, horizon=10, added="raise")
    ours = optimizer.add_param_group
    optimizer.add_param_group = lambda group: ours(group)  # type: ignore[method-assign]
    handle.detach()
    del handle
    add(optimizer)
    assert len(optimizer.param_groups) == 2
    del optimizer
    with pytest.raises(OptionError, match="optimizer is gone"):
        ours({"params": weights()})


def test_another_patch_of_add_param_group_stays() -> None:
    optimizer, seen = sgd(1), []
    original = optimizer.add_param_group
    optimizer.add_param_group = lambda group: (seen.append(1), original(group))  # type: ignore[method-assign]
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    add(optimizer)
    assert seen == [1] and len(handle.lrs) == 2
    handle.detach()
    add(optimizer)
    assert seen == [1, 1] and len(optimizer.param_groups) == 3
