"""What a state holds, what it is held to, and that nothing changes where it is refused."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, sgd, weights

import etascope as eta
from etascope.errors import EtascopeError, OptionError


def attached(steps: int = 3, **options: Any) -> tuple[torch.optim.Optimizer, eta.Handle]:
    optimizer = sgd(2, momentum=0.9)
    options = {"horizon": 10, **options}
    handle = eta.attach(options.pop("schedule", eta.cosine()), optimizer, **options)
    run(optimizer, steps)
    return optimizer, handle


def test_it_is_plain_data_that_aliases_nothing() -> None:
    _, handle = attached(factors=[eta.plateau(), eta.greedy(window=3)])
    handle.observe(1.0)
    state = handle.state_dict()
    assert json.loads(json.dumps(state, allow_nan=False)) == state == pickle.loads(pickle.dumps(state))
    keep = copy.deepcopy(state)
    handle.observe(2.0)
    state["peaks"][0]["lr"] = 99.0
    state["given"]["schedules"].clear()
    assert handle.peaks == [0.1, 0.1]
    state = copy.deepcopy(keep)
    handle.load_state_dict(state)
    run(handle._optimizer(), 2)  # type: ignore[arg-type]
    handle.observe(3.0)
    assert state == keep
    handle.load_state_dict(state)  # the same dict twice: torch's CyclicLR raises KeyError
    assert handle.state_dict() == keep


def test_a_state_read_from_json_is_one_read_from_torch_save() -> None:
    _, handle = attached(groups={1: eta.linear()}, factors=[eta.greedy()])
    _, other = attached(0, groups={1: eta.linear()}, factors=[eta.greedy()])
    other.load_state_dict(json.loads(json.dumps(handle.state_dict())))
    assert other.state_dict() == handle.state_dict()


GIVEN: list[tuple[dict[str, Any], str]] = [
    ({"schedule": eta.linear()}, r"lr is cosine\(\) there and linear\(\) here"),
    ({"horizon": 20}, "horizon is 10 there and 20 here"),
    ({"steps_per_epoch": 5}, "steps_per_epoch is None there and 5 here"),
    ({"lr": 0.2}, "lr is 0.1 there and 0.2 here"),
    ({"lr": [0.1, 0.2]}, r"lr is 0.1 there and \[0.1, 0.2\] here"),
    ({"schedule": {"lr": eta.cosine(), "momentum": eta.linear()}}, "momentum has a schedule here alone"),
    ({"groups": {1: eta.linear()}}, "group 1's lr has a schedule here alone"),
    ({"schedule": eta.absolute(eta.cosine())}, r"lr is cosine\(\) there and absolute\(cosine\(\)\) here"),
    ({"schedule": abs}, r"lr is cosine\(\) there and the function abs here"),
    ({"factors": [eta.plateau(patience=3)]}, r"factors are none there and plateau\(patience=3\) here"),
]


@pytest.mark.parametrize(("here", "words"), GIVEN)
def test_other_givens_are_named_and_prefer_decides(here: dict[str, Any], words: str) -> None:
    truth, old = attached()
    old.scale = 0.5
    state = old.state_dict()
    optimizer, handle = attached(0, **here)
    before, mine = [dict(g) for g in optimizer.param_groups], handle.state_dict()
    with pytest.raises(OptionError, match=words) as error:
        handle.load_state_dict(state)
    assert 'prefer="saved"' in error.value.next_move and 'prefer="given"' in error.value.next_move
    assert [dict(g) for g in optimizer.param_groups] == before and handle.state_dict() == mine
    handle.load_state_dict(state, prefer="given")
    fresh_optimizer, fresh = attached(0, **here)
    fresh.step, fresh.scale = 3, 0.5
    assert handle.state_dict() == fresh.state_dict() and lrs(optimizer) == lrs(fresh_optimizer)
    handle.load_state_dict(state, prefer="saved")
    assert handle.state_dict() == state and lrs(optimizer) == lrs(truth)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert run(optimizer, 5) == run(truth, 5)


def test_what_is_the_same_needs_no_preference() -> None:
    truth, old = attached(schedule={"lr": lambda t: 0.5**t, "momentum": eta.cosine().bind(10)}, lr=0.3)
    state = old.state_dict()
    for lr in (None, 0.3, [0.3, 0.3]):
        optimizer = sgd(2, momentum=0.9)
        handle = eta.attach({"lr": lambda t: 0.5**t, "momentum": eta.cosine()}, optimizer, lr=lr, horizon=10)
        functions = state["given"]["schedules"]["lr"]["bound"]["schedule"]
        assert functions["kind"] == "foreign"
        name = handle.state_dict()["given"]["schedules"]["lr"]["bound"]["schedule"]["name"]
        again = json.loads(json.dumps(state).replace(functions["name"], name))
        handle.load_state_dict(again)
        assert lrs(optimizer) == lrs(truth)


def test_a_function_cannot_be_taken_from_a_state() -> None:
    _, old = attached(schedule=lambda t: 0.5)
    optimizer, handle = attached(0)
    with pytest.raises(OptionError, match=r"the function .*lambda.* there and cosine\(\) here"):
        handle.load_state_dict(old.state_dict())
    with pytest.raises(EtascopeError, match="which JSON does not hold"):
        handle.load_state_dict(old.state_dict(), prefer="saved")
    assert handle.step == 0 and lrs(optimizer) == [0.1, 0.1]
    handle.load_state_dict(old.state_dict(), prefer="given")
    assert handle.step == 3


def test_factors_keep_what_they_remember_under_given() -> None:
    _, old = attached(factors=[eta.plateau(patience=1), eta.plateau(patience=9)])
    for _ in range(4):
        old.observe(1.0)
    _, handle = attached(0, factors=[eta.plateau(patience=2), eta.greedy()])
    handle.load_state_dict(old.state_dict(), prefer="given")
    plateau, greedy = handle.state_dict()["factors"]
    assert plateau["factor"]["patience"] == 2 and plateau["state"] == old.state_dict()["factors"][0]["state"]
    assert greedy["state"]["best"] is None and handle.scale == old.scale == 0.1


def test_a_key_that_the_saved_run_did_not_drive_gets_its_own_value_back() -> None:
    _, old = attached()
    optimizer, handle = attached(4, schedule={"lr": eta.cosine(), "momentum": eta.linear()})
    assert optimizer.param_groups[0]["momentum"] == 0.9 * 0.6
    handle.load_state_dict(old.state_dict(), prefer="saved")
    assert optimizer.param_groups[0]["momentum"] == 0.9
    run(optimizer, 1)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def scheduler_state() -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(sgd(2), 10).state_dict()


def changed(**changes: Any) -> Callable[[], Any]:
    return lambda: {**attached()[1].state_dict(), **changes}


def given(**changes: Any) -> Callable[[], Any]:
    state = attached()[1].state_dict()
    return lambda: {**state, "given": {**state["given"], **changes}}


@pytest.mark.parametrize(
    ("state", "cause", "move"),
    [
        (scheduler_state, "no state of etascope's attach: it has .*T_max", r"handle\.step = 0"),
        (lambda: sgd(2).state_dict(), "it has param_groups, state", "optimizer.load_state_dict"),
        (dict, "it has nothing", "state_dict"),
        (lambda: None, "it is a NoneType", "state_dict"),
        (lambda: [1], "it is a list", "state_dict"),
        (changed(kind="else"), "no state of", "state_dict"),
        (changed(schema=2), "schema 2, and this etascope reads schema 1", "newer"),
        (changed(schema=None), "schema None", "newer"),
        (changed(step=-1), "step is -1", "another checkpoint"),
        (changed(step=2.5), "step is 2.5", "another checkpoint"),
        (changed(step="3"), "step is '3'", "another checkpoint"),
        (changed(scale=None), "scale is None", "another checkpoint"),
        (changed(scale=-2.0), "scale -2.0", "another checkpoint"),
        (changed(peaks=None), "peaks is None", "another checkpoint"),
        (changed(peaks=[{"lr": 0.1}]), "1 param groups, and the optimizer has 2", "before the new ones"),
        (changed(peaks=3 * [{"lr": 0.1}]), "3 param groups, and the optimizer has 2", "add_param_group"),
        (changed(peaks=2 * [{"momentum": 0.1}]), r"peaks\[0\] has momentum, not lr", "another checkpoint"),
        (changed(peaks=2 * [{"lr": "x"}]), "peaks.* is 'x'", "another checkpoint"),
        (changed(factors=[{}]), "factor is missing", "another checkpoint"),
        (changed(extensions=[{"at": 3}]), "horizon is missing", "another checkpoint"),
        (changed(given={}), "schedules is missing", "another checkpoint"),
        (given(schedules={}), "schedules is empty", "another checkpoint"),
        (given(schedules={"lr": {}}), "does not say what drives lr", "another checkpoint"),
        (given(schedules={"lr": {"absolute": False, "bound": {"kind": "cosin", "schema": 1}}}), "no kind", "Known"),
        (given(schedules={"lr": {"absolute": False, "bound": {"schedule": 3}}}), "damaged", "another checkpoint"),
        (given(schedules={"lr": {"absolute": False, "bound": {"schedule": [], "schema": 1}}}), "damaged", "another"),
        (given(groups={"7": {}}), "'7'", "another checkpoint"),
        (given(groups={"x": {}}), "'x'", "another checkpoint"),
    ],
)
@pytest.mark.parametrize("prefer", [None, "saved"])
def test_a_bad_state_is_refused_and_nothing_is_changed(state: Any, cause: str, move: str, prefer: Any) -> None:
    optimizer, handle = attached(2)
    before, mine = [dict(g) for g in optimizer.param_groups], handle.state_dict()
    data = state()
    keep = copy.deepcopy(data)
    with pytest.raises(EtascopeError) as error:
        handle.load_state_dict(data, prefer=prefer)
    if "prefer" not in error.value.next_move:  # other givens come first, where they can be told
        assert re.search(cause, error.value.cause), error.value.cause
        assert re.search(move, error.value.next_move)
    assert data == keep
    assert [dict(g) for g in optimizer.param_groups] == before and handle.state_dict() == mine
    run(optimizer, 1)


def test_unknown_preference() -> None:
    _, handle = attached()
    with pytest.raises(OptionError, match="prefer is 'mine'"):
        handle.load_state_dict(handle.state_dict(), prefer="mine")  # type: ignore[arg-type]


def test_a_saved_key_that_the_optimizer_lacks() -> None:
    _, old = attached(schedule={"lr": eta.cosine(), "momentum": eta.linear()})
    optimizer = torch.optim.Adam([{"params": [w]} for w in weights(2)], lr=0.1)
    handle = eta.attach(eta.cosine(), optimizer, horizon=10)
    with pytest.raises(OptionError, match="'momentum' of param group 0 is not there"):
        handle.load_state_dict(old.state_dict(), prefer="saved")
    assert handle.step == 0 and lrs(optimizer) == [0.1, 0.1]
