"""Each name of transformers' get_scheduler, against transformers itself, step by step."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etascope.errors import ScheduleError
from etascope.integrations.torch_schedulers import from_torch
from etascope.integrations.transformers import from_lambda, from_transformers
from etascope.schedules import Foreign, Schedule, constant, linear, restarts, warmup, wave

optimization = pytest.importorskip("transformers.optimization", reason="needs transformers: pip install transformers")

RUN = 1200
STEPS = np.arange(RUN)
many = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much])


def theirs(name: str, training: int | None, up: int | None, lr: float = 1.0, **specific: Any) -> Any:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=lr)
    return optimization.get_scheduler(name, optimizer, up, training, specific or None)


def check(name: str, training: int, up: int, lr: float = 1.0, **specific: Any) -> Schedule:
    """Import by name and from the living object; both are transformers' values, in the run and past its end."""
    living = theirs(name, training, up, lr, **specific)
    expected = np.array([living.lr_lambdas[0](t) for t in range(RUN)])
    schedule, peak = from_transformers(name, training, up, lr=lr, **specific)
    assert peak == lr
    horizon = max(RUN, training + up + specific.get("num_stable_steps", 0))
    assert np.abs(schedule.bind(horizon)(STEPS) - expected).max() <= 1e-12
    assert Schedule.parse(repr(schedule)) == schedule
    assert Schedule.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule
    assert from_torch(living) == (schedule, peak)
    return schedule


warmups = st.one_of(st.just(0), st.just(1), st.integers(0, 400))
runs = st.one_of(st.integers(1, 900), st.integers(300, 900))
cycles = st.one_of(st.just(0.5), st.integers(1, 8), st.floats(0.0, 6.0))
floors = st.one_of(st.just(0.0), st.floats(0, 1))


@many
@given(runs, warmups)
def test_linear(training: int, up: int) -> None:
    check("linear", training, up)


@many
@given(runs, warmups, cycles)
def test_cosine(training: int, up: int, num_cycles: float) -> None:
    check("cosine", training, up, num_cycles=num_cycles)


@many
@given(runs, warmups, st.one_of(st.integers(1, 20), st.floats(0.1, 9)))
def test_cosine_with_restarts(training: int, up: int, num_cycles: float) -> None:
    check("cosine_with_restarts", training, up, num_cycles=num_cycles)


@many
@given(runs, warmups, st.floats(1e-6, 1), st.floats(1e-9, 0.99), st.floats(0.1, 5))
def test_polynomial(training: int, up: int, lr: float, end: float, power: float) -> None:
    if up != training:
        check("polynomial", training, up, lr=lr, lr_end=end * lr, power=power)


@many
@given(warmups, st.floats(1e-6, 1))
def test_constant_with_and_without_warmup(up: int, lr: float) -> None:
    check("constant_with_warmup", 100, up, lr=lr)
    assert check("constant", 100, up, lr=lr) == constant()


@many
@given(warmups, st.one_of(st.none(), st.integers(1, 5000)))
def test_inverse_sqrt(up: int, timescale: int | None) -> None:
    check("inverse_sqrt", 100, up, **({} if timescale is None else {"timescale": timescale}))


@many
@given(runs, warmups, cycles, floors)
def test_cosine_with_min_lr(training: int, up: int, num_cycles: float, floor: float) -> None:
    check("cosine_with_min_lr", training, up, num_cycles=num_cycles, min_lr_rate=floor)
    check("cosine_with_min_lr", training, up, lr=0.25, num_cycles=num_cycles, min_lr=floor / 4)


@many
@given(runs, warmups, cycles, floors, st.one_of(st.none(), st.floats(0, 1)))
def test_cosine_warmup_with_min_lr(training: int, up: int, num_cycles: float, floor: float, low: float | None) -> None:
    specific = {} if low is None else {"warmup_lr_rate": low}
    check("cosine_warmup_with_min_lr", training, up, num_cycles=num_cycles, min_lr_rate=floor, **specific)


kinds = st.sampled_from(["linear", "cosine", "1-sqrt"])


@many
@given(warmups, st.integers(0, 300), st.integers(0, 300), kinds, kinds, floors, cycles)
def test_warmup_stable_decay(
    up: int, stable: int, down: int, rise: str, fall: str, floor: float, num_cycles: float
) -> None:
    specific = {"warmup_type": rise, "decay_type": fall, "min_lr_ratio": floor, "num_cycles": num_cycles}
    run = check("warmup_stable_decay", up + stable + down, up, num_decay_steps=down, **specific)
    same = from_transformers("warmup_stable_decay", None, up, num_decay_steps=down, num_stable_steps=stable, **specific)
    assert same.schedule == run


# ------------------------------------------------------------------------------------------- figures


