"""Each torch scheduler against itself, step by step, past its end; what is refused, and why."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from torch.optim.swa_utils import SWALR

import etascope.integrations.torch_schedulers as torch_schedulers
from etascope.errors import ScheduleError
from etascope.integrations.building import fixed
from etascope.integrations.imported import Imported
from etascope.integrations.torch_replay import replay
from etascope.integrations.torch_schedulers import from_torch
from etascope.schedules import Schedule, constant, cosine, exponential, hold, linear, one_cycle, restarts, warmup, wave

STEPS = 1200
TOLERANCE = 1e-12
many = settings(max_examples=25, deadline=None, derandomize=True)

Build: TypeAlias = Callable[[torch.optim.Optimizer], Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "lr_scheduler.step() before optimizer.step()"
        yield


def sgd(*lrs: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.zeros(1)], "lr": lr} for lr in lrs or (0.1,)]
    return torch.optim.SGD(groups, lr=1.0, momentum=0.9)


def walk(scheduler: Any, steps: int = STEPS, group: int = 0, key: str = "lr") -> list[float]:
    """What torch has at steps 0 … steps − 1; fewer where it raises."""
    values: list[float] = []
    while len(values) < steps:
        now = scheduler.optimizer.param_groups[group]
        values.append(float(now["betas"][0] if key == "beta1" else now[key]))
        try:
            scheduler.step()
        except (ValueError, ArithmeticError):
            break
    return values


def difference(imported: Imported, theirs: list[float]) -> float:
    """The largest, as a part of the largest value."""
    schedule, lr = imported
    ours = lr * schedule.bind(max(STEPS, fixed(schedule)))(np.arange(len(theirs)))
    return float(np.abs(ours - theirs).max() / max(abs(lr), np.abs(theirs).max()))


def check(build: Build, lr: float = 0.1, key: str = "lr", tolerance: float = TOLERANCE) -> Schedule:
    """Import a scheduler on its way; it is left as it was, and the schedule is the whole run's."""
    optimizer = sgd(lr)
    scheduler = build(optimizer)
    imported = from_torch(scheduler, key=key)
    theirs = walk(scheduler, key=key)
    assert difference(imported, theirs) <= tolerance
    schedule = imported.schedule
    if "as_schedule" not in repr(schedule):
        assert Schedule.parse(repr(schedule)) == schedule
        assert Schedule.from_json(json.loads(json.dumps(schedule.to_json()))) == schedule
        late = from_torch(scheduler, key=key)  # far on its way by now
        assert late == imported
    return schedule


lrs = st.floats(1e-6, 10)
lengths = st.one_of(st.integers(1, 12), st.integers(1, 900))
factors = st.one_of(st.just(0.1), st.floats(0.05, 1))
floors = st.one_of(st.just(0.0), st.floats(0, 1))


# ------------------------------------------------------------------------------------ every class, at random


@many
@given(lrs, st.floats(0.5, 2), st.integers(1, 100))
def test_lambda(lr: float, a: float, b: int) -> None:
    check(lambda o: LambdaLR(o, lambda t: a / (1 + t % b)), lr)


@many
@given(lrs, st.floats(0.99, 1.003), st.integers(1, 100))
def test_multiplicative(lr: float, a: float, b: int) -> None:
    check(lambda o: MultiplicativeLR(o, lambda t: a if t % b else 1 / a), lr)


@many
@given(lrs, st.one_of(lengths, st.just(2.5)), st.one_of(factors, st.just(0.0), st.floats(1, 1.5)))
def test_step(lr: float, size: float, gamma: float) -> None:
    check(lambda o: StepLR(o, size, gamma), lr)  # type: ignore[arg-type]


@many
@given(lrs, st.lists(st.one_of(st.integers(0, 900), st.integers(0, 5)), max_size=8), factors)
def test_multistep(lr: float, at: list[int], gamma: float) -> None:
    check(lambda o: MultiStepLR(o, at, gamma), lr)


