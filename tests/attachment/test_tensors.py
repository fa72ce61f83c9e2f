"""A tensor lr: one of its own for each group, written in place, and copied into every saved state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, weights

import etascope as eta
from etascope.errors import OptionError


def tensor_adam(n: int = 2, lr: Any = 0.1, **options: Any) -> torch.optim.Adam:
    lr = torch.tensor(lr, dtype=torch.float64)
    return torch.optim.Adam([{"params": [w]} for w in weights(n)], lr=lr, **options)


def test_each_group_has_its_own_written_in_place() -> None:
    optimizer = tensor_adam()
    given = optimizer.param_groups[0]["lr"]
    assert given is optimizer.param_groups[1]["lr"] is optimizer.defaults["lr"]
    eta.attach(eta.linear(), optimizer, horizon=10, groups={1: 3 * eta.linear()})
    mine = [group["lr"] for group in optimizer.param_groups]
    assert run(optimizer, 4) == [[0.1 * (1 - t / 10), 0.1 * (3 * (1 - t / 10))] for t in range(4)]
    assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, mine, strict=True))
    assert float(given) == 0.1


def test_saved_states_are_copies() -> None:
    optimizer = tensor_adam(betas=(0.9, 0.99))
    eta.attach({"lr": eta.linear(), "beta1": eta.linear()}, optimizer, horizon=10)
    saved = optimizer.state_dict()
    optimizer.step()
    assert [float(group["lr"]) for group in saved["param_groups"]] == [0.1, 0.1]
    assert lrs(optimizer) == [0.1 * 0.9, 0.1 * 0.9]
    assert torch.optim.Adam.state_dict(optimizer)["param_groups"][0]["betas"] == (0.9 * 0.9, 0.99)


def test_tensor_betas() -> None:
    betas = (torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.99, dtype=torch.float64))
    optimizer = tensor_adam(betas=betas, capturable=False)
    eta.attach({"beta1": eta.linear()}, optimizer, horizon=10)
    mine = optimizer.param_groups[0]["betas"]
    saved = optimizer.state_dict()
    optimizer.step()
    assert optimizer.param_groups[0]["betas"] is mine and float(mine[0]) == 0.9 * 0.9
    assert float(betas[0]) == 0.9 and float(saved["param_groups"][0]["betas"][0]) == 0.9
    assert mine[0] is not optimizer.param_groups[1]["betas"][0]


@pytest.mark.parametrize("before_attach", [False, True])
def test_loading_keeps_the_objects_that_were_compiled_with(before_attach: bool) -> None:
    truth = tensor_adam()
    old = eta.attach(eta.linear(), truth, horizon=10)
    run(truth, 3)
    o, h = truth.state_dict(), old.state_dict()
    resumed = tensor_adam(lr=0.7)
    if before_attach:
        resumed.load_state_dict(o)
    handle = eta.attach(eta.linear(), resumed, horizon=10)
    mine = [group["lr"] for group in resumed.param_groups]
    handle.load_state_dict(h)
    resumed.load_state_dict(o)
    assert all(group["lr"] is tensor for group, tensor in zip(resumed.param_groups, mine, strict=True))
    assert mine[0] is not mine[1]
    assert run(resumed, 5) == run(truth, 5)


def test_a_state_without_tensors_makes_it_numbers_as_torch_does() -> None:
    plain = torch.optim.Adam([{"params": [w]} for w in weights(2)], lr=0.1)
    optimizer = tensor_adam()
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    run(optimizer, 2)
    optimizer.load_state_dict(plain.state_dict())
    assert [type(group["lr"]) for group in optimizer.param_groups] == [float, float]
    assert lrs(optimizer) == handle.lrs == 2 * [0.1 * 0.8]
    optimizer.load_state_dict(tensor_adam().state_dict())
    assert optimizer.param_groups[0]["lr"] is not optimizer.param_groups[1]["lr"]
    run(optimizer, 2)
    assert lrs(optimizer) == handle.lrs == 2 * [0.1 * 0.6]


def test_a_float32_lr_is_rounded_once_where_it_is_written() -> None:
    optimizer = torch.optim.Adam(weights(), lr=torch.tensor(0.1))
    handle = eta.attach(eta.linear(), optimizer, lr=0.3, horizon=10)
    run(optimizer, 3)
    assert handle.lrs == lrs(optimizer) == [float(torch.tensor(0.3 * 0.7))]


def test_added_groups_do_not_share_the_default() -> None:
    optimizer = tensor_adam()
    eta.attach(eta.linear(), optimizer, horizon=10)
    run(optimizer, 3)
    optimizer.add_param_group({"params": weights()})
    run(optimizer, 1)
    assert lrs(optimizer) == 3 * [0.1 * 0.6] and float(optimizer.defaults["lr"]) == 0.1


def test_a_tensor_of_many_is_no_number() -> None:
    optimizer = tensor_adam()
    optimizer.param_groups[0]["extra"] = torch.ones(3)
    with pytest.raises(OptionError, match="'extra' of param group 0"):
        eta.attach({"extra": eta.linear()}, optimizer, horizon=10)


def test_an_in_place_write_makes_no_graph() -> None:
    optimizer = tensor_adam(1)
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    with torch.enable_grad():
        handle.step = 3
    assert not optimizer.param_groups[0]["lr"].requires_grad
