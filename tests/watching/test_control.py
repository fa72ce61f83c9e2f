"""The factor on the lr of an optimizer that no handle drives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from etascope.watching.control import HookControl


class Step:
    """An optimizer of one weight whose gradient is one, and what is done with it."""

    def __init__(self, factor: float) -> None:
        self.weight = torch.zeros(1, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.weight], lr=0.5)
        self.control = HookControl(self.optimizer, act=True)
        self.control.put(factor)

    def gradient(self) -> None:
        self.weight.grad = torch.ones(1)

    def moved(self) -> float:
        return -self.weight.item()


@pytest.mark.parametrize("lr", [0.5, torch.tensor(0.5)])
def test_around_an_update(lr: Any) -> None:
    step = Step(0.5)
    step.optimizer.param_groups[0]["lr"] = lr
    for n in (1, 2):
        step.gradient()
        step.control.made()
        step.optimizer.step()
        assert step.moved() == n * 0.25 and step.optimizer.param_groups[0]["lr"] == 0.5


def test_observed_before_a_step_with_a_closure() -> None:
    step = Step(0.5)
    for n in (1, 2):
        step.control.made()
        step.optimizer.step(step.gradient)
        assert step.moved() == n * 0.25


def test_observed_within_the_closure() -> None:
    """As Lightning does: a factor put there holds for this update, and a closure that raises leaves no trace."""
    step = Step(1.0)

    def closure() -> None:
        step.gradient()
        assert step.optimizer.param_groups[0]["lr"] == 0.5
        step.control.put(0.5)
        step.control.made()

    def fails() -> None:
        raise KeyError("batch")

    step.optimizer.step(closure)
    assert step.moved() == 0.25
    with pytest.raises(KeyError):
        step.optimizer.step(fails)
    assert step.optimizer.param_groups[0]["lr"] == 0.5
    step.optimizer.step(closure=closure)
    assert step.moved() == 0.5 and step.optimizer.param_groups[0]["lr"] == 0.5