@many
@given(lrs, st.floats(1e-4, 1), st.one_of(st.just(0), st.just(2.5), lengths))
def test_constant(lr: float, factor: float, total: float) -> None:
    check(lambda o: ConstantLR(o, factor, total), lr)  # type: ignore[arg-type]


@many
@given(lrs, st.floats(1e-5, 1), st.one_of(st.just(1.0), st.floats(0, 1)), st.one_of(st.just(0), st.just(2.5), lengths))
def test_linear(lr: float, start: float, end: float, total: float) -> None:
    check(lambda o: LinearLR(o, start, end, total), lr)  # type: ignore[arg-type]


@many
@given(lrs, st.one_of(st.just(1.0), st.floats(0.5, 1), st.floats(1, 1.01)))
def test_exponential(lr: float, gamma: float) -> None:
    check(lambda o: ExponentialLR(o, gamma), lr)


@many
@given(lrs, st.one_of(st.just(0), lengths), st.one_of(st.just(1.0), st.just(0.0), st.floats(0.1, 5)))
def test_polynomial(lr: float, total: int, power: float) -> None:
    check(lambda o: PolynomialLR(o, total, power), lr)


def own_rounding(t_max: int) -> float:
    """Torch leaves a valley by 1 − cos(π/T), which has T² times fewer digits than 1; its rise stays off by that."""
    return max(TOLERANCE, 2e-16 * t_max**2)


@many
@given(lrs, lengths, floors)
def test_cosine(lr: float, t_max: int, floor: float) -> None:
    build = partial(CosineAnnealingLR, T_max=t_max, eta_min=floor * lr)
    check(build, lr, tolerance=own_rounding(t_max))
    scheduler = build(sgd(lr))
    imported = from_torch(scheduler)
    assert difference(imported, walk(scheduler, t_max + 1)) <= TOLERANCE  # until the valley
    closed_form = []
    for scheduler.last_epoch in range(STEPS):
        closed_form += scheduler._get_closed_form_lr()
    assert difference(imported, closed_form) <= TOLERANCE  # and behind it, but for torch's rounding


@many
@given(lrs, st.one_of(st.integers(1, 5), lengths), st.integers(1, 10), floors)
def test_warm_restarts(lr: float, first: int, growth: int, floor: float) -> None:
    check(lambda o: CosineAnnealingWarmRestarts(o, first, growth, floor * lr), lr)


@many
@given(lrs, floors, lengths, st.one_of(st.none(), st.just(0), lengths), st.floats(0.99, 1), st.floats(0.1, 1))
def test_cyclic(top: float, low: float, up: int, down: int | None, gamma: float, momentum: float) -> None:
    for mode in ("triangular", "triangular2", "exp_range"):
        build = partial(
            CyclicLR,
            base_lr=low * top,
            max_lr=top,
            step_size_up=up,
            step_size_down=down,
            mode=mode,
            gamma=gamma,
            base_momentum=0.9 * momentum,
            max_momentum=momentum,
        )
        check(build)
        check(build, key="momentum")


@many
@given(floors, lengths, lengths, st.sampled_from(["cycle", "iterations"]))
def test_cyclic_with_a_function(low: float, up: int, down: int, mode: str) -> None:
    def build(o: torch.optim.Optimizer) -> CyclicLR:
        return CyclicLR(o, low, 1.0, up, down, scale_fn=lambda x: 1 / (1 + 0.1 * x), scale_mode=mode)  # type: ignore[arg-type]

    check(build)
    check(build, key="momentum")


pcts = st.one_of(st.sampled_from([0.0, 0.3, 1.0]), st.floats(0, 1))


@many
@given(lrs, lengths, pcts, st.sampled_from(["cos", "linear"]), st.booleans(), st.floats(1, 100), st.floats(1, 1e5))
def test_one_cycle(top: float, n: int, pct: float, by: str, three: bool, div: float, final: float) -> None:
    pct = pct / 2 if three else pct

    def build(o: torch.optim.Optimizer) -> OneCycleLR:
        return OneCycleLR(
            o, top, n, pct_start=pct, anneal_strategy=by, div_factor=div, final_div_factor=final, three_phase=three
        )  # type: ignore[arg-type]

    try:
        build(sgd())
    except ZeroDivisionError:
        return  # torch has no such scheduler
    check(build)
    check(build, key="momentum")


