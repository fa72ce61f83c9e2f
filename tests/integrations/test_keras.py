"""Keras' schedules, imported and exported: compared with the living ones in float64 (floatx), on torch's backend."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etascope.errors import ScheduleError
from etascope.integrations.building import fixed
from etascope.integrations.imported import Imported
from etascope.integrations.keras import from_keras, to_keras
from etascope.schedules import Schedule, as_schedule, constant, cosine, noise, warmup

STEPS = 1000
PROOF = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def loaded() -> Any:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="needs Keras and a backend: pip install keras")


@pytest.fixture
def keras(loaded: Any) -> Iterator[Any]:
    """Keras in float64."""
    before = loaded.config.floatx()
    loaded.config.set_floatx("float64")
    yield loaded
    loaded.config.set_floatx(before)


@pytest.fixture
def keras32(loaded: Any) -> Iterator[Any]:
    """Keras in float32, as it comes."""
    before = loaded.config.floatx()
    loaded.config.set_floatx("float32")
    yield loaded
    loaded.config.set_floatx(before)


def living(schedule: Any, steps: int = STEPS) -> np.ndarray[Any, Any]:
    """Keras' values, step by step: on arrays of steps torch's backend falls back to float32 here and there."""
    return np.array([float(schedule(t)) for t in range(steps)])


def ours(imported: Imported, steps: int = STEPS) -> np.ndarray[Any, Any]:
    assert Schedule.parse(repr(imported.schedule)) == imported.schedule
    assert Schedule.from_json(imported.schedule.to_json()) == imported.schedule
    return imported.lr * imported.schedule.bind(max(steps, fixed(imported.schedule)) + 1)(np.arange(steps))


def equal(schedule: Any, steps: int = STEPS, within: float = 1e-12) -> None:
    imported = from_keras(schedule)
    np.testing.assert_allclose(
        ours(imported, steps) / imported.lr, living(schedule, steps) / imported.lr, rtol=0, atol=within
    )


lrs = st.one_of(st.floats(1e-4, 3), st.just(1.0), st.floats(-1, -0.1))
steps = st.one_of(st.integers(1, 20), st.integers(1, 1300))
parts = st.one_of(st.integers(1, 2600).map(lambda n: n / 2), st.floats(0.5, 1300))
alphas = st.one_of(st.just(0.0), st.floats(0, 1.5))


@PROOF
@given(lrs, st.one_of(steps, parts), st.floats(0.01, 1.02), st.just(False))
def test_exponential_decay(keras: Any, lr: float, every: float, rate: float, staircase: bool) -> None:
    equal(keras.optimizers.schedules.ExponentialDecay(lr, every, min(rate, 1 + every / 1000), staircase))


@PROOF
@given(lrs, steps, st.floats(0, 1.5))
def test_exponential_decay_in_stairs(keras: Any, lr: float, every: int, rate: float) -> None:
    equal(keras.optimizers.schedules.ExponentialDecay(lr, every, min(rate, 1 + every / 1000), staircase=True))


@PROOF
@given(
    st.lists(st.tuples(st.one_of(st.integers(0, 1300), st.floats(0, 1300)), st.floats(0, 2)), min_size=1, max_size=6)
)
def test_piecewise_constant_decay(keras: Any, pieces: list[tuple[float, float]]) -> None:
    boundaries = sorted(at for at, _ in pieces)
    equal(keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [1.0, *(value for _, value in pieces)]))


@PROOF
@given(lrs, steps, lrs, st.one_of(st.just(1.0), st.just(0.0), st.floats(0.2, 4)))
def test_polynomial_decay(keras: Any, lr: float, n: int, end: float, power: float) -> None:
    equal(keras.optimizers.schedules.PolynomialDecay(lr, n, end, power))


@PROOF
@given(lrs, st.one_of(steps, parts), st.floats(0, 20), st.booleans())
def test_inverse_time_decay(keras: Any, lr: float, every: float, rate: float, staircase: bool) -> None:
    if staircase:
        every = max(int(every), 1)
    equal(keras.optimizers.schedules.InverseTimeDecay(lr, every, rate, staircase))


@PROOF
@given(lrs, st.one_of(steps, parts), alphas, st.one_of(st.none(), lrs), st.one_of(st.just(0), st.integers(0, 500)))
def test_cosine_decay(keras: Any, lr: float, n: float, alpha: float, target: float | None, up: int) -> None:
    equal(keras.optimizers.schedules.CosineDecay(lr, n, alpha, warmup_target=target, warmup_steps=up))


@PROOF
@given(
    lrs,
    st.one_of(st.integers(1, 12), st.integers(1, 900)),
    st.one_of(st.sampled_from([1.0, 2.0, 3.0, 10.0, 1.1, 1.5]), st.floats(1.01, 4)),
    st.one_of(st.just(1.0), st.floats(0.1, 1.2)),
    alphas,
)
def test_cosine_decay_restarts(keras: Any, lr: float, first: int, t_mul: float, m_mul: float, alpha: float) -> None:
    equal(keras.optimizers.schedules.CosineDecayRestarts(lr, first, t_mul, m_mul, alpha))


def test_float32_as_it_comes(keras32: Any) -> None:
    """Within 1e-6 of the peak: Keras' own rounding."""
    s = keras32.optimizers.schedules
    for schedule in (
        s.ExponentialDecay(0.1, 30, 0.9),
        s.ExponentialDecay(0.1, 49, 0.9, staircase=True),
        s.PiecewiseConstantDecay([100, 300], [0.1, 0.05, 0.01]),
        s.PolynomialDecay(0.1, 700, power=2.0),
        s.InverseTimeDecay(0.1, 49, 0.5, staircase=True),
        s.CosineDecay(0.0, 700, warmup_target=0.1, warmup_steps=50),
        s.CosineDecayRestarts(0.1, 10, m_mul=0.9, alpha=0.1),
        s.CosineDecayRestarts(0.1, 10, t_mul=1.1, m_mul=0.9, alpha=0.1),
    ):
        equal(schedule, within=1e-6)


