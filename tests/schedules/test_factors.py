"""Metric-driven factors: the figures of conformance case 9, the laws, and torch and transformers as witnesses."""

from __future__ import annotations

import json
import math
import pickle
import random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from etascope._json import encode
from etascope.errors import ScheduleError
from etascope.schedules.factors import Factor, GreedyState, PlateauState, greedy, plateau


def scales(policy: Factor[Any], metrics: list[float]) -> list[float]:
    state, scale, seen = policy.init(), 1.0, []
    for metric in metrics:
        state, factor = policy.observe(state, metric)
        scale *= factor
        seen.append(scale)
        assert math.isclose(state.scale, scale, rel_tol=1e-12)
    return seen


def torchs(metrics: list[float], **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0, **options)
    seen = []
    for metric in metrics:
        scheduler.step(metric)
        seen.append(optimizer.param_groups[0]["lr"])
    return seen


class TestConformance:
    def test_flat_metric(self) -> None:
        assert scales(plateau(factor=0.5, patience=2), [1.0] * 4) == [1, 1, 1, 0.5]
        assert torchs([1.0] * 4, factor=0.5, patience=2) == [1, 1, 1, 0.5]

    def test_patience_0_and_ties(self) -> None:
        assert scales(plateau(factor=0.5, patience=0), [1.0] * 3) == [1, 0.5, 0.25]
        assert torchs([1.0] * 3, factor=0.5, patience=0) == [1, 0.5, 0.25]

    def test_keras_and_optax_reduce_one_value_earlier(self) -> None:
        """Their patience n is ours less 1: `wait += 1; if wait >= patience`."""
        assert scales(plateau(factor=0.5, patience=2 - 1), [1.0] * 4) == [1, 1, 0.5, 0.5]

    def test_a_flat_negative_metric_where_torch_never_reduces(self) -> None:
        assert torchs([-1.0] * 50, factor=0.5, patience=2) == [1.0] * 50
        assert scales(plateau(factor=0.5, patience=2), [-1.0] * 4) == [1, 1, 1, 0.5]


@pytest.mark.parametrize("mode", ["min", "max"])
class TestAnyMetric:
    def sign(self, mode: str) -> float:
        return 1.0 if mode == "min" else -1.0

    def test_zero(self, mode: Any) -> None:
        assert scales(plateau(0.5, 1, mode=mode), [0.0] * 3) == [1, 1, 0.5]
        better = [-self.sign(mode) * t for t in range(6)]
        assert scales(plateau(0.5, 1, mode=mode), better) == [1.0] * 6

    def test_negative_and_crossing_zero(self, mode: Any) -> None:
        better = [self.sign(mode) * (5 - t) for t in range(12)]
        assert scales(plateau(0.5, 0, mode=mode), better) == [1.0] * 12
        slight = [-10.0 - self.sign(mode) * 1e-6 * t for t in range(3)]  # below the threshold of 1e-4 · |best|
        assert scales(plateau(0.5, 0, mode=mode), slight) == [1, 0.5, 0.25]
        assert scales(plateau(0.5, 0, mode=mode, relative=False, threshold=1e-7), slight) == [1.0] * 3

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_is_no_improvement(self, mode: Any, bad: float) -> None:
        s = self.sign(mode)
        assert scales(plateau(0.5, 1, mode=mode), [s * 2, bad, bad, s * 1, bad, bad]) == [1, 1, 0.5, 0.5, 0.5, 0.25]
        assert scales(plateau(0.5, 1, mode=mode), [bad, bad, s * 3, s * 3]) == [1, 0.5, 0.5, 0.5]
        assert scales(greedy(0.5, 0, mode=mode, window=2), [s * 2, bad, s * 1])[1] == 1.0
        state = plateau(mode=mode).init()
        state, _ = plateau(mode=mode).observe(state, bad)
        json.dumps(encode(state), allow_nan=False)


configurations = st.fixed_dictionaries(
    {
        "factor": st.sampled_from([0.1, 0.5, 0.9]),
        "patience": st.integers(0, 4),
        "threshold": st.sampled_from([0.0, 1e-4, 0.05]),
        "cooldown": st.integers(0, 3),
        "mode": st.sampled_from(["min", "max"]),
        "relative": st.booleans(),
        "least": st.sampled_from([0.0, 0.03, 0.2]),
    }
)


