"""Laws over random schedules."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import etascope.schedules as schedules
from etascope.schedules import Schedule, constant, cosine, exponential, hold, linear, step_decay, warmup

lengths = st.one_of(st.integers(0, 50), st.integers(0, 10).map("{}%".format), st.just("0.5ep"))
values = st.floats(0.001, 2)
phases = st.one_of(
    st.builds(constant, lengths, values),
    st.builds(hold, lengths),
    st.builds(linear, lengths, values, values),
    st.builds(cosine, lengths, values, values),
    st.builds(exponential, lengths, values, values),
    st.builds(step_decay, st.integers(1, 20), values, lengths),
    st.builds(warmup, lengths, st.one_of(st.none(), values)),
)
compounds = st.recursive(
    phases,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a >> b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, x: x * a, inner, values),
    ),
    max_leaves=5,
)


@given(compounds, compounds, compounds)
def test_then_and_times_are_associative(a: Schedule, b: Schedule, c: Schedule) -> None:
    assert (a >> b) >> c == a >> (b >> c)
    assert ((a * b) * c).bind(1000, 20).schedule.parts == (a * (b * c)).bind(1000, 20).schedule.parts  # type: ignore[attr-defined]


@given(compounds, st.integers(400, 2000))
def test_written_and_read_is_the_same(s: Schedule, horizon: int) -> None:
    for value in (s, s.bind(horizon, 20).rescale(100)):
        assert Schedule.from_json(json.loads(json.dumps(value.to_json()))) == value
        assert eval(repr(value), vars(schedules)) == value


@given(compounds, st.integers(400, 2000), st.integers(1, 300))
def test_rescale_keeps_the_shape(s: Schedule, horizon: int, h: int) -> None:
    b = s.bind(horizon, 20)
    assert np.array_equal(b.rescale(h * horizon)(h * np.arange(horizon + 1)), b(np.arange(horizon + 1)))
    assert np.array_equal(b.rescale(h).multipliers(), [b.rescale(h)(t) for t in range(h)])


@given(phases, phases, st.integers(400, 2000))
def test_each_phase_starts_its_own_clock(a: Schedule, b: Schedule, horizon: int) -> None:
    n = b.steps(schedules.base.Clock(horizon, 20))
    both = (constant(7) >> b).bind(horizon, 20)
    if n == int(n or 0) and not isinstance(b, hold):
        t = np.arange(300)
        assert np.array_equal(both(t + 7), b.bind(horizon, 20)(t))