# ------------------------------------------------------------------------------ conformance cases of schedules.md


def near(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_case_1_past_the_end_it_clamps(keras: Any) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 5)
    near(ours(from_keras(schedule), 11), [0.5, 0.452254, 0.327254, 0.172746, 0.0477458, 0, 0, 0, 0, 0, 0])
    equal(schedule)


def test_case_3_the_restart_that_a_rounded_logarithm_misses(keras32: Any) -> None:
    schedule = keras32.optimizers.schedules.CosineDecayRestarts(1.0, 10, t_mul=2.0)
    imported = from_keras(schedule)
    bound = imported.schedule.bind(10**6)
    for restart in (10, 630, 81_910, 327_670):
        t = np.arange(max(restart - 30, 0), restart + 30)
        np.testing.assert_allclose(bound(t), [float(schedule(int(i))) for i in t], rtol=0, atol=1e-5)
    assert (bound(630), bound(81_910)) == (1, 0)
    assert imported.schedule.bind(100)(99) > 0


def test_case_6_the_warmup_is_outside_the_horizon(keras: Any) -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.0, 6, warmup_target=1.0, warmup_steps=2)
    imported = from_keras(schedule)
    near(ours(imported, 9), [0, 0.5, 1, 0.933013, 0.75, 0.5, 0.25, 0.066987, 0])
    assert repr(imported.schedule) == "warmup(2, start=0.0) >> cosine(6) >> constant(value=0.0)"
    equal(schedule)