@many
@given(lrs, st.floats(0, 3), st.integers(0, 900), st.sampled_from(["cos", "linear"]))
def test_swa(lr: float, to: float, n: int, by: str) -> None:
    check(lambda o: SWALR(o, to * lr, n, by), lr)  # type: ignore[arg-type]


small = st.integers(1, 60)
multipliers: st.SearchStrategy[Build] = st.one_of(
    st.builds(lambda n, g: partial(StepLR, step_size=n, gamma=g), small, factors),
    st.builds(lambda at, g: partial(MultiStepLR, milestones=at, gamma=g), st.lists(st.integers(0, 60)), factors),
    st.builds(lambda f, n: partial(ConstantLR, factor=f, total_iters=n), st.floats(0.1, 1), small),
    st.builds(
        lambda s, e, n: partial(LinearLR, start_factor=s, end_factor=e, total_iters=n),
        st.floats(0.01, 1),
        st.one_of(st.just(1.0), floors),
        small,
    ),
    st.builds(lambda g: partial(ExponentialLR, gamma=g), st.floats(0.9, 1.001)),
    st.builds(lambda n, p: partial(PolynomialLR, total_iters=n, power=p), small, st.floats(0.5, 3)),
    st.builds(lambda a: partial(MultiplicativeLR, lr_lambda=lambda t: a), st.floats(0.95, 1.001)),
)
setters: st.SearchStrategy[Build] = st.one_of(
    st.builds(lambda n, low: partial(CosineAnnealingLR, T_max=n, eta_min=low), st.integers(2, 60), floors),
    st.builds(lambda n, m: partial(CosineAnnealingWarmRestarts, T_0=n, T_mult=m), small, st.integers(1, 3)),
    st.builds(lambda n: partial(LambdaLR, lr_lambda=lambda t: 1 / (1 + t / n)), small),
    st.builds(lambda n: partial(CyclicLR, base_lr=0.1, max_lr=1.0, step_size_up=n, cycle_momentum=False), small),
    st.builds(lambda n: partial(OneCycleLR, max_lr=1.0, total_steps=n, cycle_momentum=False), st.integers(1300, 1400)),
    st.builds(lambda to, n: partial(SWALR, swa_lr=to, anneal_epochs=n), floors, small),
)
simple = st.one_of(multipliers, setters)


def sequence(parts: list[Build], lengths: list[int]) -> Build:
    """The parts for so many steps each, the last one for the rest."""
    milestones = np.cumsum(lengths[: len(parts) - 1]).tolist()
    return lambda o: SequentialLR(o, [part(o) for part in parts], milestones)


def chain(parts: list[Build]) -> Build:
    return lambda o: ChainedScheduler([part(o) for part in parts], o)


def sequences(first: st.SearchStrategy[Build], least: int = 0) -> st.SearchStrategy[Build]:
    return st.builds(
        lambda head, tail, lengths: sequence([head, *tail], lengths),
        first,
        st.lists(simple, max_size=3),
        st.lists(st.integers(least, 80), min_size=3, max_size=3),
    )


def imported_or_refused(build: Build) -> bool:
    """Compare with torch; a refusal is of the original, never because what was read proved wrong."""
    scheduler = build(sgd())
    try:
        imported = from_torch(scheduler)
    except ScheduleError as error:
        assert "what was read from it" not in error.cause, error.cause
        return False
    assert difference(imported, walk(build(sgd()))) <= TOLERANCE
    return True


@settings(many, max_examples=100)
@given(sequences(simple))
def test_sequence(build: Build) -> None:
    assert imported_or_refused(build)


