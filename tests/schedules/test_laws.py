"""Laws over random schedules."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import etascope.schedules as schedules
from etascope.schedules import (
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

lengths = st.one_of(st.integers(0, 50), st.integers(0, 10).map("{}%".format), st.just("0.5ep"))
times = st.one_of(st.integers(1, 50), st.integers(1, 10).map("{}%".format), st.just("0.5ep"))
values = st.floats(0.001, 2)
powers = st.floats(0.25, 4)
anchors = st.lists(st.integers(0, 60), min_size=1, max_size=4).map(sorted)
STRATEGIES: dict[str, st.SearchStrategy[Schedule]] = {
    "constant": st.builds(constant, lengths, values),
    "hold": st.builds(hold, lengths),
    "anneal": st.builds(anneal, lengths, values, st.sampled_from(["cosine", "linear"])),
    "linear": st.builds(linear, lengths, values, values),
    "polynomial": st.builds(polynomial, lengths, values, values, powers, powers),
    "cosine": st.builds(cosine, lengths, values, values, powers),
    "exponential": st.one_of(
        st.builds(exponential, lengths, values, values),
        st.builds(exponential, lengths, values, st.none(), st.floats(0.9, 1.05), times),
    ),
    "inverse_time": st.one_of(
        st.builds(inverse_time, times, lengths, values, st.none(), powers, st.booleans()),
        st.builds(inverse_time, st.none(), lengths, values, values),
    ),
    "inverse_sqrt": st.one_of(
        st.builds(inverse_sqrt, times, lengths, values), st.builds(inverse_sqrt, st.none(), lengths, values, values)
    ),
    "sqrt_cooldown": st.builds(sqrt_cooldown, lengths, values, values),
    "tanh": st.builds(tanh, lengths, values, values),
    "warmup": st.builds(warmup, lengths, st.one_of(st.none(), values)),
    "step_decay": st.builds(step_decay, times, values, lengths),
    "multistep": st.builds(multistep, anchors, values, lengths),
    "piecewise": anchors.flatmap(
        lambda at: st.builds(
            piecewise,
            st.just(at),
            st.lists(values, min_size=len(at) + 1, max_size=len(at) + 1),
            st.sampled_from(["constant", "linear", "cosine"]),
            lengths,
        )
    ),
    "restarts": st.one_of(
        st.builds(restarts, times, st.floats(1, 3), values, values, values, st.none(), lengths),
        st.builds(restarts, st.none(), st.floats(1, 3), values, values, values, st.integers(1, 5), lengths),
    ),
    "triangular": st.builds(triangular, times, st.floats(0, 1), values, st.floats(0, 1), lengths),
    "exp_range": st.builds(exp_range, times, st.floats(0.9, 1), st.floats(0, 1), st.floats(0, 1), lengths),
    "one_cycle": st.builds(
        one_cycle,
        st.integers(2, 10),
        values,
        values,
        st.sampled_from(["cosine", "linear"]),
        st.booleans(),
        st.booleans(),
        st.integers(20, 50),
    ),
    "wave": st.builds(wave, times, values, values, st.floats(0.1, 3), lengths),
    "noise": st.builds(noise, st.floats(0, 1), st.integers(0, 2**70), times, lengths),
}
phases = st.one_of(*STRATEGIES.values())
compounds = st.recursive(
    phases,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a >> b, inner, inner),
        st.builds(lambda a, b: a * b, inner, inner),
        st.builds(lambda a, x: x * a, inner, values),
    ),
    max_leaves=5,
)


def test_every_shape_is_drawn() -> None:
    assert STRATEGIES.keys() == SHAPES.keys()


@given(compounds, compounds, compounds)
def test_then_and_times_are_associative(a: Schedule, b: Schedule, c: Schedule) -> None:
    assert (a >> b) >> c == a >> (b >> c)
    assert ((a * b) * c).bind(1000, 20).schedule.parts == (a * (b * c)).bind(1000, 20).schedule.parts  # type: ignore[attr-defined]


@given(compounds, st.integers(400, 2000), st.integers(0, 300), st.integers(0, 50))
def test_written_and_read_is_the_same(s: Schedule, horizon: int, at: int, rewarm: int) -> None:
    b = s.bind(horizon, 20)
    for value in (s, b.rescale(100), b.extend(at, 2 * horizon, rewarm=rewarm)):
        assert Schedule.from_json(json.loads(json.dumps(value.to_json()))) == value
        assert eval(repr(value), vars(schedules)) == value
        assert Schedule.parse(repr(value)) == value
        assert Schedule.parse(repr(value).replace("'", "").replace(" ", "")) == value


@given(compounds, st.integers(400, 2000), st.integers(1, 300))
def test_rescale_keeps_the_shape(s: Schedule, horizon: int, h: int) -> None:
    b = s.bind(horizon, 20)
    assert np.array_equal(b.rescale(h * horizon)(h * np.arange(horizon + 1)), b(np.arange(horizon + 1)))
    assert np.array_equal(b.rescale(h).multipliers(), [b.rescale(h)(t) for t in range(h)])


@given(compounds, st.integers(400, 2000))
def test_an_array_is_its_scalars_in_any_order(s: Schedule, horizon: int) -> None:
    b = s.bind(horizon, 20)
    t = np.arange(2 * horizon)
    shuffled = np.random.default_rng(0).permutation(t)
    assert np.array_equal(b(shuffled), b(t)[shuffled])
    for step in shuffled[:20].tolist():
        assert b(step) == b(t)[step]


@given(compounds, st.integers(400, 2000))
def test_never_negative_unless_asked(s: Schedule, horizon: int) -> None:
    values = s.bind(horizon, 20)(np.arange(2 * horizon))
    assert np.isfinite(values).all() and (values >= 0).all()


@given(phases, phases, st.integers(400, 2000))
def test_each_phase_starts_its_own_clock(a: Schedule, b: Schedule, horizon: int) -> None:
    n = b.steps(schedules.base.Clock(horizon, 20))
    both = (constant(7) >> b).bind(horizon, 20)
    if n == int(n or 0) and not isinstance(b, hold | anneal):
        t = np.arange(300)
        assert np.array_equal(both(t + 7), b.bind(horizon, 20)(t))


SMOOTH = (
    "linear",
    "polynomial",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "sqrt_cooldown",
    "warmup",
    "wave",
    "one_cycle",
)


@settings(max_examples=200)
@given(st.sampled_from(SMOOTH).flatmap(STRATEGIES.__getitem__), st.integers(400, 2000))
def test_smooth_shapes_have_no_jumps(s: Schedule, horizon: int) -> None:
    """Where the steps of a continuous curve are divided by 16, so are the largest differences (fourth roots: by 2)."""
    n = s.steps(schedules.base.Clock(horizon, 20)) or Fraction(horizon)
    ends = [v for name in ("start", "to") if (v := getattr(s, name, None)) is not None]
    assume(n >= 1 and all(0.1 <= v <= 1 for v in ends))  # else all of it may happen within a 64th of a step
    b = s.bind(horizon, 20)
    last = min(int(n), horizon)

    def gap(fine: int) -> float:
        return float(np.abs(np.diff(b.curve(np.arange(last * fine + 1) / fine))).max())

    assert gap(1024) <= 0.75 * gap(64) + 1e-9


@given(st.sampled_from(["linear", "polynomial", "cosine", "sqrt_cooldown", "exponential"]), values, values, times)
def test_start_and_to_mean_the_same_everywhere(name: str, start: float, to: float, length: int | str) -> None:
    b = SHAPES[name](length=length, start=start, to=to).bind(1000, 20)  # type: ignore[call-arg]
    np.testing.assert_allclose(b([0, 1000]), [start, to], rtol=1e-12)


@given(compounds, st.integers(400, 2000), st.data())
def test_extended_is_itself_before_and_goes_on_from_there(s: Schedule, horizon: int, data: st.DataObject) -> None:
    b = s.bind(horizon, 20)
    at = data.draw(st.integers(0, horizon - 1))
    longer = horizon + data.draw(st.integers(1, 1000))
    t = np.arange(at)
    for keep in ("fraction", "value", "schedule"):
        try:
            e = b.extend(at, longer, keep)
        except schedules.base.ScheduleError:
            continue
        assert e.horizon == longer and np.array_equal(e(t), b(t))
        if keep != "schedule":
            np.testing.assert_allclose(e(at), b(at), rtol=1e-12)
    assert b.extend(at, longer)(10**9) == b(10**9)
    if at:
        again = b.extend(at, longer).extend(at, horizon)  # a stretch taken back
        np.testing.assert_allclose(again.multipliers()[: at + 1], b.multipliers()[: at + 1], rtol=1e-12)
