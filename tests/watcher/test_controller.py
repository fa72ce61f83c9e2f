"""The controller: pure, replayable, within its bounds; and what it does of a run with faults."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import etascope as eta
from etascope.records import Decision
from etascope.watcher import Controller, early_stop, follow, hypergradient, pearce_hall, rewind
from etascope.watcher.policies import policies_of

from .runs import HORIZON, controller, cosine, falling, feed, notes, probe

ALL = (rewind(), follow(), hypergradient(), pearce_hall(), early_stop(), eta.plateau(patience=2))
number = st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, math.inf, -math.inf, 1e30, 0.0]))
event = st.one_of(
    st.tuples(st.just("loss"), number, st.one_of(st.none(), st.floats(0, 10), st.just(math.nan))),
    st.tuples(st.just("validation"), number, st.none()),
    st.tuples(st.just("probe"), st.floats(-1, 1), st.none()),
    st.tuples(st.just("changed"), st.floats(0, 1), st.none()),
)
histories = st.lists(event, max_size=60)


def tell(watcher: Controller, step: int, what: tuple[str, float, float | None]) -> Decision | None:
    kind, value, grad = what
    if kind == "loss":
        return watcher.observe(step, value, 1e-3, grad)
    if kind == "validation":
        watcher.validate(step, value)
    elif kind == "probe":
        return watcher.probe(step, probe(sign=value, alignment=value))
    else:
        return watcher.changed(step, value, 1e-3)
    return None


@given(st.booleans(), st.integers(0, 25), histories, histories)
@settings(max_examples=60)
def test_it_goes_on_from_json_to_the_bit(act: bool, calm: int, before: list[Any], after: list[Any]) -> None:
    one = controller(act=act, policies=policies_of(ALL))
    feed(one, [1.0 + 0.1 * (i % 3) for i in range(calm)])
    for step, what in enumerate(before):
        tell(one, calm + step, what)
    other = Controller.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))
    one.news = []
    for step, what in enumerate(after):
        assert str(tell(one, calm + len(before) + step, what)) == str(tell(other, calm + len(before) + step, what))
        assert other.factor == one.factor and other.steps_kept == one.steps_kept
    assert [said.to_json() for said in one.news] == [said.to_json() for said in other.news]
    assert one.to_json() == other.to_json()


@given(st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=1, max_size=120), st.integers(0, 5))
@settings(max_examples=60)
def test_bounds_and_interventions_hold(losses: list[float], most: int) -> None:
    watcher = controller(policies=policies_of(ALL), bounds=(0.25, 2.0), interventions=most, every=5, healthy=2)
    feed(watcher, [1.0] * 25)
    taken = feed(watcher, losses, first=25)
    for step in range(10):
        watcher.probe(200 + step, probe(alignment=1.0))
        assert 0.25 <= watcher.factor <= 2.0
    every = [*taken, *(said for said in watcher.news if isinstance(said, Decision))]
    done = {(d.seen, d.policy, d.action) for d in every if d.action in ("rewind", "stop", "scale")}
    assert len(done) <= most and watcher.acted <= most
    assert all(0.25 <= d.factor <= 2.0 for d in taken)


def test_once_no_more_interventions_are_allowed_nothing_changes() -> None:
    watcher = controller(policies=policies_of((rewind(skips=0), eta.plateau(factor=0.5, patience=0))), interventions=2)
    feed(watcher, falling()[:100])
    for _ in range(3):
        watcher.validate(100, 1.0)
    assert watcher.factor == 0.25
    decisions = feed(watcher, [9.0] * 3, first=100)
    assert watcher.factor == 0.25 and {d.action for d in decisions} == {"none"}
    assert "no more are allowed" in str(decisions[0])


def test_states_that_are_lost_are_not_gone_back_to() -> None:
    watcher = controller()
    feed(watcher, falling()[:300])
    watcher.lose(watcher.steps_kept)
    decisions = feed(watcher, [9.0] * 3, first=300)
    assert [(d.action, d.to_step) for d in decisions] == [("skip", None)] * 3
    assert "there is no state left to go back to" in str(decisions[-1]) and not watcher.should_stop
    feed(watcher, falling()[300:330], first=300)  # in line again: there is a new one
    assert [kept.good for kept in watcher.kept] == [True]


def test_a_state_that_an_alarm_takes_back_is_not_asked_for() -> None:
    """ETA005 comes at the end of a block, after that block's last observation has asked for a state to be kept."""
    rng = np.random.default_rng(0)
    losses = [2.3 + (0.03 if i < 20 else 0.6) * float(rng.standard_normal()) for i in range(HORIZON)]
    for every in range(140, 160):
        watcher = controller(every=every)
        for i, loss in enumerate(losses[:400]):
            watcher.observe(i, loss, 1e-2, 1.0)
            assert not watcher.take or watcher.kept[-1].step == i