@settings(many, max_examples=100)
@given(sequences(st.one_of(sequences(simple), sequences(sequences(simple)), st.lists(simple, min_size=1).map(chain))))
def test_sequence_that_begins_with_a_composed_one(build: Build) -> None:
    imported_or_refused(build)


@settings(many, max_examples=50)
@given(st.lists(multipliers, min_size=1, max_size=4))
def test_chain(parts: list[Build]) -> None:
    assert imported_or_refused(chain(parts))
    assert imported_or_refused(chain([chain(parts), StepLR_7]))


StepLR_7 = partial(StepLR, step_size=7)


@settings(many, max_examples=50)
@given(st.lists(multipliers, max_size=2), small, st.booleans())
def test_chain_with_a_cosine(parts: list[Build], t_max: int, before: bool) -> None:
    cosine_ = partial(CosineAnnealingLR, T_max=t_max)
    imported_or_refused(chain([cosine_, *parts] if before else [*parts, cosine_]))


@many
@given(st.floats(0.01, 1), st.one_of(st.just(1.0), st.floats(0.1, 1)), st.integers(1, 50), st.integers(50, 60))
def test_warmup_times_cosine(start: float, end: float, n: int, t_max: int) -> None:
    assert imported_or_refused(chain([partial(LinearLR, start_factor=start, end_factor=end, total_iters=n),
                                      partial(CosineAnnealingLR, T_max=t_max)]))  # fmt: skip


@settings(many, max_examples=100)
@given(st.one_of(simple, sequences(simple), st.lists(multipliers, min_size=1).map(chain)), st.integers(0, 100))
def test_a_replay_is_the_run(build: Build, done: int) -> None:
    scheduler = build(sgd())
    walk(scheduler, done)
    assert replay(scheduler, 0, "lr", 200) == walk(build(sgd()), 200)


# ------------------------------------------------------------------------------------ figures of schedules.md


def values(build: Build, lr: float, steps: Any) -> list[float]:
    """What the import has there, which is what torch has."""
    schedule, peak = from_torch(build(sgd(lr)))
    horizon = max(STEPS, fixed(schedule))
    return (peak * schedule.bind(horizon)(list(steps))).tolist()


def test_past_the_end_the_cosine_rises_again() -> None:
    build = partial(CosineAnnealingLR, T_max=5)
    figures = [0.5, 0.452254, 0.327254, 0.172746, 0.0477458, 0, 0.5]
    assert values(build, 0.5, [0, 1, 2, 3, 4, 5, 10]) == pytest.approx(figures, abs=5e-7)
    schedule = check(build, 0.5)
    assert schedule == wave(5)
    assert [remark.code for remark in schedule.bind(8).lint()] == ["rebound"]


def test_a_cosine_over_nothing_divides_by_zero() -> None:
    scheduler = CosineAnnealingLR(sgd(), 0)
    with pytest.raises(ZeroDivisionError):
        scheduler.step()
    with pytest.raises(ScheduleError, match="T_max is 0"):
        from_torch(scheduler)


def test_restarts_are_at_the_peak() -> None:
    figures = [0.5, 0.5, 0.25, 0.5, 0.426777, 0.25, 0.0732233, 0.5, 0.480970]
    assert values(partial(CosineAnnealingWarmRestarts, T_0=1, T_mult=2), 0.5, range(9)) == pytest.approx(
        figures, abs=5e-7
    )


@pytest.mark.parametrize(("growth", "t"), [(3, 121), (10, 111)])
def test_a_restart_is_where_step_has_it_not_its_logarithm(growth: int, t: int) -> None:
    build = partial(CosineAnnealingWarmRestarts, T_0=1, T_mult=growth)
    assert values(build, 1.0, [t]) == [walk(build(sgd(1.0)))[t]] == [1.0]
    scheduler = build(sgd(1.0))
    scheduler.step(t)
    assert scheduler.get_last_lr() == [0.0]
    assert from_torch(scheduler).schedule == restarts(1, growth=growth)


