"""What a bound schedule can do beside its values: explain, lint, extend, plot; and batch sizes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.schedules.members import MEMBERS

import etascope as eta
from etascope.errors import ScheduleError
from etascope.schedules import (
    Bound,
    Schedule,
    as_schedule,
    batch_sizes,
    constant,
    cosine,
    exp_range,
    hold,
    linear,
    noise,
    one_cycle,
    restarts,
    step_decay,
    tri_stage,
    triangular,
    warmup,
    wave,
)


@pytest.mark.parametrize("s", [*MEMBERS, as_schedule(abs)], ids=repr)
def test_every_step_of_every_shape_is_explained_with_its_value(s: Schedule) -> None:
    b = s.bind(40, 10)
    for t in (0, 1, 7, 20, 39, 40, 1000):
        said = b.explain(t)
        assert said.startswith(f"Step {t:,} of 40 has {b(t):.6g} of the peak lr: ") and said.endswith(".")
    assert len({b.rescale(10).explain(t) for t in range(5)}) == 5


class TestExplain:
    def test_names_the_phase_its_formula_and_the_lr(self) -> None:
        b = (warmup("5%") >> cosine(to=0.1)).bind(100)
        assert b.explain(2, lr=2e-3) == (
            "Step 2 of 100 has the lr 0.001 (0.5 · 0.002): "
            "phase 1 of 2, warmup('5%'), 2 of 5 steps in: (2 + 1) / (5 + 1)."
        )
        assert "phase 2 of 2, cosine(to=0.1), 19 of 95 steps in: " in b.explain(24)
        assert "past the end, where the last value stays" in b.explain(100)

    def test_the_formula_said_is_the_value(self) -> None:
        """The arithmetic in the sentence, worked out."""
        for s in (linear(to=0.25), cosine(to=0.1), step_decay(30), warmup(60) >> constant()):
            b = s.bind(100)
            said = b.explain(50).rstrip(".").split(" in: ")[-1]
            formula, _, where = said.partition(" with ")
            names: dict[str, Any] = {"cos": np.cos, "π": np.pi}
            if where:
                name, value = where.split(" = ", 1)
                names[name] = eval(python(value), names)
            assert eval(python(formula.split(" = ")[0]), names) == pytest.approx(b(50))

    def test_names_all_factors(self) -> None:
        said = (0.5 * cosine() * noise()).bind(100).explain(5)
        assert "0.5 times" in said and "cosine()" in said and "noise()" in said

    def test_a_step_before_0_is_refused(self) -> None:
        with pytest.raises(ScheduleError, match="no step"):
            cosine().bind(10).explain(-1)


def python(formula: str) -> str:
    for a, b in (("·", "*"), ("−", "-"), ("^", "**"), ("⌊", "int("), ("⌋", ")")):
        formula = formula.replace(a, b)
    return formula


def codes(b: Bound, *args: Any, **kw: Any) -> list[str]:
    return [remark.code for remark in b.lint(*args, **kw)]


class TestLint:
    @pytest.mark.parametrize(
        "s",
        [
            warmup("5%") >> cosine(to=0.1),
            constant(),
            linear(),
            step_decay("30%"),
            restarts(cycles=3),
            warmup(500) >> constant() >> linear("20%"),
            eta.one_cycle(),
            eta.triangular("25%"),
            hold(),
        ],
        ids=repr,
    )
    def test_nothing_is_said_of_what_is_meant(self, s: Schedule) -> None:
        assert s.bind(10_000).lint() == ()

    def test_horizon(self) -> None:
        b = cosine(to=0.1).bind(1000)
        assert codes(b, run=1500) == ["horizon"] and "last 500 stay at 0.1" in b.lint(run=1500)[0].text
        assert codes(b, run=500) == ["horizon"] and "ends at 0.55" in b.lint(run=500)[0].text
        assert codes(b, run=1000) == []

    def test_rebound(self) -> None:
        assert codes(wave(600).bind(1000)) == ["rebound"]
        assert wave(600).bind(1000).lint()[0].step == 600
        assert codes(restarts(400).bind(1000)) == ["rebound"]
        assert codes(restarts(500).bind(1000)) == []

    def test_idle(self) -> None:
        assert codes((warmup(500) >> cosine(1000)).bind(20_000)) == ["idle"]
        assert codes((warmup(500) >> cosine(1000, to=0.1)).bind(20_000)) == ["idle"]
        assert codes((warmup(500) >> cosine(1000, to=0.1) >> hold()).bind(20_000)) == []
        assert codes(cosine(0).bind(1000))[0] == codes((0 * cosine()).bind(10))[0] == "idle"

    def test_sign(self) -> None:
        assert codes(linear(to=-1).bind(1000)) == ["sign"]
        assert "sign" in codes(constant(value=-1).bind(10)) and "rebound" not in codes(constant(value=-1).bind(10))

    def test_what_extend_and_recipes_do_on_purpose(self) -> None:
        b = (warmup("5%") >> cosine(to=0.1)).bind(100)
        assert codes(b.extend(50, 200, rewarm=50)) == []
        assert codes(tri_stage().bind(1000)) == []
        for horizon in range(190, 1200, 13):
            for s in (triangular("4ep"), exp_range("4ep"), constant() * noise(0.3)):
                assert codes(s.bind(horizon, 50)) == []
        assert codes((warmup(5) >> linear(90) >> hold()).bind(95)) == []

    def test_zero_start(self) -> None:
        assert codes((warmup("5%", start=0) >> cosine()).bind(1000)) == ["zero-start"]

    def test_jump(self) -> None:
        remarks = (cosine("50%") >> linear()).bind(1000).lint()
        assert [(r.code, r.step) for r in remarks] == [("jump", 500)]
        assert codes((warmup("10%") >> cosine(start=0.01)).bind(1000)) == ["jump"]
        assert codes((warmup("10%") >> cosine(start=0.01)).bind(1000), jump=1e3) == []
        assert codes(as_schedule(lambda t: 1.0 if t < 50 else 0.01).bind(100)) == ["jump"]

    def test_empty_phase(self) -> None:
        assert codes((warmup("1%") >> cosine()).bind(20)) == ["empty-phase"]
        assert codes((warmup(20) >> cosine()).bind(1000).rescale(10)) == ["empty-phase"]
        assert codes((warmup(0) >> cosine()).bind(20)) == []

    def test_warmup(self) -> None:
        assert codes((warmup(500) >> cosine()).bind(1000), run=300) == ["horizon", "warmup"]

    def test_edge(self) -> None:
        finding: Any = SimpleNamespace(lr=1e-2, edge=3e-2)
        b = cosine().bind(100)
        assert codes(b, finding=finding) == []
        assert codes(b, finding=finding, lr=4e-2) == ["edge"]
        assert codes((4 * cosine()).bind(100), finding=finding) == ["edge"]
        assert codes(b, finding=SimpleNamespace(lr=1e-2, edge=None)) == []

    def test_remarks_say_what_to_do(self) -> None:
        for r in (warmup("5%", start=0) >> wave(300)).bind(1000).lint(run=900):
            assert r.text.endswith(".") and r.next_move.endswith(".") and str(r).startswith(r.code)

    def test_bad_arguments(self) -> None:
        for kw in ({"run": 0}, {"jump": 1.0}, {"jump": "x"}):
            with pytest.raises(ScheduleError):
                cosine().bind(10).lint(**kw)  # type: ignore[arg-type]


class TestExtend:
    def test_by_fraction_what_was_left_is_stretched(self) -> None:
        e = linear().bind(100).extend(50, 150)
        np.testing.assert_allclose(e([0, 50, 100, 150]), [1, 0.5, 0.25, 0])

    def test_by_value_the_new_runs_shape_goes_on_from_the_present_value(self) -> None:
        e = linear().bind(100).extend(50, 200, "value")
        np.testing.assert_allclose(e([50, 125, 200]), [0.5, 0.25, 0])

    def test_by_schedule_it_is_as_if_it_had_always_been_longer(self) -> None:
        b = (warmup("10%") >> cosine()).bind(100)
        e = b.extend(100, 200, "schedule")
        t = np.arange(100, 200)
        assert np.array_equal(e(t), b.schedule.bind(200)(t))

    def test_rewarm_climbs_from_near_0(self) -> None:
        e = constant().bind(100).extend(40, 100, rewarm=4)
        np.testing.assert_allclose(e([39, 40, 41, 42, 43, 44, 99]), [1, 0.2, 0.4, 0.6, 0.8, 1, 1])

    def test_twice(self) -> None:
        once = linear().bind(100).extend(50, 150)
        twice = once.extend(100, 200)
        assert np.array_equal(twice(np.arange(100)), once(np.arange(100)))
        np.testing.assert_allclose(twice([100, 150, 200]), [0.25, 0.125, 0])
        assert once.extend(100, 400, "schedule")(200) == 0.5

    def test_a_rescaled_one(self) -> None:
        b = (warmup(20) >> linear()).bind(100).rescale(50)
        t = np.arange(30, 100)
        truth = b.schedule.bind(200).rescale(100)(t)  # its warmup has 10 steps, as it has here
        assert np.array_equal(b.extend(30, 100, "schedule")(t), truth)
        assert np.array_equal(b.extend(10, 50).extend(30, 100, "schedule")(t), truth)

    def test_what_was_left_is_stretched_whatever_the_phases_would_take_anew(self) -> None:
        e = (warmup(50) >> linear(50)).bind(100).extend(70, 80)
        np.testing.assert_allclose(e([70, 75, 80]), [0.6, 0.3, 0], atol=1e-15)

    def test_a_shorter_run(self) -> None:
        np.testing.assert_allclose(linear().bind(100).extend(50, 75)([50, 75]), [0.5, 0])

    @pytest.mark.parametrize(
        ("args", "cause", "move"),
        [
            ((50, 50), "at step 50", "beyond"),
            ((100, 200), "is over", "schedule"),
            ((100, 200, "value"), "no factor", "rewarm"),
            ((5, 2000, ["value"]), "keep is", "fraction"),
            ((50, 200, "speed"), "keep is", "fraction"),
            ((50, 60, "fraction", 20), "longer than the 10 steps", "fewer"),
            ((-1, 60), "at is -1", "at least 0"),
            ((5, 6.5), "horizon is 6.5", "whole"),
        ],
    )
    def test_what_cannot_be(self, args: Any, cause: str, move: str) -> None:
        with pytest.raises(ScheduleError, match=cause) as error:
            linear().bind(100).extend(*args)
        assert move in error.value.next_move

    def test_a_value_is_not_kept_by_raising_all_that_follows(self) -> None:
        with pytest.raises(ScheduleError, match=r"raised, to 19\.6 of the peak"):
            (warmup("5%") >> cosine()).bind(1000).extend(50, 20_000, "value")
        with pytest.raises(ScheduleError, match="no factor"):
            linear(to=-1).bind(100).extend(75, 200, "value")


class TestBind:
    """Everything that can be wrong shows at bind, not at a step."""

    @pytest.mark.parametrize(
        ("text", "horizon", "cause"),
        [
            ("constant(60%) >> constant(41%) >> linear()", 100, "takes 101 steps"),
            ("warmup(101) >> cosine()", 100, "takes 101 steps"),
            ("constant(100%) >> constant(100%) >> linear()", 1, "takes 2 steps"),
            ("constant() * (constant(3) >> constant(3))", 5, "takes 6 steps"),
            ("warmup(10) >> step_decay(2ep)", 100, "how long an epoch is"),
            ("restarts(2ep)", 100, "how long an epoch is"),
            ("warmup(80%) >> one_cycle()", 100, "at most '20%' here"),
            ("one_cycle(500)", 100, "at step 500 of a phase of 100"),
            ("piecewise([50%, 10], [1, 2, 3])", 100, "not in order"),
            ("restarts(cycles=5000, growth=2)", 100, "beyond all numbers"),
            ("exponential(factor=2)", 5000, "to inf in 5,000 steps"),
            ("inverse_time(to=1e-320)", 10, "no lr"),
        ],
    )
    def test_shows_at_bind(self, text: str, horizon: int, cause: str) -> None:
        with pytest.raises(ScheduleError) as error:
            Schedule.parse(text).bind(horizon)
        assert cause in str(error.value)

    def test_rounded_phases_hold_the_peak_that_they_should(self) -> None:
        for horizon in range(1, 400):
            (warmup("10%") >> one_cycle("90%")).bind(horizon).multipliers()
            (constant("50%") >> one_cycle("25%", three_phase=True)).bind(horizon).multipliers()

    def test_values_of_the_wrong_kind(self) -> None:
        for make in (
            lambda: linear(to=10**400),
            lambda: linear(to=np.array([0.5, 1])),
            lambda: linear(to=np.complex128(1 + 1j)),  # type: ignore[arg-type]
            lambda: linear("٥%"),
            lambda: 1e308 * (1e308 * constant()),
            lambda: linear().bind(10**400),
            lambda: linear().bind(10)([[1], [3, 4]]),  # type: ignore[list-item]
            lambda: linear().bind(10).explain([1, 2]),  # type: ignore[arg-type]
            lambda: linear().bind(10).explain(3, lr=float("nan")),
            lambda: linear().bind(10).plot(lr="x"),  # type: ignore[arg-type]
            lambda: batch_sizes(linear(), 32),  # type: ignore[arg-type]
            lambda: Bound(cosine().bind(50), 100, None, 100),
            lambda: Schedule.from_json({"schema": 1, "kind": "linear", 5: 1, "x": 2}),  # type: ignore[dict-item]
            lambda: Schedule.from_json({"schema": True, "kind": "linear"}),
            lambda: as_schedule(lambda t: np.array([0.5, 1])).bind(10)(3),  # type: ignore[arg-type, return-value]
        ):
            with pytest.raises(ScheduleError):
                make()

    def test_nested_too_deeply(self) -> None:
        data: dict[str, Any] = {"kind": "linear"}
        for _ in range(3000):
            data = {"kind": "times", "scale": 1.0, "parts": [data]}
        with pytest.raises(ScheduleError, match="within schedules"):
            Schedule.from_json({"schema": 1} | data)

    def test_bound_to_something_else_says_to_what(self) -> None:
        with pytest.raises(ScheduleError) as error:
            cosine().bind(100).bind(100, 5)
        assert "bind(100, steps_per_epoch=5)" in error.value.next_move


class TestPlot:
    @pytest.mark.parametrize("horizon", [1, 2, 50, 20_000])
    def test_drawn_and_in_characters(self, horizon: int, tmp_path: Any) -> None:
        plot = (warmup("5%") >> restarts("20%", to=0.1)).bind(horizon).plot(lr=2e-3)
        assert plot.svg.startswith("<svg") and "<path" in plot.svg
        assert "2e-3" in str(plot) and f"{horizon:,} steps" in str(plot)
        assert plot.save(tmp_path / "s.svg").read_text().startswith("<svg")

    def test_constants_zeros_and_negatives(self) -> None:
        for s in (constant(value=0), constant(value=-1), linear(to=-1), constant()):
            plot = eta.plot(s.bind(100))
            assert plot.svg and len(set(map(len, str(plot).split("\n")[1:-2]))) == 1

    def test_a_peak_is_as_high_as_the_chart(self) -> None:
        rows = str(linear().bind(64).plot()).split("\n")
        assert rows[1].endswith("│█" + " " * 63) or "│█" in rows[1]
        assert rows[10].count("█") + rows[10].count("▅") > 50


class TestBatchSizes:
    def test_they_grow_as_the_lr_would_fall(self) -> None:
        assert batch_sizes(step_decay(2, factor=0.5).bind(6), 32).tolist() == [32, 32, 64, 64, 128, 128]
        sizes = batch_sizes(cosine().bind(100), 30, most=960, multiple_of=10)
        assert sizes[0] == 30 and sizes[-1] == 960 and (np.diff(sizes) >= 0).all() and not (sizes % 10).any()
        assert batch_sizes(constant(value=0).bind(3), 8).tolist() == [512] * 3

    def test_sizes_that_do_not_fit(self) -> None:
        for args in ((0,), (10, 5), (10, 100, 3)):
            with pytest.raises(ScheduleError):
                batch_sizes(cosine().bind(10), *args)


def test_noise_is_uniform_and_of_each_step_its_own() -> None:
    n = 100_000
    z = noise(1.0, seed=5).bind(n).multipliers() - 1
    assert abs(z.mean()) < 0.01 and abs(z.std() - 3**-0.5) < 0.005 and abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 0.01
    other = noise(1.0, seed=6).bind(n).multipliers() - 1
    assert abs(np.corrcoef(z, other)[0, 1]) < 0.01
    assert noise(1.0, seed=5).bind(10)(7) - 1 == z[7]
