"""Policies: what all of them hold to, and what each of them does."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import etascope as eta
from etascope.errors import OptionError
from etascope.watcher import Policy, Probe, early_stop, follow, hypergradient, pearce_hall, rewind
from etascope.watcher.policies import Alarm, Scene, metric, policies_of
from etascope.watcher.signals import Signals

ALL = [
    rewind(),
    rewind(factor=0.3, attempts=2, skips=0),
    follow(),
    early_stop(patience=2),
    hypergradient(beta=0.5),
    pearce_hall(every=3),
    metric(eta.plateau(factor=0.5, patience=1)),
    metric(eta.greedy(patience=1)),
]
ids = [repr(policy) for policy in ALL]


def scene(good: tuple[int, ...] = (0, 40, 80), late: bool = False, step: int = 100) -> Scene:
    signals = Signals(1000)
    for i in range(60):
        signals.fold(i, 1.0 + 0.01 * (i % 3), 1e-3)
    return Scene(signals, step, good, 1e-3, late)


loss = st.floats(allow_nan=True, allow_infinity=True)
events = st.lists(
    st.one_of(
        st.tuples(st.just("seen"), st.floats(-10, 10)),
        st.tuples(st.just("alarm"), st.sampled_from(["update", "weights", "lr", "schedule"])),
        st.tuples(st.just("validation"), loss),
        st.tuples(st.just("probe"), st.floats(-2, 2)),
    ),
    max_size=40,
)


def told(policy: Policy[Any], state: Any, event: tuple[str, Any], at: Scene) -> tuple[Any, Any]:
    kind, value = event
    if kind == "alarm":
        return policy.alarmed(state, Alarm("ETA003", "a loss", {}, 9.0, of=value), at)
    if kind == "validation":
        return policy.validated(state, value, at)
    if kind == "probe":
        return policy.probed(state, Probe(alignment=value), at)
    return policy.observed(state, value, at) if policy.attends(state) else (state, None)


@pytest.mark.parametrize("policy", ALL, ids=ids)
@given(events)
def test_factors_are_finite_and_states_survive_json(policy: Policy[Any], happened: list[tuple[str, Any]]) -> None:
    state, at = policy.init(), scene()
    assert policy.on_lr(state) == 1.0
    for event in happened:
        before = policy.state_to_json(state)
        state, answer = told(policy, state, event, at)
        assert policy.state_to_json(state) != before or answer is None or answer.action not in ("scale", "rewind")
        assert 0 < policy.on_lr(state) < math.inf
        data = json.loads(json.dumps(policy.state_to_json(state), allow_nan=False))
        assert policy.state_from_json(data) == state


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_a_policy_survives_json(policy: Policy[Any]) -> None:
    assert Policy.from_json(json.loads(json.dumps(policy.to_json()))) == policy


@pytest.mark.parametrize("policy", ALL, ids=ids)
def test_repr_is_the_call(policy: Policy[Any]) -> None:
    names = {p.kind: type(p) for p in ALL} | {"plateau": eta.plateau, "greedy": eta.greedy}
    made = eval(repr(policy), names)
    assert policies_of(made)[0] == policy


class TestRewind:
    def test_one_bad_batch_is_left_out_and_nothing_else(self) -> None:
        policy = rewind()
        state, answer = policy.alarmed(policy.init(), Alarm("ETA003", ""), scene())
        assert answer is not None and answer.action == "skip"
        state, _ = policy.observed(state, 1.0, scene())
        assert policy.on_lr(state) == 1.0 and state.mode == "well"

    def test_more_than_that_goes_back_cuts_and_warms_up_again(self) -> None:
        policy, at = rewind(factor=0.5, skips=2, rewarm=4), scene()
        state = policy.init()
        actions = []
        for _ in range(3):
            state, answer = policy.alarmed(state, Alarm("ETA003", ""), at)
            actions.append(answer.action if answer else None)
        assert actions == ["skip", "skip", "rewind"]
        factors = []
        for _ in range(5):
            factors.append(policy.on_lr(state))
            state, _ = policy.observed(state, 1.0, at)
        assert factors == pytest.approx([0.05, 0.1625, 0.275, 0.3875, 0.5])
        assert policy.on_lr(state) == 0.5

    def test_each_attempt_cuts_deeper_and_the_last_one_stops(self) -> None:
        policy, at = rewind(skips=0, attempts=3), scene()
        state, cuts, actions = policy.init(), [], []
        for _ in range(4):
            state, answer = policy.alarmed(state, Alarm("ETA002", "", of="weights"), at)
            assert answer is not None
            cuts.append(state.cut)
            actions.append((answer.action, answer.back))
            state, _ = policy.observed(state, 1.0, at)
        assert cuts == [0.5, 0.125, 0.5**6, 0.5**6]
        assert actions == [("rewind", 0), ("rewind", 0), ("rewind", 1), ("stop", 2)]

    def test_bad_data_are_told_from_a_bad_lr(self) -> None:
        policy, at = rewind(skips=0, hold=3), scene()
        state, answer = policy.alarmed(policy.init(), Alarm("ETA003", ""), at)
        assert answer is not None and answer.action == "rewind" and state.cut == 0.5
        held = []
        for _ in range(4):
            state, answer = policy.alarmed(state, Alarm("ETA003", ""), at)
            assert answer is not None
            held.append((answer.action, answer.anew))
        assert policy.on_lr(state) == 1.0  # it was not the lr
        assert held == [("skip", False), ("skip", False), ("skip", False), ("none", True)]

    def test_a_number_that_is_not_finite_does_not_cut_at_first(self) -> None:
        policy, at = rewind(skips=0), scene()
        state, _ = policy.alarmed(policy.init(), Alarm("ETA001", ""), at)
        assert state.cut == 1.0
        state, _ = policy.observed(state, 1.0, at)
        state, _ = policy.alarmed(state, Alarm("ETA001", ""), at)
        assert state.cut == 0.25

    def test_late_decisions_have_no_update_to_leave_out(self) -> None:
        policy = rewind()
        state, answer = policy.alarmed(policy.init(), Alarm("ETA003", ""), scene(late=True))
        assert answer is not None and answer.action == "rewind" and state.cut == 1.0

    def test_without_any_loss_that_was_finite_it_stops(self) -> None:
        policy = rewind(skips=0)
        _, answer = policy.alarmed(policy.init(), Alarm("ETA001", ""), Scene(Signals(1000), 0, (), 1e-3))
        assert answer is not None and answer.action == "stop"

    def test_without_a_state_left_it_holds_or_cuts(self) -> None:
        policy = rewind(skips=0, hold=2)
        state, answers = policy.init(), []
        for _ in range(3):
            state, answer = policy.alarmed(state, Alarm("ETA003", ""), scene(good=()))
            assert answer is not None
            answers.append((answer.action, answer.anew))
        assert answers == [("skip", False), ("skip", False), ("none", True)] and state.cut == 1.0
        state, answer = policy.alarmed(policy.init(), Alarm("ETA002", "", of="weights"), scene(good=()))
        assert answer is not None and answer.action == "scale" and state.cut == 0.5

    def test_the_cut_has_an_end(self) -> None:
        policy, at = rewind(skips=0, factor=0.01, forgive=1), scene()
        state = policy.init()
        for _ in range(400):
            state, _ = policy.alarmed(state, Alarm("ETA002", "", of="weights"), at)
            state, _ = policy.observed(state, 1.0, at)
        assert state.cut > 0

    @pytest.mark.parametrize("options", [{"hold": math.inf}, {"attempts": math.inf}, {"rewarm": 2.5}])
    def test_counts_are_whole_and_finite(self, options: dict[str, float]) -> None:
        with pytest.raises(eta.OptionError, match="rewind"):
            rewind(**options)  # type: ignore[arg-type]

    def test_attempts_are_forgotten_and_the_cut_is_not(self) -> None:
        policy, at = rewind(skips=0, forgive=30), scene()
        state, _ = policy.alarmed(policy.init(), Alarm("ETA002", "", of="weights"), at)
        for _ in range(30):
            state, _ = policy.observed(state, 1.0, at)
        assert (state.attempts, state.cut, policy.attends(state)) == (0, 0.5, False)


def test_early_stop_counts_validations_without_improvement() -> None:
    policy, state, stops = early_stop(patience=2), early_stop(patience=2).init(), []
    for value in (1.0, 0.9, math.nan, 0.95, 0.91, 0.92):
        state, answer = policy.validated(state, value, scene())
        stops.append(answer is not None)
    assert stops == [False, False, False, False, True, False]  # said once


def test_hypergradient_follows_its_equation_within_its_bounds() -> None:
    policy = hypergradient(beta=0.2, least=0.5, most=2.0)
    state, factors = policy.init(), []
    for alignment in (0.5, -1.0, *[1.0] * 5):
        state, _ = policy.probed(state, Probe(alignment=alignment), scene())
        factors.append(policy.on_lr(state))
    assert factors[:2] == pytest.approx([1.1, 0.88])
    assert factors[-1] == 2.0


def test_pearce_hall_is_its_slow_twin_and_rises_with_surprise() -> None:
    policy, at = pearce_hall(every=1, gamma=0.1), scene()
    state, level = policy.init(), at.signals.level
    alpha = usual = 0.0
    factors = []
    for i, value in enumerate([level + 0.1] * 50 + [level + 1.0] * 10, start=1):
        state, _ = policy.observed(state, value, at)
        alpha = (1 - max(0.1, 1 / i)) * alpha + max(0.1, 1 / i) * abs(value - level)
        usual = (1 - max(0.01, 1 / i)) * usual + max(0.01, 1 / i) * alpha
        factors.append(policy.on_lr(state))
        assert policy.on_lr(state) == pytest.approx(min(2.0, max(0.5, (alpha / usual) ** 0.5)))
    assert factors[40] == pytest.approx(1.0, abs=0.05) and factors[-1] == 2.0


def test_a_factor_of_schedules_is_a_policy() -> None:
    policy = policies_of([eta.plateau(factor=0.5, patience=1)])[0]
    state = policy.init()
    for value in (1.0, 1.0, 1.0):
        state, answer = policy.validated(state, value, scene())
    assert policy.on_lr(state) == 0.5 and answer is not None and answer.action == "scale"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rewind(factor=1.5), "factor"),
        (lambda: rewind(attempts=0), "attempts"),
        (lambda: hypergradient(beta=0), "beta"),
        (lambda: pearce_hall(most=0.5), "most"),
        (lambda: early_stop(patience=-1), "patience"),
        (lambda: policies_of([rewind]), "brackets"),
        (lambda: policies_of([rewind(), replace(rewind(), skips=5)]), "twice"),
        (lambda: policies_of([3]), "no policy"),
        (lambda: Policy.from_json({"kind": "nothing"}), "nothing"),
        (lambda: Policy.from_json({"kind": "rewind", "depth": 2}), "depth"),
    ],
)
def test_what_cannot_be_used_is_refused(make: Any, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        make()
