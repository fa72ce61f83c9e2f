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
    hold,
    linear,
    noise,
    restarts,
    step_decay,
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
        assert codes((warmup(20) >> cosine()).bind(1000).rescale(10)) == ["jump", "empty-phase"]
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
        e = b.extend(30, 100, "schedule")
        assert np.array_equal(e(np.arange(30, 100)), b.rescale(100)(np.arange(30, 100)))

    def test_a_shorter_run(self) -> None:
        np.testing.assert_allclose(linear().bind(100).extend(50, 75)([50, 75]), [0.5, 0])

    @pytest.mark.parametrize(
        ("args", "cause", "move"),
        [
            ((50, 50), "at step 50", "beyond"),
            ((100, 200), "is over", "schedule"),
            ((100, 200, "value"), "with a 0", "rewarm"),
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
