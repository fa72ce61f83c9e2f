"""Each bound against torch's own steps on λθ²/2, just below it and just above."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from etascope.probes import bound

# The preconditioner is held where a test puts it: by alpha = 1, an accumulator beside which gradients are nothing,
# or amsgrad's largest second moment.
RULES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any], float]] = {
    "sgd": (torch.optim.SGD, {}, 2.0),
    "momentum": (torch.optim.SGD, {"momentum": 0.9}, 3.8),
    "a little momentum": (torch.optim.SGD, {"momentum": 0.3}, 2.6),
    "dampened": (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}, 7.6),
    "dampened without momentum": (torch.optim.SGD, {"dampening": 0.5}, 2.0),
    "nesterov": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}, 2 * 1.9 / 2.8),
    "adam": (torch.optim.Adam, {"amsgrad": True}, 38.0),
    "adam of other betas": (torch.optim.Adam, {"amsgrad": True, "betas": (0.5, 0.9)}, 6.0),
    "adamw": (torch.optim.AdamW, {"amsgrad": True, "weight_decay": 0.0}, 38.0),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 1.0}, 2.0),
    "rmsprop with momentum": (torch.optim.RMSprop, {"alpha": 1.0, "momentum": 0.9}, 3.8),
    "adagrad": (torch.optim.Adagrad, {"initial_accumulator_value": 1e30}, 2.0),
}


def goes(name: str, of_bound: float) -> float:
    """How far θ is from 0 after some steps, from 1, at this share of the bound."""
    kind, options, limit = RULES[name]
    theta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = kind([theta], lr=1.0, **options)
    assert bound(optimizer) == pytest.approx(limit, rel=1e-12)
    second = 1.0
    state = optimizer.state[theta]
    if kind in (torch.optim.Adam, torch.optim.AdamW):
        second = 1e30
        zero = torch.zeros(1, dtype=torch.float64)
        state |= {"step": torch.tensor(1e6), "exp_avg": zero, "exp_avg_sq": zero.clone()}
        state["max_exp_avg_sq"] = torch.full((1,), second, dtype=torch.float64)
    elif kind is torch.optim.RMSprop:
        second = 1e30
        state |= {"step": torch.tensor(1.0), "square_avg": torch.full((1,), second, dtype=torch.float64)}
        state |= {"momentum_buffer": torch.zeros(1, dtype=torch.float64)}
    elif kind is torch.optim.Adagrad:
        second = 1e30
    curvature = 3.0
    optimizer.param_groups[0]["lr"] = of_bound * limit / curvature * math.sqrt(second)
    for _ in range(300):  # not so many that gradients grow beside the second moment, and hold the step back
        theta.grad = curvature * theta.detach()
        optimizer.step()
    return abs(theta.item())


@pytest.mark.parametrize("name", RULES)
def test_a_step_is_stable_below_the_bound_and_not_above(name: str) -> None:
    assert goes(name, 0.99) < 0.6
    assert goes(name, 1.01) > 1.5


def test_groups_and_other_rules() -> None:
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    groups = [{"params": [a], "momentum": 0.5}, {"params": [b]}]
    assert bound(torch.optim.SGD(groups, lr=0.1)) == 2.0
    assert bound(torch.optim.SGD([a], lr=0.1, maximize=True)) is None
    assert bound(torch.optim.Rprop([a])) is None

    class Own(torch.optim.SGD):
        """May step in a way of its own."""

    assert bound(Own([a], lr=0.1)) is None
