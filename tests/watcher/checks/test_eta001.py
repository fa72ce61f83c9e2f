"""ETA001: a loss or gradient that is no number."""

from __future__ import annotations

import math

import pytest

from ..runs import controller, falling, feed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number(bad: float) -> None:
    watcher = controller(act=False)
    (decision,) = feed(watcher, [*falling()[:100], bad])
    assert (decision.code, decision.step, str(decision.numbers["loss"])) == ("ETA001", 100, str(bad))
    assert f"the loss is {bad}, after a running" in str(decision)


def test_a_gradient_that_is_no_number_at_a_loss_that_is_one() -> None:
    watcher = controller(act=False)
    feed(watcher, falling()[:100])
    decision = watcher.observe(100, 1.5, 1e-2, math.inf)
    assert decision is not None and decision.code == "ETA001"
    assert decision.numbers == {"loss": 1.5, "grad": math.inf}
    assert "the gradient's norm is inf at a loss of 1.5" in str(decision)


def test_under_a_scaler_the_twenty_first_in_a_row_is_told() -> None:
    watcher = controller(act=False, run={"scaled": True})
    feed(watcher, falling()[:100])
    assert [watcher.observe(100, 1.5, 1e-2, math.inf) is None for _ in range(21)] == [True] * 20 + [False]


def test_large_numbers_are_numbers() -> None:
    assert feed(controller(), [1e30 * loss for loss in falling()], grad=1e30) == []
