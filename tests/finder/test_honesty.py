"""What a race must not claim, and what it must still find: noise, unknown starts, bounds, budgets in time."""

import time
from functools import partial

import numpy as np
import pytest
import torch

import etascope as eta


def basin(lr, steps, seed, top=5.0):
    """Best at 30 / steps; far above it the loss ends high, but finite; a start is not told."""
    if steps == 0:
        raise RuntimeError("nothing to train")
    x = np.log10(lr * steps / 30)
    noise = 1e-3 * np.random.default_rng([seed, steps, int(lr * 1e9)]).standard_normal()
    return float(min(0.3 + 0.5 * x * x, 2.3 if x < 0 else top) + noise)


def noise(lr, steps, seed):
    if steps == 0:
        return 1.0
    return 1.0 + 0.01 * np.random.default_rng([seed, steps, int(lr * 1e12) % 2**31]).standard_normal()


@pytest.mark.parametrize("seed", range(6))
def test_noise_alone_is_no_answer(seed):
    with pytest.raises(eta.NoAnswer, match="noise is larger than the effect"):
        eta.find(noise, horizon=2000, seed=seed)


def test_no_gradient_is_no_answer_though_every_seed_starts_elsewhere():
    x = torch.randn(64, 4)
    task = eta.Task(
        model=lambda: torch.nn.Linear(4, 2),
        loss=lambda model, batch: model(batch).square().mean().detach() + 0 * model(batch).sum(),
        optimizer=torch.optim.SGD,
        train=[x],
        val=[x],
        horizon=200,
    )
    with pytest.raises(eta.NoAnswer, match="flat"):
        eta.find(task)


@pytest.mark.parametrize("top", [5.0, 50.0])
def test_an_unknown_start_does_not_hide_the_basin_behind_what_blew_up(top):
    found = eta.find(partial(basin, top=top), horizon=2000, name="basin")
    assert found.interval[0] <= 30 / 2000 <= found.interval[1]
    assert found.init_loss is None


def test_settings_stay_inside_the_bounds():
    found = eta.find(basin, horizon=2000, init_loss=2.4, lr_min=0.0012346, lr_max=0.0666666)
    lrs = [lr for rung in found.rungs for lr in rung.lrs]
    assert min(lrs) >= 0.0012346
    assert max(lrs) <= 0.0666666


@pytest.mark.parametrize(("low", "high"), [(0.010146, 0.010149), (1e5, None), (None, 1e-11)])
def test_odd_bounds_are_no_crash(low, high):
    try:
        found = eta.find(basin, horizon=2000, init_loss=2.4, lr_min=low, lr_max=high)
    except eta.NoAnswer:
        return
    assert (low or 0) <= found.lr <= (high or np.inf)


def test_more_budget_is_not_worse():
    """With much evidence many lrs are surely in the zone; the answer is the best of them, not their lower end."""
    found = eta.find(basin, horizon=500, init_loss=2.4, budget=30.0)
    assert abs(np.log10(found.lr / (30 / 500))) < 0.1


def test_a_budget_in_time_is_kept_and_a_repeated_command_changes_nothing(tmp_path):
    slept = []

    def slow(lr, steps, seed):
        slept.append(2e-4 * steps)
        time.sleep(slept[-1])
        return basin(lr, max(steps, 1), seed)

    found = eta.find(slow, horizon=2000, budget="3s", out=tmp_path)
    assert 0.3 < sum(slept) <= 3.0  # what was asked for, not how long a busy machine took over it
    again = eta.find(slow, horizon=2000, budget="3s", out=tmp_path)
    assert [(r.steps, r.lrs) for r in again.rungs] == [(r.steps, r.lrs) for r in found.rungs]
    assert (again.lr, again.interval) == (found.lr, found.interval)
