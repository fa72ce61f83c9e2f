"""timm's schedulers, imported: compared step by step with the living ones (float64, as they compute)."""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etascope.errors import ScheduleError
from etascope.integrations.imported import Imported
from etascope.integrations.timm import from_timm
from etascope.schedules import Schedule

STEPS = 1200
PROOF = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)
FILES = ("scheduler", "cosine_lr", "tanh_lr", "poly_lr", "step_lr", "multistep_lr", "plateau_lr", "wsd_lr")


@pytest.fixture(scope="module")
def timm() -> Iterator[dict[str, Any]]:
    """timm's scheduler classes by name, without timm itself: its __init__ imports torchvision."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs timm's files: pip install --no-deps timm")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "timm"}
    for name in before:
        del sys.modules[name]
    root = next(iter(spec.submodule_search_locations))
    for name, path in (("timm", root), ("timm.scheduler", f"{root}/scheduler")):
        stub = types.ModuleType(name)
        stub.__path__ = [path]
        sys.modules[name] = stub
    classes: dict[str, Any] = {}
    for file in FILES:
        if importlib.util.find_spec(f"timm.scheduler.{file}") is None:  # wsd_lr came with 1.0.28 or so
            continue
        module = importlib.import_module(f"timm.scheduler.{file}")
        classes |= {n: c for n, c in vars(module).items() if isinstance(c, type) and c.__module__ == module.__name__}
    yield classes
    for name in [name for name in sys.modules if name.partition(".")[0] == "timm"]:
        del sys.modules[name]
    sys.modules.update(before)


def optimizer(*lrs: float, **group: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr, **group} for lr in lrs], lr=lrs[0]
    )


def own(scheduler: Any, steps: int = STEPS, group: int = 0) -> np.ndarray[Any, Any]:
    """What timm sets at t = 0, 1, 2, …, by its public calls."""
    call = scheduler.step if scheduler.t_in_epochs else scheduler.step_update
    values = []
    for t in range(steps):
        call(t)
        values.append(scheduler.optimizer.param_groups[group]["lr"])
    return np.array(values)


def equal(imported: Imported, scheduler: Any, steps: int = STEPS, within: float = 1e-12) -> None:
    theirs = own(scheduler, steps)
    ours = imported.lr * imported.schedule.bind(2 * 10**9)(np.arange(steps))
    np.testing.assert_allclose(ours / imported.lr, theirs / imported.lr, rtol=0, atol=within)
    assert Schedule.parse(repr(imported.schedule)) == imported.schedule
    assert Schedule.from_json(imported.schedule.to_json()) == imported.schedule


warm = st.fixed_dictionaries(
    {
        "warmup_t": st.one_of(st.just(0), st.integers(1, 300)),
        "warmup_lr_init": st.floats(0, 2),
        "warmup_prefix": st.booleans(),
        "t_in_epochs": st.booleans(),
    }
)
cycles = st.fixed_dictionaries(
    {
        "t_initial": st.one_of(st.integers(1, 12), st.integers(1, 900)),
        "lr_min": st.one_of(st.just(0.0), st.floats(0, 1.5)),
        "cycle_mul": st.one_of(st.just(1.0), st.just(1), st.sampled_from([2, 3, 10, 1.1, 1.5]), st.floats(1.01, 4)),
        "cycle_decay": st.floats(0.1, 1.2),
        "cycle_limit": st.one_of(st.just(1), st.integers(0, 6)),
    }
)
lrs = st.floats(1e-4, 3)


@PROOF
@given(warm, cycles, lrs)
def test_cosine(timm: dict[str, Any], warm: dict[str, Any], cycle: dict[str, Any], lr: float) -> None:
    scheduler = timm["CosineLRScheduler"](optimizer(lr), **scaled(warm, lr), **scaled(cycle, lr))
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(warm, cycles, lrs, st.floats(0.3, 3))
def test_cosine_with_k_decay(
    timm: dict[str, Any], warm: dict[str, Any], cycle: dict[str, Any], lr: float, k: float
) -> None:
    options = {**warm, "warmup_prefix": True}, {**cycle, "cycle_mul": math.floor(cycle["cycle_mul"])}
    scheduler = timm["CosineLRScheduler"](optimizer(lr), **scaled(options[0], lr), **scaled(options[1], lr), k_decay=k)
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(warm, cycles, lrs, st.floats(-9, -1), st.floats(0, 6))
def test_tanh(
    timm: dict[str, Any], warm: dict[str, Any], cycle: dict[str, Any], lr: float, lb: float, ub: float
) -> None:
    scheduler = timm["TanhLRScheduler"](optimizer(lr), **scaled(warm, lr), **scaled(cycle, lr), lb=lb, ub=ub)
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(warm, cycles, lrs, st.one_of(st.just(1.0), st.floats(0.2, 3)), st.one_of(st.just(1.0), st.floats(0.3, 3)))
def test_poly(
    timm: dict[str, Any], warm: dict[str, Any], cycle: dict[str, Any], lr: float, power: float, k: float
) -> None:
    warm = {**warm, "warmup_prefix": warm["warmup_prefix"] or k != 1}
    cycle = {**cycle, "cycle_mul": cycle["cycle_mul"] if power == k == 1 else math.floor(cycle["cycle_mul"])}
    scheduler = timm["PolyLRScheduler"](optimizer(lr), **scaled(warm, lr), **scaled(cycle, lr), power=power, k_decay=k)
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(warm, st.integers(1, 400), st.floats(0, 1), lrs)
def test_step(timm: dict[str, Any], warm: dict[str, Any], every: int, rate: float, lr: float) -> None:
    scheduler = timm["StepLRScheduler"](optimizer(lr), every, rate, **scaled(warm, lr))
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(warm, st.lists(st.integers(0, 1300), max_size=6).map(sorted), st.floats(0, 1), lrs)
def test_multistep(timm: dict[str, Any], warm: dict[str, Any], at: list[int], rate: float, lr: float) -> None:
    scheduler = timm["MultiStepLRScheduler"](optimizer(lr), at, rate, **scaled(warm, lr))
    equal(from_timm(scheduler), scheduler)


@PROOF
@given(
    warm,
    st.integers(1, 900),
    st.integers(1, 900),
    lrs,
    st.sampled_from(["constant", "rsqrt", "power"]),
    st.sampled_from(["linear", "1-sqrt", "cosine", "power", "own"]),
    st.floats(0.2, 3),
    st.one_of(st.just(0.0), st.floats(0, 1.5)),
)
def test_wsd(
    timm: dict[str, Any],
    warm: dict[str, Any],
    stable: int,
    down: int,
    lr: float,
    stable_fn: str,
    decay_fn: str,
    power: float,
    low: float,
) -> None:
    if "WSDLRScheduler" not in timm:
        pytest.skip("this timm has no WSDLRScheduler")
    if stable_fn != "constant":
        low, decay_fn = 0.0, "linear" if decay_fn == "own" else decay_fn
    del warm["warmup_prefix"]
    scheduler = timm["WSDLRScheduler"](
        optimizer(lr),
        stable + down,
        down,
        lr_min=low * lr,
        stable_fn=stable_fn,
        stable_timescale=stable,
        stable_power=1.0 if power > 1 else 0.5,
        decay_fn=(lambda q: 1 - q**3) if decay_fn == "own" else decay_fn,
        decay_power=power,
        **scaled(warm, lr),
    )
    imported = from_timm(scheduler)
    np.testing.assert_allclose(
        imported.schedule.bind(2 * 10**9)(np.arange(STEPS)), own(scheduler) / imported.lr, rtol=0, atol=1e-12
    )


def scaled(options: dict[str, Any], lr: float) -> dict[str, Any]:
    """The lrs among the options in multiples of the peak."""
    return {name: value * lr if name in ("lr_min", "warmup_lr_init") else value for name, value in options.items()}


# ------------------------------------------------------------------------------ conformance cases of schedules.md


def near(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def values(imported: Imported, t: Any) -> Any:
    return imported.lr * imported.schedule.bind(10**4)(t)


def test_case_2_restarts(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(0.5), 1, cycle_mul=2, cycle_limit=9)
    near(values(from_timm(s), range(9)), [0.5, 0.5, 0.25, 0.5, 0.426777, 0.25, 0.0732233, 0.5, 0.480970])


def test_case_3_the_restart_that_a_rounded_logarithm_misses(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(1.0), 1, cycle_mul=3, cycle_limit=9)
    imported = from_timm(s)
    assert own(s, 122)[121] == pytest.approx(0.0, abs=1e-15) == imported.schedule.bind(10**4)(121)
    near(values(imported, [40, 120, 122]), own(s, 123)[[40, 120, 122]])
    assert "piecewise([121, 122" in repr(imported.schedule)


@pytest.mark.parametrize(("t_initial", "mul"), [(1, 3), (1, 10), (2, 3), (1, 1.1), (10, 1.1), (5, 7), (100, 1.5)])
@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("name", ["CosineLRScheduler", "TanhLRScheduler"])
def test_rounded_logarithms_for_ten_thousand_steps(
    timm: dict[str, Any], name: str, t_initial: int, mul: float, prefix: bool
) -> None:
    limit = 40 if mul < 1.5 else 7
    for warmup in (0, 3):
        options = {"warmup_prefix": prefix, "warmup_t": warmup, "cycle_decay": 0.9, "lr_min": 0.1}
        s = timm[name](optimizer(1.0), t_initial, cycle_mul=mul, cycle_limit=limit, **options)
        equal(from_timm(s), s, steps=10_000)


def test_case_6_warmup_inside(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(1.0), 10, warmup_t=5)
    imported = from_timm(s)
    near(values(imported, [3, 4, 5, 10, 11]), [0.6, 0.8, 0.5, 0, 0])
    assert repr(imported.schedule) == "warmup(5, start=0.0) >> wave(10, length=5, phase=0.25) >> constant(value=0.0)"


def test_case_6_warmup_in_front(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(1.0), 10, warmup_t=5, warmup_prefix=True, lr_min=0.1)
    imported = from_timm(s)
    assert repr(imported.schedule) == "warmup(5, start=0.0) >> cosine(10, to=0.1) >> constant(value=0.1)"
    near(values(imported, [4, 5, 10, 15, 99]), [0.8, 1, 0.55, 0.1, 0.1])


def test_case_7_milestones_are_one_earlier(timm: dict[str, Any]) -> None:
    s = timm["MultiStepLRScheduler"](optimizer(1.0), [3, 6], 0.1)
    near(values(from_timm(s), range(6)), [1, 1, 0.1, 0.1, 0.1, 0.01])


# ------------------------------------------------------------------------------ groups, and what is refused


def test_a_group_has_its_own_lr_and_scale(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(1.0, 0.2, lr_scale=0.5), 100, warmup_t=7, lr_min=0.01)
    imported = from_timm(s, group=1)
    assert imported.lr == 0.1
    theirs = own(s, 150, group=1)
    np.testing.assert_allclose(imported.lr * imported.schedule.bind(200)(np.arange(150)), theirs, rtol=0, atol=1e-15)


def test_a_schedule_without_an_end_that_matters_binds_to_anything(timm: dict[str, Any]) -> None:
    s = timm["CosineLRScheduler"](optimizer(1.0), 10, cycle_mul=2, cycle_limit=60)
    assert from_timm(s).schedule.bind(20)(10) == 1
    with pytest.raises(ScheduleError, match="bind to 100 steps"):
        from_timm(timm["CosineLRScheduler"](optimizer(1.0), 100)).schedule.bind(50)


def cosine(**options: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda timm: timm["CosineLRScheduler"](optimizer(1.0), 10, **options)


class Newer:
    """A cosine of a timm that changed its formula."""

    def _get_lr(self, t: int) -> list[float]:
        return [1.0 if t < 40 else 0.5]


@pytest.mark.parametrize(
    ("make", "cause", "next_move"),
    [
        (cosine(noise_range_t=5), "noise", r"noise\(0.1"),
        (cosine(cycle_mul=0.5, cycle_limit=3), "shrink", "at least 1"),
        (cosine(warmup_t=5, k_decay=2.0), "middle of a cycle", "warmup_prefix=True"),
        (cosine(k_decay=2.0, cycle_mul=1.3, cycle_limit=3), "middle of a cycle", "whole"),
        (cosine(k_decay=2.0, cycle_limit=500), "cycle_limit=500", "at most 200"),
        (cosine(warmup_t=2.5), "2.5", "Round"),
        (lambda timm: timm["StepLRScheduler"](optimizer(1.0), 2.5, 0.1), "2.5", "Round"),
        (lambda timm: timm["MultiStepLRScheduler"](optimizer(1.0), [6, 3], 0.1), "not in order", "first to the last"),
        (lambda timm: timm["PlateauLRScheduler"](optimizer(1.0)), "metric", r"eta\.plateau"),
        (lambda timm: timm["CosineLRScheduler"](optimizer(0.0), 10), "no peak", "above 0"),
        (lambda timm: type("Mine", (timm["CosineLRScheduler"],), {})(optimizer(1.0), 10), "Mine", "as_schedule"),
        (lambda timm: torch.optim.lr_scheduler.ConstantLR(optimizer(1.0)), "ConstantLR", "as_schedule"),
        (
            lambda timm: timm["WSDLRScheduler"](optimizer(1.0), 10, 5, decay_fn="exp"),
            "pulled down",
            "1-sqrt",
        ),
        (
            lambda timm: timm["WSDLRScheduler"](
                optimizer(1.0), 10, 5, stable_fn="rsqrt", stable_timescale=3, lr_min=0.1
            ),
            "no product",
            "lr_min=0",
        ),
    ],
)
def test_refused(timm: dict[str, Any], make: Callable[[dict[str, Any]], Any], cause: str, next_move: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(timm)
    with pytest.raises(ScheduleError, match=cause) as error:
        from_timm(scheduler)
    assert re.search(next_move, error.value.next_move)


def test_a_timm_with_another_formula_is_noticed(timm: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm["CosineLRScheduler"], "_get_lr", Newer._get_lr)
    with pytest.raises(ScheduleError, match="another value"):
        from_timm(timm["CosineLRScheduler"](optimizer(1.0), 100))


def test_there_is_no_such_group(timm: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError, match="group is 1"):
        from_timm(timm["CosineLRScheduler"](optimizer(1.0), 100), group=1)