def test_checks_go_on_speaking_in_a_long_run() -> None:
    """Blocks are joined when there are many; when a check spoke last is counted in blocks as they came."""
    rng = np.random.default_rng(0)
    losses = [2.3 + (0.03 if i < 20 else 0.6) * float(rng.standard_normal()) for i in range(12_000)]
    watcher = controller(horizon=None, act=False)
    codes = [(d.code, d.step) for d in feed(watcher, losses, lr=1e-2)]
    late = [step for code, step in codes if code == "ETA005" and step > 8_000]
    assert len(watcher.signals.blocks) < watcher.signals.ended and late


def test_the_lr_in_a_sentence_is_the_lr_that_is_made() -> None:
    watcher = controller(policies=(rewind(skips=0, rewarm=10),), bounds=(0.5, 10.0))
    feed(watcher, falling()[:300], lr=1e-2)
    first = watcher.observe(300, 9.0, 1e-2, 1.0)
    feed(watcher, falling()[300:303], lr=lambda step: 1e-2 * watcher.factor, first=300)
    second = watcher.observe(303, 9.0, 1e-2 * watcher.factor, 1.0)
    assert first is not None and "lr 1e-2 → 5e-3" in str(first)
    assert second is not None and "the lr as it was" in str(second)  # within a rewarm, and at the bound


def test_the_horizon_may_change() -> None:
    watcher = controller(horizon=100)
    feed(watcher, falling(100))
    watcher.extend(300)
    watcher.news = []
    feed(watcher, [0.3] * 100, first=100)
    assert "ETA011" not in notes(watcher)


def test_a_loss_of_nothing_at_first_is_no_scale() -> None:
    assert feed(controller(), [0.0] * 40 + [1e-3]) == []


def test_a_clean_run_raises_nothing() -> None:
    for seed in range(5):
        assert feed(controller(), falling(seed=seed, noise=0.1)) == []


def test_a_bad_batch_is_left_out_and_noted() -> None:
    losses = falling()
    watcher = controller()
    decisions = feed(watcher, [*losses[:500], 8.0, *losses[500:]])
    assert [(d.code, d.action, d.taken) for d in decisions] == [("ETA003", "skip", True)]
    assert watcher.factor == 1.0
    assert notes(watcher) == ["ETA012"]


def test_an_alarm_tells_its_numbers() -> None:
    watcher = controller()
    (decision,) = feed(watcher, [*falling()[:500], 9.1])
    assert decision.numbers["loss"] == 9.1
    assert str(decision).startswith("step 500: loss 9.1 against a running 0.4") and "σ" in str(decision)
    assert str(decision).endswith("; ETA003")


def test_weights_led_astray_are_gone_back_from() -> None:
    losses = falling()
    watcher = controller()
    decisions = feed(watcher, losses[:500] + [8.0] * 3 + losses[460:])
    assert [d.action for d in decisions] == ["skip", "skip", "rewind"]
    assert decisions[-1].to_step in range(400, 481) and watcher.factor == 0.5


