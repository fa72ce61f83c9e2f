"""What the other libraries' schedules do, said in our shapes, with figures that were taken from them.

Where two libraries disagree, each convention has a name here. The imports of living objects are compared with the
libraries themselves in tests/integrations.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from etascope.schedules import (
    Schedule,
    constant,
    cosine,
    exp_range,
    exponential,
    hold,
    linear,
    multistep,
    one_cycle,
    piecewise,
    restarts,
    sqrt_cooldown,
    triangular2,
    warmup,
    wave,
)


def near(values: Any, expected: Any, atol: float = 1e-6) -> None:
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol)


def run(s: Schedule, steps: int, horizon: int = 1000) -> Any:
    return s.bind(horizon)(np.arange(steps))


class TestPastTheEnd:
    """Case 1."""

    FALL = (0.5, 0.452254, 0.327254, 0.172746, 0.0477458, 0)

    def test_ours_stays(self) -> None:
        near(run(0.5 * cosine(5) >> hold(), 8), [*self.FALL, 0, 0])
        near(0.5 * cosine(5)(np.arange(8)), [*self.FALL, 0, 0])

    def test_torchs_rebounds(self) -> None:
        near(run(0.5 * wave(5), 11), [*self.FALL, *self.FALL[-2::-1]])

    def test_transformers_rebounds(self) -> None:
        #                        0  1    2     6  7        10
        near(run(warmup(2, start=0) >> wave(4), 11)[[0, 1, 2, 6, 7, 10]], [0, 0.5, 1, 0, 0.146447, 1])

    def test_no_steps_divide_nothing(self) -> None:
        near((cosine(0) >> hold()).bind(3)([0, 1]), [0, 0])


class TestRestarts:
    """Cases 2 and 3."""

    def test_growing_twofold(self) -> None:
        expected = [0.5, 0.5, 0.25, 0.5, 0.426777, 0.25, 0.0732233, 0.5, 0.480970]
        near(run(restarts(1, growth=2, start=0.5), 9), expected)

    def test_growing_by_half(self) -> None:
        b = restarts(3000, growth=1.5).bind(20_000)
        near(b([0, 1000, 3000, 4500, 7500, 14250]), [1, 0.75, 1, 0.75, 1, 1], atol=1e-12)

    @pytest.mark.parametrize(("growth", "t"), [(3, 121), (10, 111)])
    def test_no_rounding_of_logarithms(self, growth: int, t: int) -> None:
        assert restarts(1, growth=growth).bind(1000)(t) == 1.0

    @pytest.mark.parametrize("growth", [2, 3, 5, 10])
    def test_every_restart_is_at_its_peak(self, growth: int) -> None:
        begins = np.cumsum([0, *(growth**i for i in range(12))])
        assert (restarts(1, growth=growth).bind(int(begins[-1]) + 5)(begins) == 1.0).all()


class TestCycles:
    """Case 4."""

    def test_exp_range_counts_steps_not_cycles(self) -> None:
        expected = [0.1, 0.3025, 0.4645, 0.592075, 0.69049, 0.498581, 0.339148, 0.207617, 0.1, 0.187170]
        near(run(exp_range(8, factor=0.9, low=0.1), 10), expected)

    def test_triangular2_halves_its_peaks(self) -> None:
        near(run(triangular2(8, low=0.1), 13)[[4, 12]], [1.0, 0.55])


class TestOneCycle:
    """Case 5: the ends. `at_last` is torch's convention."""

    def test_torchs_arrives_at_its_last_step(self) -> None:
        b = one_cycle(at_last=True).bind(10)
        near(b([0, 1, 2, 3]), [0.04, 0.52, 1, 0.950485])
        near(b([9, 10, 11]), [4e-6] * 3, atol=1e-15)  # torch goes on to .0495194, and then raises

    def test_a_peak_at_the_first_step_divides_nothing(self) -> None:
        near(one_cycle(1, at_last=True).bind(10)([0, 9]), [1, 4e-6])
        near(one_cycle("0%", at_last=True).bind(10)(0), 0.975528)
        near(one_cycle("0%").bind(10)([0, 10]), [1, 4e-6])

    def test_final_lr_by_either_convention(self) -> None:
        near(one_cycle(to=1 / 25 / 1e4).bind(10)(10), 4e-6, 1e-15)  # torch, optax: peak / (div · final_div)
        near(one_cycle(to=1 / 1e5).bind(10)(10), 1e-5, 1e-15)  # fastai: peak / div_final

    def test_optax_linear(self) -> None:
        s = piecewise([3, 7, 10], [100, 1000, 100, 1], by="linear")
        near(run(s, 12), [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1])

    def test_three_phases(self) -> None:
        near(
            one_cycle(3, start=0.1, to=0, by="linear", three_phase=True).bind(10)([0, 3, 6, 8, 10]),
            [0.1, 1, 0.1, 0.05, 0],
        )