@given(configurations, st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_equals_torch_on_positive_metrics(options: dict[str, Any], seed: int) -> None:
    rng = random.Random(seed)
    metrics, level = [], 1.0
    for _ in range(100):
        level *= rng.choice([1, 1, 0.9, 1.1, 0.97, 1.03])
        metrics.append(rng.choice([level, level, round(level, 1) + 0.1, math.nan]))
    given = {key: value for key, value in options.items() if key not in ("relative", "least")}
    truth = torchs(metrics, **given, threshold_mode="rel" if options["relative"] else "abs", min_lr=options["least"])
    found = scales(plateau(**options), metrics)
    assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(found, truth, strict=True))
    if not options["least"]:
        assert found == truth


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_greedy_equals_transformers(seed: int) -> None:
    optimization = pytest.importorskip("transformers.optimization", reason="needs etascope[all]")
    if not hasattr(optimization, "GreedyLR"):
        pytest.skip("this transformers has no GreedyLR")
    rng = random.Random(seed)
    options = {
        "factor": rng.choice([0.5, 0.9, 0.95]),
        "patience": rng.randint(0, 3),
        "threshold": rng.choice([0.0, 1e-6, 0.02]),
        "cooldown": rng.randint(0, 2),
        "warmup": rng.randint(0, 2),
        "mode": rng.choice(["min", "max"]),
    }
    relative, least, most = rng.random() < 0.5, rng.choice([0.01, 0.5]), rng.choice([1.0, 3.0])
    window, reset_after = rng.choice([1, 3]), rng.choice([2, 500])
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = optimization.GreedyLR(
        optimizer, **options, threshold_mode="rel" if relative else "abs", min_lr=least, max_lr=most, eps=0,
        smooth=window > 1, window_size=window, reset_start=reset_after,
    )  # fmt: skip
    truth, metrics, level = [], [], 1.0
    for _ in range(80):
        level *= rng.choice([1, 0.9, 0.9, 1.1])
        metrics.append(level + rng.random() * 1e-3)
        theirs.step(metrics[-1])
        truth.append(optimizer.param_groups[0]["lr"])
    mine = greedy(**options, relative=relative, least=least, most=most, window=window, reset_after=reset_after)
    assert all(math.isclose(a, b, rel_tol=1e-9) for a, b in zip(scales(mine, metrics), truth, strict=True))


@pytest.mark.parametrize("policy", [plateau(), plateau(0.5, 3, mode="max", least=0.1), greedy(), greedy(window=4)])
def test_they_are_values(policy: Factor[Any]) -> None:
    assert Factor.from_json(json.loads(json.dumps(policy.to_json()))) == policy == pickle.loads(pickle.dumps(policy))
    assert eval(repr(policy)) == policy and hash(policy) == hash(eval(repr(policy)))
    state = policy.init()
    for metric in (3.0, 2.0, math.nan, 2.0, 2.0, 7.0):
        again = policy.state_from_json(json.loads(json.dumps(encode(state), allow_nan=False)))
        assert again == state and policy.observe(again, metric) == policy.observe(state, metric)
        state, _ = policy.observe(state, metric)


@pytest.mark.parametrize(
    ("build", "cause"),
    [
        (lambda: plateau(factor=1), "factor=...\\) is 1.0"),
        (lambda: plateau(factor=0), "factor=...\\) is 0.0"),
        (lambda: plateau(patience=-1), "patience"),
        (lambda: plateau(patience=1.5), "patience"),  # type: ignore[arg-type]
        (lambda: plateau(mode="low"), "mode"),  # type: ignore[arg-type]
        (lambda: plateau(threshold=-1), "threshold"),
        (lambda: plateau(relative="rel"), "relative"),  # type: ignore[arg-type]
        (lambda: plateau(least=2), "least"),
        (lambda: greedy(most=0.5), "most"),
        (lambda: greedy(window=0), "window"),
        (lambda: greedy(factor=math.nan), "factor"),
        (lambda: Factor.from_json({"kind": "platau"}), "no kind of factor"),
        (lambda: Factor.from_json({"kind": "plateau", "wait": 3}), "no field wait"),
    ],
)
def test_bad_input(build: Any, cause: str) -> None:
    with pytest.raises(ScheduleError, match=cause) as error:
        build()
    assert error.value.next_move


def test_a_policy_of_ones_own() -> None:
    from dataclasses import dataclass
    from typing import SupportsFloat

    @dataclass(frozen=True)
    class Count:
        n: int = 0

    @dataclass(frozen=True, repr=False)
    class every_second(Factor[Count]):
        by: float = 0.5
        State = Count

        def init(self) -> Count:
            return Count()

        def observe(self, state: Count, metric: SupportsFloat) -> tuple[Count, float]:
            return Count(state.n + 1), self.by if state.n % 2 else 1.0

    import etascope as eta

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    handle = eta.attach(eta.constant(), optimizer, horizon=10, factors=[every_second()])
    assert [handle.observe(0) for _ in range(4)] == [1, 0.5, 0.5, 0.25]
    twin = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    again = eta.attach(eta.constant(), twin, horizon=10, factors=[every_second()])
    again.load_state_dict(handle.state_dict())
    assert [again.observe(0) for _ in range(2)] == [0.25, 0.125]


def test_a_scale_below_the_least_is_not_raised_and_one_above_the_most_not_lowered() -> None:
    low = plateau(patience=0, least=0.5)
    assert low.observe(PlateauState(best=1.0, scale=0.2), 2.0) == (PlateauState(best=1.0, scale=0.2), 1.0)
    lower = greedy(patience=0, least=0.5)
    after, by = lower.observe(GreedyState(best=1.0, scale=0.2), 2.0)
    assert after.scale == 0.2 and by == 1.0
    after, by = lower.observe(GreedyState(best=1.0, scale=20.0), 0.5)
    assert after.scale == 20.0 and by == 1.0


def test_greedy_without_a_least_starts_anew() -> None:
    policy = greedy(factor=1e-100, patience=0, least=0, reset_after=3)
    state, product = policy.init(), 1.0
    for metric in (1.0, *6 * [2.0]):
        state, by = policy.observe(state, metric)
        product *= by
        assert 0 < product < 11 and by > 0
    assert state.scale == 1.0 and product == pytest.approx(1.0)
