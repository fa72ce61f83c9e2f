"""Facts: what a record says, before anything is drawn."""

import math

import pytest

from etascope.reports.facts import facts_of
from etascope.reports.fates import four


def test_the_facts_of_a_finding(make):
    facts = facts_of(make.finding())
    assert (facts.kind, facts.lr, facts.edge) == ("finding", 1.1e-2, 0.19)
    assert facts.tried == pytest.approx((1e-5, 10))
    assert [r.settings for r in facts.rungs] == [16, 7, 3, 1]
    assert facts.rungs[0].diverged == 5
    assert facts.rungs[2].cost == pytest.approx(3 * 1000 / 2000)
    assert facts.measure == "validation loss"


def test_the_facts_of_a_sweep_are_its_own_zone_and_edge(make):
    sweep = make.sweep()
    facts = facts_of(sweep)
    assert (facts.lr, facts.loss) == sweep.best
    assert (facts.zone, facts.edge) == (sweep.zone, sweep.edge)
    assert facts.settings == 75


def test_one_diverged_seed_makes_the_mean_of_an_lr_infinite(make):
    sweep = make.sweep(5, (0, 1))
    rung = sweep.rungs[0]
    worse = tuple(vars(c) | {"loss": math.inf} if c.seed == 1 and c.lr == rung.lrs[0] else vars(c) for c in rung.curves)
    curve, record = type(rung.curves[0]), type(sweep)
    changed = record(**(vars(sweep) | {"rungs": (type(rung)(rung.steps, tuple(curve(**c) for c in worse)),)}))
    facts = facts_of(changed)
    assert facts.rungs[0].means[0] == math.inf
    assert facts.rungs[0].diverged == facts_of(sweep).rungs[0].diverged + 1


def test_a_metric_is_shown_as_the_user_knows_it(odd):
    facts = facts_of(odd["metric"])
    assert facts.measure == "metric"
    assert facts.shown(facts.loss) == pytest.approx(0.918, abs=2e-3)
    assert facts.drop(facts.init) == 0 and facts.drop(facts.best_seen) == 1


def test_the_four_curves_are_what_they_are_called(make):
    for record in (make.finding(), make.sweep()):
        facts = facts_of(record)
        small, right, large, diverges = four(facts)
        assert [e.title for e in four(facts)] == ["too small", "just right", "too large", "diverges"]
        assert small.curve.lr < facts.zone[0] <= right.curve.lr <= facts.zone[1] < large.curve.lr
        assert not large.curve.diverged and diverges.curve.diverged
        assert all(e.sentence.endswith(".") for e in four(facts))


def test_the_longest_rung_with_a_clear_case_is_preferred(make):
    small, right, large, diverges = (e.curve.steps for e in four(facts_of(make.finding())))
    assert (small, right, large, diverges) == (250, 2000, 250, 63)


def test_what_has_no_evidence_is_said(odd):
    *_, diverges = four(facts_of(odd["no edge"]))
    assert diverges.curve is None
    assert diverges.sentence == "Nothing diverged up to 0.1."


def test_without_an_answer_nothing_is_called_right(odd):
    for name in ("unanswered", "unanswered flat", "sweep all diverged"):
        assert "just right" not in [e.title for e in four(facts_of(odd[name]))]