class TestWarmup:
    """Case 6: inside the horizon, outside it, over it."""

    def test_inside_as_optax_and_transformers(self) -> None:
        near((warmup(2, start=0) >> cosine()).bind(6)(np.arange(7)), [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0])

    def test_outside_as_keras(self) -> None:
        expected = [0, 0.5, 1, 0.933013, 0.75, 0.5, 0.25, 0.066987, 0]
        near((warmup(2, start=0) >> cosine(6) >> hold()).bind(8)(np.arange(9)), expected)

    def test_over_it_as_timm_without_prefix(self) -> None:
        """The cosine has run all along under the warmup: said as what is left of it, cut out of the whole."""
        whole = cosine().bind(10)
        rest = piecewise(list(range(1, 6)), [whole(t) for t in range(5, 11)])
        near((linear(5, start=0, to=1) >> rest).bind(10)([3, 4, 5, 6]), [0.6, 0.8, 0.5, whole(6)])

    def test_ignite(self) -> None:
        near(
            (linear(2, start=0, to=0.1) >> 0.1 * exponential(factor=0.98)).bind(9)(np.arange(4)), [0, 0.05, 0.1, 0.098]
        )


class TestBoundaries:
    """Case 7."""

    def test_torch_and_optax_change_at_the_step(self) -> None:
        near(run(multistep([3, 6]), 8), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])
        near(run(piecewise([3, 6], [1, 0.1, 0.01]), 8), [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01])

    def test_keras_changes_after_it(self) -> None:
        near(run(multistep([3 + 1, 6 + 1]), 8), [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01])

    def test_timm_one_before_it(self) -> None:
        near(run(multistep([3 - 1, 6 - 1]), 6), [1, 1, 0.1, 0.1, 0.1, 0.01])

    def test_a_milestone_twice_drops_twice(self) -> None:
        near(run(multistep([2, 2, 3]), 4), [1, 1, 0.01, 0.001])


class TestSequencing:
    """Case 8."""

    def test_linear_then_exponential(self) -> None:
        s = linear(5, start=0.1, to=1) >> exponential(factor=0.9)
        near(run(s, 8), [0.1, 0.28, 0.46, 0.64, 0.82, 1, 0.9, 0.81])

    def test_an_initial_lr_is_never_overwritten(self) -> None:
        near((linear(4, start=0.5, to=1) >> one_cycle()).bind(100)(0), 0.5)  # torch: .02 for an lr of .1


def test_warmup_stable_decay() -> None:
    """Transformers' warmup_stable_decay 2/3/4, 1 − sqrt, floor .1."""
    s = linear(2, start=0.1, to=1) >> constant(3) >> sqrt_cooldown(4, to=0.1) >> hold()
    expected = [0.1, 0.55, 1, 1, 1, 1, 0.55, 0.363604, 0.220577, 0.1, 0.1]
    near(run(s, 11), expected)


def test_parts_of_a_horizon_need_not_sum_up_in_floats() -> None:
    (constant("70%") >> linear("20%") >> constant("10%")).bind(1000)


def test_closed_forms_do_not_drift() -> None:
    n = 100_000
    exact = np.array([0.5 * (1 + np.cos(np.pi * t / n)) for t in range(n)])
    assert np.abs(cosine().bind(n).multipliers() - exact).max() <= 3e-15