def test_exp_range_and_triangular2() -> None:
    build: Any = partial(CyclicLR, base_lr=0.1, max_lr=1.0, step_size_up=4, gamma=0.9)
    figures = [0.1, 0.3025, 0.4645, 0.592075, 0.69049, 0.498581, 0.339148, 0.207617, 0.1, 0.187170]
    assert values(partial(build, mode="exp_range"), 1, range(10)) == pytest.approx(figures, abs=5e-7)
    assert values(partial(build, mode="triangular2"), 1, [4, 12]) == pytest.approx([1.0, 0.55])


def test_one_cycle_and_the_step_after_its_last() -> None:
    build: Any = partial(OneCycleLR, max_lr=1.0, total_steps=10)
    figures = [0.04, 0.52, 1, 0.950485, 4e-6, 0.0495194]
    assert values(build, 1, [0, 1, 2, 3, 9, 10]) == pytest.approx(figures, abs=5e-7)
    assert len(walk(build(sgd()))) == 11  # step 11 raises
    assert values(partial(build, pct_start=0.0), 1, [0]) == pytest.approx([0.975528], abs=5e-7)
    with pytest.raises(ZeroDivisionError):
        build(sgd(), pct_start=0.1)
    assert check(build).parts[0] == one_cycle(3, at_last=True, length=10)  # type: ignore[attr-defined]


def test_steps_drop_at_the_milestone_twice_for_two() -> None:
    assert values(partial(MultiStepLR, milestones=[3, 6]), 1, range(7)) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01])
    assert values(partial(MultiStepLR, milestones=[2, 2, 3]), 1, range(4)) == pytest.approx([1, 1, 0.01, 0.001])


def test_sequences() -> None:
    then_decay = sequence([partial(LinearLR, start_factor=0.1), partial(ExponentialLR, gamma=0.9)], [5])
    assert values(then_decay, 1, range(8)) == pytest.approx([0.1, 0.28, 0.46, 0.64, 0.82, 1, 0.9, 0.81])
    assert from_torch(then_decay(sgd(1.0))) == (warmup(5, start=0.1) >> exponential(factor=0.9), 1.0)

    #   lr 0.1  --- OneCycleLR's constructor --->  0.04  --- LinearLR(0.5) --->  0.02
    overwritten = sequence(
        [partial(LinearLR, start_factor=0.5, total_iters=4), partial(OneCycleLR, max_lr=1.0, total_steps=20)], [4]
    )
    assert values(overwritten, 0.1, [0, 4]) == pytest.approx([0.02, 0.04])
    assert from_torch(overwritten(sgd(0.1))).lr == 1.0


@pytest.mark.parametrize(
    ("build", "truth"),
    [
        (partial(LinearLR, start_factor=0.1, total_iters=10), 0.64),
        (sequence([partial(LinearLR, total_iters=4), partial(CosineAnnealingLR, T_max=8)], [4]), 0.853553),
    ],
)
def test_a_schedule_imported_on_the_way_has_the_truth_of_the_whole_run(build: Build, truth: float) -> None:
    scheduler = build(sgd(1.0))
    walk(scheduler, 6)
    schedule, lr = from_torch(scheduler)
    assert lr * schedule.bind(100)(6) == pytest.approx(truth, abs=5e-7)


# ------------------------------------------------------------------------------------ what comes out, and what stays


def test_common_schedules_read_as_one_would_write_them() -> None:
    def read(build: Build) -> Schedule:
        return from_torch(build(sgd())).schedule

    rise = partial(LinearLR, start_factor=0.25, total_iters=5)
    assert read(rise) == warmup(5, start=0.25) >> constant()
    assert read(partial(LinearLR, start_factor=1.0, end_factor=0.1, total_iters=5)) == linear(5, to=0.1) >> hold()
    assert read(sequence([rise, partial(CosineAnnealingLR, T_max=20)], [5])) == warmup(5, start=0.25) >> wave(20)
    assert read(chain([rise, partial(CosineAnnealingLR, T_max=20)])) == wave(20) * (warmup(5, start=0.25) >> constant())
    assert read(partial(SWALR, swa_lr=0.05)) == cosine(10, to=0.5) >> hold()