def test_a_slow_rise_is_diverging() -> None:
    losses = falling()
    decisions = feed(controller(), losses[:500] + [losses[500] + 0.02 * i for i in range(60)])
    assert decisions[0].code == "ETA002" and decisions[0].action == "rewind"


def test_bad_data_are_held_out_for_and_the_lr_is_not_to_blame() -> None:
    losses = falling()
    watcher = controller()
    decisions = feed(watcher, losses[:500] + [8.0] * 100 + losses[500:])
    assert [d.action for d in decisions[:4]] == ["skip", "skip", "rewind", "skip"]
    assert {d.action for d in decisions[4:]} == {"skip"}
    assert watcher.factor == 1.0 and "ETA012" in notes(watcher) and not watcher.should_stop


def test_what_was_taken_before_an_alarm_is_not_gone_back_to() -> None:
    watcher = controller(every=25, healthy=20)
    losses = falling()
    feed(watcher, losses[:310])
    on_trial = watcher.kept[-1]
    assert not on_trial.good
    feed(watcher, [8.0] * 3, first=310)
    assert on_trial.step not in watcher.steps_kept


def test_without_act_there_is_one_proposal_an_episode_and_no_factor() -> None:
    losses = falling()
    watcher = controller(act=False)
    decisions = feed(watcher, losses[:500] + [8.0] * 30 + losses[500:])
    assert [(d.action, d.taken) for d in decisions] == [("skip", False)]
    assert watcher.factor == 1.0 and "would be done" in str(decisions[0])


def test_without_act_a_new_level_is_accepted_in_the_end() -> None:
    losses = falling(noise=0.01)
    decisions = feed(controller(act=False), losses[:500] + [5.0 + 0.1 * (i % 2) for i in range(400)])
    assert len(decisions) == 1


def test_a_loss_that_is_nan_from_the_beginning_stops_the_run() -> None:
    watcher = controller()
    decisions = feed(watcher, [math.nan] * 5)
    assert watcher.should_stop and [d.action for d in decisions[:3]] == ["skip", "skip", "stop"]


def test_a_scaler_may_overflow_for_a_while() -> None:
    watcher = controller(run={"scaled": True})
    feed(watcher, falling()[:100])
    kept = watcher.steps_kept
    said = [watcher.observe(100, 1.0, 1e-3, math.inf) for _ in range(21)]
    assert said[:20] == [None] * 20 and said[20] is not None and said[20].code == "ETA001"
    assert set(watcher.steps_kept) <= set(kept)  # nothing of a scale that has exploded


def test_somebody_elses_lr_is_written_over() -> None:
    watcher = controller()
    feed(watcher, falling()[:50])
    decision = watcher.changed(50, 1e-4, cosine(50))
    assert decision is not None and (decision.code, decision.action, decision.policy) == ("ETA013", "restore", "follow")
    assert watcher.follows and watcher.factor == 1.0


def test_the_same_history_gives_the_same_decisions() -> None:
    losses = falling()[:300] + [9.0] * 40 + falling()[300:]
    assert [d.to_json() for d in feed(controller(), losses)] == [d.to_json() for d in feed(controller(), losses)]


@pytest.mark.parametrize("act", [True, False])
def test_policies_by_themselves_decide_too(act: bool) -> None:
    watcher = controller(act=act, policies=policies_of((eta.plateau(factor=0.5, patience=0), early_stop(patience=1))))
    feed(watcher, falling()[:100])
    for _ in range(4):
        watcher.validate(100, 1.0)
    decisions = [said for said in watcher.news if isinstance(said, Decision)]
    assert {(d.policy, d.action, d.taken) for d in decisions} == {
        ("plateau", "scale", act),
        ("early_stop", "stop", act),
    }
    assert watcher.should_stop is act
