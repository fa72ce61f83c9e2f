"""Values and errors that were decided by hand."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from etascope.errors import ScheduleError
from etascope.schedules import (
    Foreign,
    Schedule,
    as_schedule,
    constant,
    cosine,
    exponential,
    hold,
    linear,
    restarts,
    step_decay,
    warmup,
    wave,
)


def near(values: Any, expected: Any) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)


def test_cosine_is_torchs_until_its_end_and_then_stays() -> None:
    #                                  0    1        2        3        4         5    6    7
    near(0.5 * cosine(5)(np.arange(8)), [0.5, 0.452254, 0.327254, 0.172746, 0.0477458, 0.0, 0.0, 0.0])


def test_warmup_inside_the_horizon_as_optax_and_transformers() -> None:
    near((warmup(2, start=0) >> cosine()).bind(6)(np.arange(8)), [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0, 0])


def test_warmup_times_cosine_as_keras_start() -> None:
    near((warmup(2, start=0) * cosine()).bind(6)([0, 2, 3]), [0, 0.75, 0.5])


def test_linear_then_exponential_as_torch_sequential() -> None:
    s = linear(5, start=0.1, to=1) >> exponential(3, to=0.9**3)
    near(s(np.arange(8)), [0.1, 0.28, 0.46, 0.64, 0.82, 1, 0.9, 0.81])


def test_a_wave_with_a_phase_is_a_cosine_entered_late() -> None:
    near(wave(10, to=0.2, phase=3 / 20, length=7)(np.arange(8)), cosine(10, to=0.2)(np.arange(3, 11)))


def test_power_of_a_cosine_is_of_its_height() -> None:
    near(cosine(4, to=0.2, power=2)(np.arange(5)), 0.2 + 0.8 * cosine(4)(np.arange(5)) ** 2)


def test_peak_factor_is_of_the_peak_or_of_the_height_above_to() -> None:
    near(restarts(2, peak_factor=0.5, to=0.2).bind(6).multipliers(), [1, 0.6, 0.5, 0.35, 0.25, 0.225])
    near(restarts(2, peak_factor=0.5, to=0.2, above_to=True).bind(6).multipliers(), [1, 0.6, 0.6, 0.4, 0.4, 0.3])


def test_step_decay_changes_at_the_step() -> None:
    near(step_decay(3).bind(9)(np.arange(10)), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])
    near((step_decay(3, length=6) >> hold()).bind(9)(np.arange(10)), [1, 1, 1] + 7 * [0.1])


@pytest.mark.parametrize("every", ["10%", "33%", "33.3%", "12.5%", "7%", 7, 11])
def test_step_decay_changes_at_the_step_after_rescale_too(every: int | str) -> None:
    """A drop at u = k · every, in exact numbers, whatever the rounding of u."""
    for full, short in [(914, 20), (54, 30), (2303, 100), (3000, 2999)]:
        n = Fraction(every[:-1]) / 100 * full if isinstance(every, str) else Fraction(every)
        last = math.ceil(full / n) - 1
        drops = [min(math.floor(Fraction(t * full, short) / n), last) for t in range(short)]
        found = step_decay(every, factor=0.5).bind(full).rescale(short).multipliers()
        assert found.tolist() == [0.5**k for k in drops]


def test_hold_goes_on_with_its_neighbour() -> None:
    near((hold(2) >> hold(1) >> linear(4, start=0.5) >> hold()).bind(9)(np.arange(9)),
         [0.5, 0.5, 0.5, 0.5, 0.375, 0.25, 0.125, 0, 0])  # fmt: skip
    near(hold().bind(3)([0, 9]), [1, 1])
    near((linear(4, to=0.2) >> 0.5 * hold()).bind(9)([4, 9]), [0.1, 0.1])
    near((linear(4, to=0.2) >> 2 * (hold(3) >> linear(to=0.0))).bind(9)([4, 6, 7, 9]), [0.4, 0.4, 2, 0])


def test_boundaries_are_rounded_not_lengths() -> None:
    near(
        (constant("50%", value=0.3) >> constant("50%", value=0.7)).bind(5).multipliers(),
        [0.3] * 3 + [0.7] * 2,
    )
    (constant("70%") >> constant("20%") >> constant("10%")).bind(7)
    (constant(7) >> constant("1%") * (warmup("0.5%") >> constant("0.5%"))).bind(401)
    (constant("33.3%") >> constant() >> constant("66.7%")).bind(1000)


def test_a_phase_rounded_to_nothing_takes_no_step_and_still_arrives() -> None:
    near((linear("1%", start=0.5, to=0.2) >> hold()).bind(30).multipliers(), [0.2] * 30)
    near((warmup("1%") >> linear()).bind(4).multipliers(), [1, 0.75, 0.5, 0.25])
    near(warmup(0)([0, 1]), [1, 1])


def test_a_short_run_is_a_complete_run() -> None:
    b = (warmup(20) >> linear()).bind(100)
    near(b.rescale(10).multipliers(), [1 / 21, 11 / 21, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_a_foreign_function_is_read_at_whole_steps() -> None:
    s = as_schedule(lambda t: float(t))
    near(s.bind(10).rescale(4).multipliers(), [0, 2, 5, 7])
    near(s.bind(10)([9, 10, 99]), [9, 9, 9])
    near((constant(3) >> s).bind(10)([2, 3, 4, 9, 10]), [1, 0, 1, 6, 6])
    assert np.array_equal(s.bind(10)([[1, 2], [3, 4]]), [[1, 2], [3, 4]])


def test_a_foreign_function_is_asked_only_for_steps_that_are_read() -> None:
    asked: list[int] = []
    b = as_schedule(lambda t: asked.append(t) or 1.0).bind(10)
    assert not asked
    b(3)
    assert asked == [3]


def test_as_schedule() -> None:
    s = cosine()
    assert as_schedule(None) == constant() and as_schedule(s) is s and isinstance(as_schedule(abs), Foreign)
    assert as_schedule(abs) == as_schedule(abs) != as_schedule(max)
    assert as_schedule(abs).to_json() == {"schema": 1, "kind": "foreign", "name": "abs"}
    for wrong in (cosine, 3, "cosine"):
        with pytest.raises(ScheduleError):
            as_schedule(wrong)  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="as_schedule"):
        Schedule.from_json(as_schedule(abs).to_json())
    with pytest.raises(ScheduleError, match="at step 2"):
        as_schedule(lambda t: float("nan")).bind(5)(2)


def test_decays() -> None:
    def decays(s: Schedule) -> bool:
        return s.bind(100).decays

    assert decays(cosine(to=0.1)) and decays(warmup("5%") >> linear()) and decays(step_decay("30%"))
    assert not decays(constant()) and not decays(warmup("5%") >> constant()) and not decays(linear(to=0.6))
    assert cosine().bind(100).rescale(1).decays


def test_equality_and_normal_forms() -> None:
    assert cosine(to=0) == cosine() and repr(cosine(to=0)) == "cosine()"
    assert warmup("5 %") == warmup("5%") and warmup(np.int64(5)) == warmup(5)
    assert 2 * cosine() * 3 == cosine() * 6 and 2 * cosine() * 0.5 == cosine()
    assert len({cosine(), linear(), cosine(), cosine(5)}) == 3
    assert repr(warmup(500) >> constant(3000) >> linear(1000)) == "warmup(500) >> constant(3000) >> linear(1000)"
    assert repr((warmup("5%") >> cosine()) * 0.5) == "0.5 * (warmup('5%') >> cosine())"
    assert repr(cosine(to=0.1).bind(10).rescale(4)) == "cosine(to=0.1).bind(10).rescale(4)"


@pytest.mark.parametrize(
    ("build", "cause", "move"),
    [
        (lambda: warmup(0.05), "float is a value", "'5%'"),  # type: ignore[arg-type]
        (lambda: warmup(500.0), "float is a value", r"steps \(500\)"),  # type: ignore[arg-type]
        (lambda: warmup(float("nan")), "float is a value", "'5%'"),  # type: ignore[arg-type]
        (lambda: warmup("500"), "no unit", "2ep"),
        (lambda: warmup("-5%"), "no unit", "5%"),
        (lambda: warmup("5 epochs"), "no unit", "2ep"),
        (lambda: warmup("120%"), "more than the whole", "100%"),
        (lambda: warmup(-1), "is -1", "at least 0"),
        (lambda: warmup(True), "is True", "at least 0"),
        (lambda: cosine(to="10%"), "not a number", "0.1"),  # type: ignore[arg-type]
        (lambda: cosine(to=float("inf")), "inf", "finite"),
        (lambda: cosine(to=None), "None", "finite"),  # type: ignore[arg-type]
        (lambda: exponential(to=0), "never reaches 0", "cosine"),
        (lambda: step_decay(0), "is 0", "30%"),
        (lambda: warmup(None), "is None", "at least 0"),  # type: ignore[arg-type]
        (lambda: cosine().rescale(10), "not bound", r"bind\(horizon=2000\)\.rescale\(10\)"),
        (lambda: (warmup("1ep") >> cosine()).rescale(10), "not bound", r"bind\(horizon=2000, steps_per_epoch=500\)"),
        (lambda: (warmup(5) >> cosine(10)).rescale(10), "not bound", r"bind\(horizon=2000\)\.rescale\(10\)"),
        (lambda: as_schedule(lambda t: 1 / (t - 5)).bind(10)(5), "raised ZeroDivisionError at step 5", "Mend"),
        (lambda: step_decay(None), "is None", "at least 0"),  # type: ignore[arg-type]
        (lambda: cosine() >> linear(), "only one can take the rest", r"cosine\('30%'\)"),
        (lambda: float("nan") * cosine(), "factor", "finite"),
        (lambda: (warmup(60) >> linear("50%")).bind(100), "takes 110 steps, .* gives it 100", "110 steps"),
        (lambda: (constant("60%") >> linear("40.5%")).bind(100), "takes 100.5 steps", "101 steps"),
        (lambda: (cosine(500) * constant()).bind(100), "takes 500 steps", "500"),
        (lambda: cosine(500).bind(100), "takes 500 steps", "500"),
        (lambda: warmup("2ep").bind(100), "how long an epoch is", r"steps_per_epoch="),
        (lambda: (warmup("2ep") >> cosine())(3), "depends on the horizon", "steps_per_epoch"),
        (lambda: cosine()(3), "depends on the horizon", r"\(cosine\(\)\)\.bind\(horizon="),
        (lambda: Schedule.from_json({"kind": "cosine"}), "schema 1", "newer"),
        (lambda: Schedule.from_json({"schema": 2, "kind": "cosine"}), "found 2", "newer"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "cosin"}), "no kind", "cosine"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "shape"}), "no kind", "cosine"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "cosine", "too": 1}), "no field too", "start"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "step_decay"}), "lacks every", "every"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "then", "parts": []}), "parts", "list"),
        (lambda: Schedule.from_json({"schema": 1, "kind": "cosine", "to": "x"}), "not a number", "finite"),
    ],
)
def test_errors_name_the_cause_and_the_next_move(build: Any, cause: str, move: str) -> None:
    with pytest.raises(ScheduleError, match=cause) as error:
        build()
    assert re.search(move, error.value.next_move)


def test_operators_leave_strangers_alone() -> None:
    with pytest.raises(TypeError):
        cosine() >> 3  # type: ignore[operator]
    with pytest.raises(TypeError):
        cosine() * "3"  # type: ignore[operator]