def test_a_group_has_its_own() -> None:
    scheduler = CyclicLR(sgd(1, 1), [0.1, 0.2], [1.0, 4.0], 5)
    assert [from_torch(scheduler, group=g).lr for g in (0, 1)] == [1.0, 4.0]
    schedule, lr = from_torch(scheduler, group=1)
    assert difference(Imported(schedule, lr), walk(scheduler, group=1)) <= TOLERANCE
    with pytest.raises(ScheduleError, match="no param group 2: the optimizer has 2"):
        from_torch(scheduler, group=2)


def test_momentum_of_adam_is_beta1() -> None:
    def adam() -> torch.optim.Optimizer:
        return torch.optim.Adam([torch.zeros(1)], lr=0.1)

    for scheduler in (OneCycleLR(adam(), 1.0, 50), CyclicLR(adam(), 0.1, 1.0, 20)):
        imported = from_torch(scheduler, key="beta1")
        assert imported.lr == scheduler.optimizer.param_groups[0]["max_momentum"]
        assert difference(imported, walk(scheduler, key="beta1")) <= TOLERANCE
        with pytest.raises(ScheduleError, match="cycles beta1, not momentum"):
            from_torch(scheduler, key="momentum")


def test_a_tensor_lr_is_read_as_a_number() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1)], lr=torch.tensor(0.5))
    scheduler = SequentialLR(optimizer, [LinearLR(optimizer, 0.1), CosineAnnealingLR(optimizer, 9)], [5])
    assert from_torch(scheduler) == (warmup(5, start=0.1) >> wave(9), 0.5)
    assert difference(from_torch(scheduler), walk(scheduler)) <= 1e-5  # torch rounds to float32 at every step


def test_the_original_stays_as_it_was() -> None:
    optimizer = sgd(0.1, 0.2)
    scheduler = sequence([partial(LinearLR), partial(CosineAnnealingWarmRestarts, T_0=5)], [5])(optimizer)
    walk(scheduler, 8)
    before = repr((scheduler.state_dict(), optimizer.state_dict(), vars(scheduler._schedulers[1]).keys()))
    from_torch(scheduler, group=1)
    assert repr((scheduler.state_dict(), optimizer.state_dict(), vars(scheduler._schedulers[1]).keys())) == before


def test_a_horizon_shorter_than_its_phases_says_what_they_take() -> None:
    rise = from_torch(LinearLR(sgd(), total_iters=1000)).schedule
    with pytest.raises(ScheduleError, match=r"takes 1000 steps(.|\n)*bind to 1000 steps"):
        rise.bind(500)
    for build in (partial(CosineAnnealingLR, T_max=1000), partial(ConstantLR, total_iters=1000), StepLR_7):
        from_torch(build(sgd())).schedule.bind(1)


# ------------------------------------------------------------------------------------ refused, with cause and next move


