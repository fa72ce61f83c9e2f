"""The running figures: robust, near what a slow twin says, the same after a round trip through JSON."""

from __future__ import annotations

import json
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etascope.watcher.signals import BLOCKS, Signals

from .runs import falling

finite = st.floats(-1e6, 1e6)


def folded(losses: list[float], horizon: int | None = 1000) -> Signals:
    signals = Signals(horizon)
    for step, loss in enumerate(losses):
        signals.fold(step, loss, 1e-3, 1.0 if step % 4 == 0 else None)
    return signals


def test_level_and_spread_of_normal_noise() -> None:
    rng = np.random.default_rng(0)
    signals = folded(list(map(float, 5 + 0.2 * rng.standard_normal(4000))), horizon=None)
    assert abs(signals.level - 5) < 0.1
    assert 0.7 * 0.2 < signals.spread < 1.3 * 0.2


def test_outliers_move_the_level_little() -> None:
    losses = falling(noise=0.05)
    spoilt = [loss + 3.0 if i % 97 == 50 else loss for i, loss in enumerate(losses)]
    clean, other = folded(losses), folded(spoilt)
    assert abs(clean.level - other.level) < 0.05


def test_a_loss_is_out_of_line_by_spread_and_by_drop() -> None:
    signals = folded([2.0 + 0.001 * (i % 2) for i in range(100)])
    assert not signals.is_out_of_line(2.1)  # a hundred spreads, and next to nothing of what there is to learn
    assert signals.is_out_of_line(2.5)
    assert all(map(signals.is_out_of_line, (math.nan, math.inf, -math.inf)))


def test_the_first_losses_are_never_out_of_line_unless_they_are_no_numbers() -> None:
    signals = folded([2.0] * 5)
    assert not signals.is_out_of_line(1e6)
    assert signals.is_out_of_line(math.nan)


def test_a_rise_of_the_mean_is_astray() -> None:
    signals = folded(falling())
    assert not signals.is_astray
    for step in range(8):
        signals.fold(1000 + step, 1.4, 1e-3)
    assert signals.is_astray


@given(st.integers(1, 3000))
def test_blocks_hold_every_observation_and_stay_few(count: int) -> None:
    signals = folded([1.0 + i for i in range(count)], horizon=200)
    assert len(signals.blocks) <= BLOCKS
    assert sum(b.count for b in signals.blocks) + signals.begun[0] == count
    steps = [b.step for b in signals.blocks]
    assert steps == sorted(set(steps))


def test_joined_blocks_keep_means_and_ends() -> None:
    losses = falling(6000)
    signals = folded(losses, horizon=200)
    at = 0
    for block in signals.blocks:
        part = losses[at : at + block.count]
        at += block.count
        assert math.isclose(block.loss, float(np.mean(part)), rel_tol=1e-9)
        assert (block.low, block.high, block.step) == (min(part), max(part), at)


@given(st.lists(finite, min_size=1, max_size=80), st.lists(finite, max_size=40))
def test_a_round_trip_through_json_changes_nothing(before: list[float], after: list[float]) -> None:
    one = folded(before)
    other = Signals.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))
    for step, loss in enumerate(after):
        assert one.is_out_of_line(loss) == other.is_out_of_line(loss)
        one.fold(step, loss, 1e-3)
        other.fold(step, loss, 1e-3)
    assert one.to_json() == other.to_json()


@given(st.lists(finite, min_size=30, max_size=60), st.floats(0.01, 100))
def test_what_is_out_of_line_does_not_depend_on_the_unit(losses: list[float], unit: float) -> None:
    one, other = folded(losses), folded([unit * loss for loss in losses])
    for loss in (-1e3, 0.0, 1.0, 50.0, 1e4, 1e9):
        if abs(loss - one.level - one.bar) > 1e-6 * (1 + abs(one.level) + one.bar):
            assert one.is_out_of_line(loss) == other.is_out_of_line(unit * loss)


def test_back_at_the_first_observation_the_losses_of_the_beginning_are_in_line() -> None:
    beginning = [3.2, 8.0, 4.5, 4.7, 6.4, 7.0, 4.6, 4.0, 4.1, 5.6]
    signals = folded([3.2])
    where = signals.where
    for step, loss in enumerate(beginning * 3, 1):
        signals.fold(step, loss, 1e-3)
    signals.go_back(where, 8.0)
    assert not any(map(signals.is_out_of_line, beginning[1:]))


def test_a_first_loss_that_was_low_by_chance_is_no_best_level() -> None:
    beginning = [3.2, 8.0, 4.5, 4.7, 6.4, 7.0, 4.6, 4.0, 4.1, 5.6]
    signals = Signals(300)
    for step, loss in enumerate(beginning * 4):
        signals.fold(step, loss, 1e-3)
        assert not signals.is_astray, step