def test_the_cosine_rises_again_past_the_end() -> None:
    schedule = check("cosine", 6, 2)
    assert schedule == warmup(2, start=0) >> wave(4)
    #        warmup  cosine ................  past the end
    #   step 0    1  2        3     4        5  6        7       10
    figures = [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0, 0.146447, 1]
    assert schedule.bind(20)([0, 1, 2, 3, 4, 5, 6, 7, 10]) == pytest.approx(figures, abs=5e-7)
    assert "rebound" in [remark.code for remark in schedule.bind(10).lint()]


def test_warmup_stable_decay_has_its_figures() -> None:
    schedule = check(
        "warmup_stable_decay", 9, 2, num_stable_steps=3, num_decay_steps=4, decay_type="1-sqrt", min_lr_ratio=0.1
    )
    figures = [0.1, 0.55, 1, 1, 1, 1, 0.55, 0.363604, 0.220577, 0.1, 0.1]
    assert schedule.bind(20)(range(11)) == pytest.approx(figures, abs=5e-7)


# ------------------------------------------------------------------------------------------- refused, and by name


def test_every_name_of_transformers_is_known() -> None:
    for kind in optimization.SchedulerType:
        try:
            from_transformers(kind, 100, 5)
        except ScheduleError as error:
            assert "is no name" not in error.cause


@pytest.mark.parametrize(("name", "native"), [("reduce_lr_on_plateau", "eta.plateau("), ("greedy", "eta.greedy(")])
def test_what_follows_a_metric_is_refused(name: str, native: str) -> None:
    with pytest.raises(ScheduleError, match="metric") as error:
        from_transformers(name, 100)
    assert native in error.value.next_move


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "cosin"}, "no name"),
        ({"name": "cosine", "num_training_steps": None}, "needs num_training_steps"),
        ({"name": "cosine", "num_cycle": 2}, "takes no num_cycle"),
        ({"name": "cosine", "num_warmup_steps": 2.5}, "whole numbers"),
        ({"name": "cosine", "num_warmup_steps": -1}, "from 0 on"),
        ({"name": "linear", "lr": 0.0}, "lr is 0"),
        ({"name": "polynomial"}, "of which peak"),
        ({"name": "polynomial", "lr": 1e-8}, "not below lr"),
        ({"name": "polynomial", "lr": 1.0, "num_warmup_steps": 100}, "divides by zero"),
        ({"name": "cosine_with_min_lr"}, "takes one of"),
        ({"name": "cosine_with_min_lr", "min_lr": 0.1}, "of which peak"),
        ({"name": "cosine_with_min_lr", "min_lr_rate": -0.1}, "below 0"),
        ({"name": "cosine_with_restarts", "num_cycles": -1}, "num_cycles is -1"),
        ({"name": "warmup_stable_decay"}, "needs num_decay_steps"),
        ({"name": "warmup_stable_decay", "num_decay_steps": 200}, "longer than the run"),
        ({"name": "warmup_stable_decay", "num_decay_steps": 2, "decay_type": "sqrt"}, "no type"),
        ({"name": "warmup_stable_decay", "num_decay_steps": 2, "num_training_steps": None}, "how long"),
        ({"name": "inverse_sqrt", "timescale": 0}, "from 1 on"),
    ],
)
def test_bad_arguments_say_what_and_what_next(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ScheduleError, match=said) as error:
        from_transformers(**{"num_training_steps": 100, **arguments})
    assert error.value.next_move


def test_a_restart_that_their_rounding_misses_is_refused() -> None:
    living = theirs("cosine_with_restarts", 490, 0, num_cycles=49)
    assert living.lr_lambdas[0](10) < 1e-12 < 0.9 < restarts(cycles=49).bind(490)(10)
    with pytest.raises(ScheduleError, match=r"At step 10 .* misses a restart") as error:
        from_transformers("cosine_with_restarts", 490, num_cycles=49)
    assert "restarts(cycles=49)" in error.value.next_move
    assert isinstance(from_torch(living).schedule, Foreign)  # the function itself still has every value


def test_a_function_of_another_version_stays_a_function() -> None:
    def _get_linear_schedule_with_warmup_lr_lambda(step: int, *, num_warmup_steps: int, **_: int) -> float:
        return 0.5

    changed = partial(_get_linear_schedule_with_warmup_lr_lambda, num_warmup_steps=3, num_training_steps=9)
    assert from_lambda(changed) is None  # not theirs
    _get_linear_schedule_with_warmup_lr_lambda.__module__ = "transformers.optimization"
    assert from_lambda(changed) is None  # theirs, but with other values
    assert from_lambda(partial(changed, num_cycles=2)) is None  # with other arguments
    assert from_lambda(lambda step: 1.0) is None


def test_it_needs_no_transformers_and_no_torch() -> None:
    code = (
        "import sys; sys.modules['transformers'] = sys.modules['torch'] = None\n"
        "from etascope.integrations.transformers import from_transformers as f\n"
        "import etascope.integrations.torch_schedulers\n"
        "print(f('linear', 10, 2).schedule)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr(warmup(2, start=0) >> linear(8)) + " >> hold()"