class Mine(StepLR):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda o: ReduceLROnPlateau(o), r"follows a metric(.|\n)*eta.plateau"),
        (lambda o: Mine(o, 3), "Mine is a subclass of StepLR"),
        (lambda o: chain([partial(Mine, step_size=3)])(o), "Mine is a subclass of StepLR"),
        (lambda o: CosineAnnealingLR(o, 2.5), "T_max is 2.5"),  # type: ignore[arg-type]
        (lambda o: ConstantLR(o, 0.0, 5), "divides at step 5"),
        (lambda o: LinearLR(o, 0.1, 1.0, -1), "total_iters is -1"),
        (lambda o: ExponentialLR(o, 0.0), "gamma is 0"),
        (lambda o: StepLR(o, 0), "step_size is 0"),
        (lambda o: PolynomialLR(o, 5, -1.0), "divides by zero"),
        (lambda o: CyclicLR(o, 0.1, 1, 2.5, 2), "step_size_up"),  # type: ignore[arg-type]
        (lambda o: CyclicLR(o, 0.0, 0.0, 3), "multiple of 0"),
        (lambda o: OneCycleLR(o, 1.0, 10, pct_start=0.8, three_phase=True), "past its 10 steps"),
        (
            chain([partial(ExponentialLR, gamma=0.9), partial(CosineAnnealingLR, T_max=9)]),
            r"(?s)past step 9 .* it is wave\(9\) \* exponential\(factor=0.9\) of 0.1",
        ),
        (chain([StepLR_7, partial(CosineAnnealingLR, T_max=9, eta_min=0.01)]), "eta_min=0.01, not 0"),
        (chain([partial(CosineAnnealingLR, T_max=9), partial(CosineAnnealingLR, T_max=9)]), "two cosines"),
        (chain([StepLR_7, partial(LambdaLR, lr_lambda=lambda t: 1.0)]), "LambdaLR sets the lr outright"),
        (chain([partial(OneCycleLR, max_lr=1.0, total_steps=9), StepLR_7]), "OneCycleLR sets the lr outright"),
        (
            chain([sequence([partial(LinearLR), partial(ExponentialLR, gamma=0.9)], [5]), StepLR_7]),
            "SequentialLR sets the lr outright",
        ),
        (sequence([StepLR_7, chain([StepLR_7])], [5]), "NotImplementedError"),
        (sequence([StepLR_7, sequence([StepLR_7, StepLR_7], [2])], [5]), "NotImplementedError"),
        (sequence([StepLR_7, StepLR_7, StepLR_7], [5, -2]), "not in order"),
        (sequence([StepLR_7, partial(LinearLR, total_iters=0)], [5]), "total_iters is 0"),
        (lambda o: None, "NoneType is no scheduler of torch"),
    ],
)
def test_what_is_refused(build: Build, said: str) -> None:
    with pytest.raises(ScheduleError, match=said) as error:
        from_torch(build(sgd()))
    assert error.value.next_move


def test_two_that_torch_fails_at_are_refused_for_it() -> None:
    inner = sequence([StepLR_7, sequence([StepLR_7, StepLR_7], [2])], [5])(sgd())
    with pytest.raises(NotImplementedError):
        walk(inner)


@pytest.mark.parametrize(
    ("build", "key", "said"),
    [
        (StepLR_7, "momentum", "StepLR: it has no 'momentum'"),
        (partial(CyclicLR, base_lr=0.1, max_lr=1.0), "weight_decay", "it has no 'weight_decay'"),
        (partial(CyclicLR, base_lr=0.1, max_lr=1.0, cycle_momentum=False), "momentum", "cycle_momentum=False"),
        (partial(OneCycleLR, max_lr=1.0, total_steps=9, base_momentum=0.0), "momentum", "between 0 and 0.95"),
    ],
)
def test_keys_that_are_not_there(build: Build, key: str, said: str) -> None:
    with pytest.raises(ScheduleError, match=said):
        from_torch(build(sgd()), key=key)


def test_an_lr_of_0_and_a_group_that_came_late() -> None:
    with pytest.raises(ScheduleError, match="the lr of param group 0 is 0"):
        from_torch(StepLR_7(sgd(0.0)))
    scheduler = StepLR_7(sgd())
    scheduler.optimizer.add_param_group({"params": [torch.zeros(1)]})
    with pytest.raises(ScheduleError, match="param group 1 was added after"):
        from_torch(scheduler, group=1)


def test_another_torch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = ExponentialLR(sgd(), 0.9)
    monkeypatch.setattr(ExponentialLR, "get_lr", lambda self: [0.1 / (1 + self.last_epoch)])
    with pytest.raises(ScheduleError, match=r"At step 1 this ExponentialLR has lr 0.05, .* has 0.09"):
        from_torch(scheduler)
    monkeypatch.setattr(torch_schedulers, "PROOF_STEPS", 1)
    assert from_torch(scheduler).lr == 0.1
