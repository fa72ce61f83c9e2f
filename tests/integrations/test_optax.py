"""optax's schedules, imported and exported: compared with the living ones in float64.

optax's own functions run on NumPy in place of `jax.numpy` for all steps, and on JAX (x64, not compiled) for some.
Compiled by XLA they are not their own formula: a division becomes a product with a reciprocal, so that a staircase of
49 steps falls one step late (49 · (1/49) < 1), and √ of what should be 0 is 1e-8.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etascope.errors import ScheduleError
from etascope.integrations.building import fixed
from etascope.integrations.imported import Imported
from etascope.integrations.optax import from_optax, to_optax
from etascope.schedules import Schedule, as_schedule, cosine, noise, warmup

STEPS = 1200
PROOF = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.data_too_large, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def optax() -> Iterator[Any]:
    """optax, with JAX in float64 for these tests."""
    module = pytest.importorskip("optax", reason="needs optax: pip install optax")
    jax = pytest.importorskip("jax", reason="needs JAX: pip install jax")
    import optax.schedules._join as join
    import optax.schedules._schedule as schedule

    assert schedule.jnp is join.jnp is jax.numpy
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield module
    jax.config.update("jax_enable_x64", before)


def living(schedule: Any, steps: int = STEPS) -> np.ndarray[Any, Any]:
    import jax.numpy as jnp
    import optax.schedules._join as join
    import optax.schedules._schedule as module

    with pytest.MonkeyPatch.context() as patch, np.errstate(all="ignore"):
        patch.setattr(module, "jnp", np)
        patch.setattr(join, "jnp", np)
        values = np.array([float(schedule(t)) for t in range(steps)])
    some = [0, 7, 100, steps - 1]
    np.testing.assert_allclose(values[some], [float(schedule(jnp.asarray(t))) for t in some], rtol=1e-12, atol=1e-12)
    return values


def ours(imported: Imported, steps: int = STEPS) -> np.ndarray[Any, Any]:
    assert Schedule.parse(repr(imported.schedule)) == imported.schedule
    assert Schedule.from_json(imported.schedule.to_json()) == imported.schedule
    return imported.lr * imported.schedule.bind(max(steps, fixed(imported.schedule)) + 1)(np.arange(steps))


def equal(imported: Imported, schedule: Any, steps: int = STEPS) -> None:
    theirs = living(schedule, steps)
    scale = max(imported.lr, np.abs(theirs).max(), 1e-300)  # one that rises may end far above where it began
    np.testing.assert_allclose(ours(imported, steps) / scale, theirs / scale, rtol=0, atol=1e-12)


lrs = st.one_of(st.just(0.0), st.floats(1e-5, 3), st.floats(-1, -0.1))
peaks = st.floats(1e-3, 3)
steps = st.one_of(st.integers(1, 20), st.integers(1, 1300))
none = st.one_of(st.just(0), st.integers(0, 400))
exponents = st.one_of(st.just(1.0), st.floats(0.1, 4), st.just(2))
rates = st.one_of(st.floats(0.01, 0.999), st.floats(1, 1.01), st.just(0.0))
scales = st.dictionaries(st.integers(0, 1300), st.floats(0, 1.7), max_size=6)
ends = st.one_of(st.none(), st.floats(0, 1.5), st.floats(1e-6, 0.5))


def options(**kwargs: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(kwargs)


def relative(kwargs: dict[str, Any]) -> dict[str, Any]:
    """end_value in multiples of the lr that falls to it, so that differences are of a peak around 1."""
    top = kwargs.get("peak_value", kwargs.get("init_value"))
    if kwargs.get("end_value") is not None:
        kwargs["end_value"] *= abs(top)
    return kwargs


warm_cosine = st.builds(
    lambda extra, **kwargs: relative({**kwargs, "decay_steps": kwargs["warmup_steps"] + extra}),
    extra=steps,
    init_value=st.floats(0, 1),
    peak_value=peaks,
    warmup_steps=none,
    end_value=st.floats(0, 1.2),
    exponent=exponents,
)
CONSTRUCTORS = {
    "constant_schedule": options(value=lrs),
    "linear_schedule": options(
        init_value=lrs, end_value=lrs, transition_steps=st.integers(-3, 1300), transition_begin=st.integers(-3, 500)
    ),
    "polynomial_schedule": options(
        init_value=lrs,
        end_value=lrs,
        power=st.one_of(st.integers(0, 4), st.floats(0.2, 4)),
        transition_steps=st.integers(-3, 1300),
        transition_begin=st.integers(-3, 500),
    ),
    "cosine_decay_schedule": options(
        init_value=lrs,
        decay_steps=st.one_of(steps, st.integers(1, 2000).map(lambda n: n / 2)),
        alpha=st.one_of(st.just(0.0), st.floats(0, 1.5)),
    ),
    "exponential_decay": options(
        init_value=peaks,
        transition_steps=st.one_of(st.integers(-2, 400), st.floats(0.5, 200)),
        decay_rate=rates,
        transition_begin=st.integers(-3, 500),
        end_value=ends,
    ).map(relative),
    "piecewise_constant_schedule": options(
        init_value=lrs,
        boundaries_and_scales=st.one_of(st.none(), scales, st.dictionaries(st.floats(-9, 999), st.floats(0, 1))),
    ),
    "piecewise_interpolate_schedule": options(
        interpolate_type=st.sampled_from(["linear", "cosine"]), init_value=lrs, boundaries_and_scales=scales
    ),
    "linear_onecycle_schedule": options(
        transition_steps=steps,
        peak_value=peaks,
        pct_start=st.floats(0, 0.6),
        pct_final=st.floats(0.4, 1.1),
        div_factor=st.floats(1, 50),
        final_div_factor=st.floats(1, 1e4),
    ),
    "cosine_onecycle_schedule": options(
        transition_steps=steps,
        peak_value=peaks,
        pct_start=st.floats(0, 1),
        div_factor=st.floats(1, 50),
        final_div_factor=st.floats(1, 1e4),
    ),
    "warmup_constant_schedule": options(init_value=lrs, peak_value=lrs, warmup_steps=st.integers(-1, 900)),
    "warmup_cosine_decay_schedule": warm_cosine,
    "warmup_exponential_decay_schedule": options(
        init_value=st.floats(0, 1),
        peak_value=peaks,
        warmup_steps=none,
        transition_steps=st.one_of(st.integers(-2, 400), st.floats(0.5, 200)),
        decay_rate=rates,
        transition_begin=st.integers(-3, 300),
        end_value=ends,
    ).map(relative),
    "sgdr_schedule": options(cosine_kwargs=st.lists(warm_cosine, min_size=1, max_size=5)),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
@PROOF
@given(data=st.data())
def test_constructor(optax: Any, name: str, data: st.DataObject) -> None:
    kwargs = data.draw(CONSTRUCTORS[name])
    equal(from_optax(name, **kwargs), getattr(optax, name)(**kwargs))


@PROOF
@given(CONSTRUCTORS["exponential_decay"], st.integers(1, 400))
def test_exponential_staircase(optax: Any, kwargs: dict[str, Any], every: int) -> None:
    kwargs |= {"staircase": True, "transition_steps": every}
    equal(from_optax("exponential_decay", **kwargs), optax.exponential_decay(**kwargs))
    kwargs |= {"warmup_steps": 10, "peak_value": kwargs["init_value"]}
    name = "warmup_exponential_decay_schedule"
    equal(from_optax(name, **kwargs), optax.warmup_exponential_decay_schedule(**kwargs))


@PROOF
@given(st.integers(1, 900), st.integers(1, 500), steps, exponents)
def test_cosine_with_an_exponent(optax: Any, decay_steps: int, alpha: int, begin: int, exponent: float) -> None:
    args = (0.3, decay_steps, alpha / 500, exponent)
    equal(from_optax(optax.cosine_decay_schedule, *args), optax.cosine_decay_schedule(*args))


@PROOF
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 100), peaks), min_size=1, max_size=4))
def test_join(optax: Any, phases: list[tuple[int, int, float]]) -> None:
    """Of a piecewise interpolation (which may be cut), lines that end before their time, and an exponential."""
    imported, theirs, boundaries, at = [], [], [], 0
    for n, rest, lr in phases:
        for name, args in (
            ("linear_schedule", (lr / 2, lr, n)),
            ("exponential_decay", (lr, 100, 0.9)),
            ("piecewise_interpolate_schedule", ("cosine", lr, {2 * n: 0.5})),
        ):
            imported.append(from_optax(name, *args))
            theirs.append(getattr(optax, name)(*args))
            boundaries.append(at := at + n + rest)
    joined = from_optax("join_schedules", imported, boundaries[:-1])
    assert joined.lr == max(i.lr for i in imported)
    equal(joined, optax.join_schedules(theirs, boundaries[:-1]))


# ------------------------------------------------------------------------------ conformance cases of schedules.md


def near(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_case_1_past_the_end_it_clamps(optax: Any) -> None:
    imported = from_optax(optax.cosine_decay_schedule, 0.5, 5)
    near(ours(imported, 11), [0.5, 0.452254, 0.327254, 0.172746, 0.0477458, 0, 0, 0, 0, 0, 0])
    equal(imported, optax.cosine_decay_schedule(0.5, 5))


def test_case_5_linear_onecycle(optax: Any) -> None:
    args = {"pct_start": 0.3, "pct_final": 0.7, "div_factor": 10.0, "final_div_factor": 100.0}
    imported = from_optax("linear_onecycle_schedule", 10, 1000, **args)
    assert imported.lr == 1000
    near(ours(imported, 12), [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1])
    equal(imported, optax.linear_onecycle_schedule(10, 1000, **args))


def test_case_5_the_final_lr(optax: Any) -> None:
    imported = from_optax("cosine_onecycle_schedule", 10, 1.0)
    near(ours(imported, 11)[[0, 3, 10]], [0.04, 1, 4e-6])
    equal(imported, optax.cosine_onecycle_schedule(10, 1.0))


def test_case_6_the_warmup_is_inside_the_horizon(optax: Any) -> None:
    imported = from_optax(optax.warmup_cosine_decay_schedule, 0.0, 1.0, 2, 6)
    near(ours(imported, 7), [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0])
    equal(imported, optax.warmup_cosine_decay_schedule(0.0, 1.0, 2, 6))


def test_case_7_it_changes_at_the_boundary(optax: Any) -> None:
    imported = from_optax(optax.piecewise_constant_schedule, 1.0, {3: 0.1, 6: 0.1})
    near(ours(imported, 8), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    equal(imported, optax.piecewise_constant_schedule(1.0, {3: 0.1, 6: 0.1}))


CUT = [
    ("linear_schedule", (0.0, 1.0, 10), 5),
    ("warmup_cosine_decay_schedule", (0.1, 1.0, 10, 50), 20),
    ("warmup_cosine_decay_schedule", (0.1, 1.0, 10, 50), 4),
    ("polynomial_schedule", (1.0, 0.1, 2, 30), 12),
    ("cosine_onecycle_schedule", (40, 1.0), 17),
    ("exponential_decay", (1.0, 10, 0.5), 13),
]


@pytest.mark.parametrize(("name", "args", "at"), CUT)
def test_a_join_in_the_middle_of_a_phase(optax: Any, name: str, args: tuple[Any, ...], at: int) -> None:
    ours_ = [from_optax(name, *args), from_optax("constant_schedule", 0.3)]
    theirs = [getattr(optax, name)(*args), optax.constant_schedule(0.3)]
    imported = from_optax("join_schedules", ours_, [at])
    schedule = optax.join_schedules(theirs, [at])
    values = imported.lr * imported.schedule.bind(200)(np.arange(120))
    np.testing.assert_allclose(values, living(schedule, 120), rtol=0, atol=1e-12)
    assert Schedule.from_json(imported.schedule.to_json()) == imported.schedule


# ------------------------------------------------------------------------------ names, words, refusals


def test_it_reads_as_one_would_write_it() -> None:
    written = {
        "warmup(100, start=0.0) >> cosine(900, to=0.1) >> constant(value=0.1)": from_optax(
            "optax.warmup_cosine_decay_schedule", 0.0, 1e-3, 100, 1000, 1e-4
        ),
        "constant(5) >> exponential(factor=0.5, every=100)": from_optax(
            "exponential_decay", 0.1, 100, 0.5, transition_begin=5
        ),
        "warmup(10, start=0.0) >> constant()": from_optax("warmup_constant_schedule", 0.0, 0.1, 10),
        "piecewise([3, 10], values=[0.04, 1.0, 4e-06], by='cosine')": from_optax("cosine_onecycle_schedule", 10, 1.0),
    }
    assert {repr(imported.schedule): imported.lr for imported in written.values()} == dict(
        zip(written, (1e-3, 0.1, 0.1, 1.0), strict=True)
    )


def test_every_schedule_of_optax_is_known(optax: Any) -> None:
    others = {"inject_hyperparams", "inject_stateful_hyperparams"}  # which make optimizers
    theirs = {n for n, f in vars(optax.schedules).items() if n.islower() and n[0] != "_" and inspect.isfunction(f)}
    assert theirs - others == {*CONSTRUCTORS, "join_schedules"}


def test_it_needs_no_optax() -> None:
    code = (
        "import sys; sys.modules['optax'] = sys.modules['jax'] = None\n"
        "from etascope.integrations.optax import from_optax, to_optax\n"
        "s = from_optax('cosine_decay_schedule', 1.0, 10).schedule\n"
        "try: to_optax(s.bind(10))\n"
        "except ValueError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install optax jax" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("args", "cause", "next_move"),
    [
        (("cosine_decay", 1.0, 10), "no constructor", "cosine_decay_schedule"),
        ((lambda count: 1.0, 1.0), "no constructor", "Known"),
        (("cosine_decay_schedule", 1.0), "decay_steps", "init_value"),
        (("cosine_decay_schedule", 1.0, 0), "optax refuses too", "more than 0"),
        (("warmup_cosine_decay_schedule", 0.0, 1.0, 10, 10), "optax refuses too", "more than 0"),
        (("warmup_cosine_decay_schedule", 0.0, 1.0, 2.5, 10), "2.5", "Round"),
        (("linear_schedule", 0.0, 1.0, 2.5), "2.5", "Round"),
        (("linear_schedule", 0.0, "1", 2), "not a number", "finite"),
        (("polynomial_schedule", 1.0, 0.0, -1, 10), "power", "above 0"),
        (("exponential_decay", 1.0, 10, -0.5), "sign", "above 0"),
        (("exponential_decay", -1.0, 10, 0.5, 0, False, -0.1), "below 0", "without the sign"),
        (("exponential_decay", 1.0, 2.5, 0.5, 0, True), "2.5", "Round"),
        (("piecewise_constant_schedule", 1.0, {3: -1.0}), "optax refuses too", "0 or more"),
        (("piecewise_interpolate_schedule", "cubic", 1.0, {3: 1.0}), "cubic", "linear"),
        (("piecewise_interpolate_schedule", "linear", 1.0, {-3: 1.0}), "in front of", "from 0 on"),
        (("sgdr_schedule", []), "no cycle", "at least one"),
        (("join_schedules", [lambda t: t], []), "other schedules", "a >> b"),
        (("join_schedules", 3 * [from_optax("linear_schedule", 0, 1, 10)], [15, 12]), "not rising", "in order"),
    ],
)
def test_refused(args: tuple[Any, ...], cause: str, next_move: str) -> None:
    with pytest.raises(ScheduleError, match=cause) as error:
        from_optax(*args)
    assert next_move in error.value.next_move


def test_a_finished_schedule_says_which_constructor_to_give(optax: Any) -> None:
    with pytest.raises(ScheduleError, match=r"from_optax\('cosine_decay_schedule', ...\)"):
        from_optax(optax.cosine_decay_schedule(1.0, 10))


# ------------------------------------------------------------------------------ export

SCHEDULES = [
    warmup("5%") >> cosine(to=0.1),
    0.5 * cosine() * noise(0.2, seed=3),
    as_schedule(lambda t: 1 / (1 + t)),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_export_is_exact_under_jit_vmap_and_scan(optax: Any, schedule: Schedule) -> None:
    import jax
    import jax.numpy as jnp

    bound = schedule.bind(STEPS)
    exported = to_optax(bound, lr=3e-3)
    t = np.arange(2 * STEPS)
    expected = 3e-3 * bound(t)
    assert exported(7).dtype == jnp.float64
    assert np.array_equal(exported(jnp.asarray(t)), expected)
    assert np.array_equal(jax.vmap(jax.jit(exported))(jnp.asarray(t)), expected)
    assert np.array_equal(jax.lax.scan(lambda count, _: (count + 1, exported(count)), 0, None, 2 * STEPS)[1], expected)
    assert float(exported(-5)) == expected[0]
    assert np.array_equal(to_optax(bound)(jnp.asarray(t)), bound(t))


def test_export_in_float32_is_the_nearest(optax: Any) -> None:
    import jax

    bound = SCHEDULES[0].bind(STEPS)
    jax.config.update("jax_enable_x64", False)
    try:
        values = jax.vmap(to_optax(bound, lr=0.1))(np.arange(STEPS))
        assert values.dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", True)
    assert np.array_equal(values, np.float32(0.1 * bound(np.arange(STEPS))))


@PROOF
@given(warm_cosine)
def test_round_trip(optax: Any, kwargs: dict[str, Any]) -> None:
    imported = from_optax("warmup_cosine_decay_schedule", **kwargs)
    exported = to_optax(imported.schedule.bind(3000), lr=imported.lr)
    np.testing.assert_allclose(
        living(exported) / imported.lr,
        living(optax.warmup_cosine_decay_schedule(**kwargs)) / imported.lr,
        rtol=0,
        atol=1e-12,
    )


def test_adam_trains_under_it_as_under_optaxs_own(optax: Any) -> None:
    import jax
    import jax.numpy as jnp

    kwargs = {"init_value": 0.0, "peak_value": 0.3, "warmup_steps": 10, "decay_steps": 100}
    imported = from_optax("warmup_cosine_decay_schedule", **kwargs)

    def train(schedule: Any) -> Any:
        adam = optax.adam(schedule)

        @jax.jit
        def step(params: Any, state: Any) -> Any:
            loss, grads = jax.value_and_grad(lambda w: jnp.sum((w - jnp.arange(3.0)) ** 2))(params)
            updates, state = adam.update(grads, state, params)
            return optax.apply_updates(params, updates), state, loss

        params = jnp.full(3, 5.0)
        state, losses = adam.init(params), []
        for _ in range(100):
            params, state, loss = step(params, state)
            losses.append(float(loss))
        return losses

    losses = train(to_optax(imported.schedule.bind(100), lr=imported.lr))
    np.testing.assert_allclose(losses, train(optax.warmup_cosine_decay_schedule(**kwargs)), rtol=1e-6)  # see above: XLA
    assert losses[-1] < 1e-2 * losses[0]


def test_a_count_may_be_a_float(optax: Any) -> None:
    bound = cosine().bind(10)
    assert float(to_optax(bound)(3.0)) == pytest.approx(bound(3)) and float(to_optax(bound)(-1)) == 1.0


def test_export_wants_a_bound_schedule(optax: Any) -> None:
    with pytest.raises(ScheduleError, match="not bound"):
        to_optax(cosine())  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="lr"):
        to_optax(cosine().bind(10), lr=float("nan"))
