"""Lanes are held to the loop under every rule of the field, beside those of `test_lanes_equal_loop`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import KINDS, largest_gap, small_task, train
from tests.rules.lions import Lion
from torch import Tensor, nn
from torch.optim import ASGD, SGD, Adadelta, Adafactor, Adam, Adamax, NAdam, RAdam, RMSprop, Rprop

from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal
from etascope.schedules import cosine, warmup

LANES = 4
RULES: dict[str, tuple[Callable[..., Any], float]] = {  # optimizer, and the largest of the lanes' lrs
    "adadelta": (partial(Adadelta, rho=0.9), 1.0),
    "adam amsgrad": (partial(Adam, amsgrad=True, weight_decay=1e-2), 3e-2),
    "adamax": (Adamax, 3e-2),
    "asgd": (partial(ASGD, lambd=1e-2), 0.1),
    "lion": (partial(Lion, weight_decay=0.1), 3e-3),
    "nadam": (partial(NAdam, weight_decay=0.1, decoupled_weight_decay=True), 3e-2),
    "radam": (partial(RAdam, betas=(0.9, 0.99)), 3e-2),
    "rmsprop momentum": (partial(RMSprop, momentum=0.5), 3e-3),
    "sgd dampening": (partial(SGD, momentum=0.9, dampening=0.3), 0.1),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_over_50_steps(kind: str, rule: str) -> None:
    optimizer, largest = RULES[rule]
    schedule = warmup("10%") >> cosine()
    task = small_task(kind, torch.float64, optimizer=optimizer, schedule=schedule, val=None)
    lrs = [largest * 10 ** (-k / 2) for k in range(LANES)]
    found, truth = (train(name, task, lrs, steps=50) for name in ("lanes", "loop"))
    assert all(len(c.train) == 50 and c.diverged_at is None for c in (*found, *truth))
    assert largest_gap(found, truth) <= 1e-9


def square(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return (model(x) - y[:, None]).square().mean()


@pytest.mark.parametrize("rule", RULES)
def test_a_diverging_lane_touches_no_other(rule: str) -> None:
    optimizer, largest = RULES[rule]
    task = small_task("linear", torch.float64, optimizer=optimizer, loss=square, val=None)
    lrs = [largest * 10 ** (-k / 2) for k in range(LANES)]
    harmless, wild = (train("lanes", task, chosen, steps=40) for chosen in (lrs, [*lrs[:2], 1e200, *lrs[3:]]))
    assert wild[2].diverged_at is not None
    for k in (0, 1, 3):
        assert wild[k] == harmless[k]  # to the bit


@pytest.mark.parametrize("optimizer", [Adafactor, Rprop])
def test_what_has_no_rule_says_so(optimizer: Callable[..., Any]) -> None:
    why = refusal(Prepared(small_task(optimizer=optimizer), torch.device("cpu")), 0)
    assert why is not None and "has no rule: it" in why
