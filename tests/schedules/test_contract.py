"""The laws that every member of the family keeps."""

from __future__ import annotations

import json
import math
import pickle

import numpy as np
import pytest

import etascope.schedules as schedules
from etascope.errors import ScheduleError
from etascope.schedules import (
    Bound,
    Schedule,
    anneal,
    constant,
    cosine,
    exp_range,
    exponential,
    hold,
    inverse_sqrt,
    inverse_time,
    linear,
    multistep,
    noise,
    one_cycle,
    piecewise,
    polynomial,
    restarts,
    sqrt_cooldown,
    step_decay,
    tanh,
    triangular,
    warmup,
    wave,
)
from etascope.schedules.names import SHAPES

HORIZON = 40
MEMBERS = [
    constant(),
    constant(10, value=0.3),
    hold(),
    linear(start=0.2, to=0.9),
    linear("50%", to=0.1),
    cosine(to=0.1),
    cosine("1.5ep"),
    exponential(),
    exponential("25%", start=0.5, to=2),
    step_decay(7, factor=0.5),
    step_decay("12.5%", length="75%"),
    warmup(8),
    warmup("20%", start=0),
    warmup("5%") >> cosine(to=0.1),
    hold(3) >> warmup("2ep", start=0.3) >> hold(),
    warmup("20%") >> constant() >> linear("1ep", to=0.2) >> hold(2),
    0.5 * cosine() * (warmup(5) >> hold()),
    warmup(5) >> 2 * hold() >> linear(5),
    linear(20).bind(20).rescale(10) >> hold(),
    polynomial(to=0.1),
    polynomial("50%", power=0.5, k=1.5),
    cosine(start=0.5, k=1.5),
    cosine("50%", to=0.2, power=1.5),
    exponential(factor=0.9),
    exponential("50%", start=2, factor=0.5, every="1ep"),
    inverse_time(5),
    inverse_time("10%", "50%", rate=2.5, staircase=True),
    inverse_time(to=0.1),
    inverse_sqrt("1ep"),
    inverse_sqrt(start=0.1, to=1),
    sqrt_cooldown("20%", to=0.05),
    tanh(to=0.1),
    constant(8) >> anneal("25%", to=0.2) >> hold(),
    anneal(to=0.1, by="linear"),
    multistep([10, 10, "50%"], factor=0.5),
    multistep((3,), length=20),
    piecewise([5, "50%", "3ep"], [1, 0.5, 0.2, 0.1]),
    piecewise([10, 20], [0, 1, 0.1], by="linear"),
    piecewise([0, 10, 10, 30], [0, 1, 0.1, 0.4, 0.2], by="cosine", length="75%"),
    restarts("1ep"),
    restarts(3, growth=1.5, peak_factor=0.8, to=0.05),
    restarts(3, peak_factor=0.5, to=0.2, above_to=True),
    restarts(cycles=3, growth=2, length="50%"),
    triangular(8, peak_factor=0.5),
    triangular("1ep", low=0, rise=0.25, length=35),
    exp_range(8, factor=0.9),
    one_cycle(),
    one_cycle(8, to=0.01, by="linear", three_phase=True),
    one_cycle("20%", at_last=True, length="50%"),
    wave(15, to=0.1),
    wave(15, to=0.1, phase=0.2, length=10),
    wave("1ep", turns=1.3, length="50%"),
    noise(),
    cosine() * noise(0.5, seed=3, every="5%"),
    (warmup("20%") >> cosine()).bind(HORIZON, 10),
    (warmup("20%") >> cosine()).bind(20, 10).extend(8, HORIZON, rewarm=3),
    linear(start=1, to=0.5).bind(20, 10).extend(8, 30, "value").extend(20, HORIZON, "schedule", 5),
    linear().bind(4, 10).rescale(HORIZON),
]


def bound(s: Schedule) -> Bound:
    return s.bind(HORIZON, 10)


def test_all_shapes_are_members() -> None:
    names = " ".join(map(repr, MEMBERS))
    assert all(f"{name}(" in names for name in SHAPES)


@pytest.mark.parametrize("s", MEMBERS, ids=repr)
class TestEveryMember:
    def test_array_equals_scalar(self, s: Schedule) -> None:
        b = bound(s)
        values = b(np.arange(2 * HORIZON))
        assert values.dtype == np.float64
        assert values.tolist() == [b(t) for t in range(2 * HORIZON)]
        assert type(b(np.int64(3))) is float
        assert np.array_equal(b(np.arange(HORIZON).reshape(4, -1)), values[:HORIZON].reshape(4, -1))
        assert np.array_equal(b.multipliers(), values[:HORIZON])
        assert b(np.array([], dtype=int)).shape == (0,)

    def test_json_repr_and_pickle_give_it_back(self, s: Schedule) -> None:
        for value in (s, bound(s), bound(s).rescale(7), 0.5 * s):
            text = json.dumps(value.to_json(), allow_nan=False)
            assert Schedule.from_json(json.loads(text)) == value
            assert eval(repr(value), vars(schedules)) == value
            assert Schedule.parse(repr(value)) == value
            assert Schedule.parse(repr(value).replace("'", "")) == value
            assert pickle.loads(pickle.dumps(value)) == value
            assert hash(pickle.loads(pickle.dumps(value))) == hash(value)
        assert np.array_equal(pickle.loads(pickle.dumps(bound(s))).multipliers(), bound(s).multipliers())

    def test_clamps_past_the_end(self, s: Schedule) -> None:
        assert len(set(bound(s)([HORIZON, HORIZON + 1, 10**6, 10**12]).tolist())) == 1

    def test_refuses_what_is_no_step(self, s: Schedule) -> None:
        for step in (-1, [3, -1], 0.5, True, "3", np.array([1.0])):
            with pytest.raises(ScheduleError, match="no step"):
                bound(s)(step)  # type: ignore[call-overload]

    @pytest.mark.parametrize("h", [1, 3, 10, 37, 400])
    def test_rescale_reads_continuous_time(self, s: Schedule, h: int) -> None:
        b = bound(s)
        short = b.rescale(h)
        assert short.horizon == h and short.decays == b.decays
        assert short(0) == b(0) and short(h) == b(HORIZON)
        assert short.rescale(HORIZON) == b
        if h == 400:
            assert np.array_equal(short(10 * np.arange(HORIZON)), b.multipliers())
        t = np.arange(h)
        np.testing.assert_allclose(short.multipliers(), b.curve(t * HORIZON / h), rtol=1e-14, atol=1e-15)

    def test_binding_is_checked(self, s: Schedule) -> None:
        for horizon in (0, -3, 2.5, True):
            with pytest.raises(ScheduleError):
                s.bind(horizon, 10)  # type: ignore[arg-type]
        assert bound(bound(s)) is not None
        with pytest.raises(ScheduleError, match="rescale"):
            bound(s).bind(HORIZON + 1)

    def test_a_call_needs_a_horizon_where_it_is_relative(self, s: Schedule) -> None:
        if s.is_relative:
            with pytest.raises(ScheduleError, match=r"\.bind\(horizon="):
                s(0)
        else:
            assert math.isfinite(s(0))

    def test_numbers_multiply(self, s: Schedule) -> None:
        np.testing.assert_allclose(bound(0.25 * s).multipliers(), 0.25 * bound(s).multipliers(), rtol=1e-15)
        assert 1 * s == s
        assert np.float64(2) * s == s * 2


def test_import_loads_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, etascope.schedules; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