def test_case_7_it_changes_after_the_boundary(keras: Any) -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3, 6], [1.0, 0.1, 0.01])
    near(ours(from_keras(schedule), 9), [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
    equal(schedule)


# ------------------------------------------------------------------------------ what is refused


def test_refused(keras: Any) -> None:
    s = keras.optimizers.schedules
    mine = type("Mine", (s.CosineDecay,), {"__module__": __name__})
    for schedule, cause, next_move in (
        (s.PolynomialDecay(1.0, 10, cycle=True), "cycles without end", "polynomial"),
        (s.PolynomialDecay(1.0, 2.5), "2.5", "Round"),
        (s.PolynomialDecay(1.0, 10, power=-1.0), "power", "above 0"),
        (s.ExponentialDecay(1.0, 2.5, 0.9, staircase=True), "2.5", "Round"),
        (s.ExponentialDecay(1.0, 10, -0.9), "sign", "above 0"),
        (s.InverseTimeDecay(1.0, 10, -0.9), "rises", "above 0"),
        (s.PiecewiseConstantDecay([6, 3], [1.0, 0.1, 0.01]), "not in order", "first to the last"),
        (s.CosineDecay(0.0, 10, warmup_target=1.0, warmup_steps=2.5), "2.5", "Round"),
        (s.CosineDecayRestarts(1.0, 10, t_mul=0.5), "shrink", "at least 1"),
        (s.CosineDecayRestarts(1.0, 2.5), "2.5", "Round"),
        (s.CosineDecay(1, 10), "whole numbers", "1.0"),
        (mine(1.0, 10), "Mine", "as_schedule"),
        (0.1, "float", "as_schedule"),
    ):
        with pytest.raises(ScheduleError, match=cause) as error:
            from_keras(schedule)
        assert next_move in error.value.next_move


def test_import_loads_no_keras() -> None:
    code = (
        "import sys; sys.modules['keras'] = None\n"
        "import etascope.integrations.keras as k, etascope.schedules as s\n"
        "try: k.to_keras(s.constant().bind(10))\n"
        "except ValueError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install keras" in found.stdout, found.stderr


# ------------------------------------------------------------------------------ export

BOUND = (warmup("5%") >> cosine(to=0.1)).bind(100)


def test_export_is_the_table(keras: Any) -> None:
    for schedule in (BOUND.schedule, 0.5 * cosine() * noise(0.2, seed=3), as_schedule(lambda t: 1 / (1 + t))):
        bound = schedule.bind(STEPS)
        exported = to_keras(bound, lr=3e-3)
        assert isinstance(exported, keras.optimizers.schedules.LearningRateSchedule)
        assert living(exported, 2 * STEPS).tolist() == (3e-3 * bound(np.arange(2 * STEPS))).tolist()
        step = keras.Variable(7, dtype="int64", trainable=False)
        assert float(exported(step)) == 3e-3 * bound(7)
        assert from_keras(exported) == Imported(bound, 3e-3)


def test_export_in_float32_is_the_nearest(keras32: Any) -> None:
    values = living(to_keras(BOUND, lr=0.1), 120)
    assert np.array_equal(values, np.float32(0.1 * BOUND(np.arange(120))))


def test_round_trip(keras: Any) -> None:
    original = keras.optimizers.schedules.CosineDecay(1e-4, 700, 0.1, warmup_target=1e-3, warmup_steps=50)
    imported = from_keras(original)
    exported = to_keras(imported.schedule.bind(STEPS), lr=imported.lr)
    np.testing.assert_allclose(living(exported) * 1e3, living(original) * 1e3, rtol=0, atol=1e-12)


def test_one_class_that_is_serialised_copied_and_pickled(keras: Any) -> None:
    import etascope.integrations.keras as module

    exported = to_keras(BOUND, lr=0.1)
    assert type(exported) is module.EtascopeSchedule is module.register() is type(to_keras(BOUND))
    assert pickle.loads(pickle.dumps(module.EtascopeSchedule)) is type(exported)
    s = keras.optimizers.schedules
    for twin in (s.deserialize(s.serialize(exported)), pickle.loads(pickle.dumps(exported)), copy.deepcopy(exported)):
        assert (twin.bound, twin.lr, type(twin)) == (BOUND, 0.1, type(exported))
        assert living(twin, 120).tolist() == living(exported, 120).tolist()
    with pytest.raises(AttributeError, match="no attribute"):
        _ = module.Schedul


def test_a_model_is_trained_saved_and_loaded_with_it(keras32: Any, tmp_path: Path) -> None:
    keras = keras32
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    y = x @ np.float32([[1.0], [-2.0], [0.5]])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.Adam(to_keras(BOUND, lr=0.1)), loss="mse")
    seen: list[float] = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(lr_of(model)))
    losses = model.fit(x, y, batch_size=16, epochs=15, verbose=0, callbacks=[watch]).history["loss"]
    assert losses[-1] < 0.2 * losses[0]
    np.testing.assert_allclose(seen, 0.1 * BOUND(np.arange(1, 61)), rtol=1e-6)

    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert lr_of(again) == lr_of(model)
    both = [m.fit(x, y, batch_size=16, epochs=12, verbose=0, shuffle=False).history["loss"] for m in (model, again)]
    np.testing.assert_allclose(*both, rtol=1e-5)
    assert lr_of(again) == pytest.approx(0.1 * BOUND(100)) == lr_of(model)

    code = (
        "import sys, keras, etascope.integrations.keras as k; k.register()\n"
        f"model = keras.saving.load_model({str(tmp_path / 'model.keras')!r})\n"
        "print(int(model.optimizer.iterations), repr(model.optimizer._learning_rate.bound))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.split(maxsplit=1) == ["60", f"{BOUND!r}\n"], found.stderr


def lr_of(model: Any) -> float:
    return float(model.optimizer.learning_rate)


def test_a_function_of_ones_own_is_not_loaded_again(keras: Any) -> None:
    exported = to_keras(as_schedule(lambda t: 1.0).bind(10))
    with pytest.raises(ScheduleError, match="function"):
        type(exported).from_config(exported.get_config())


def test_export_wants_a_bound_schedule(keras: Any) -> None:
    with pytest.raises(ScheduleError, match="not bound"):
        to_keras(constant())  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="lr"):
        to_keras(BOUND, lr=float("inf"))
