"""Verdicts that anybody would give, the record of an answer, and the command."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from runs import run, watch_lines

import etascope as eta
from etascope.diagnosis import RunLog, Series, diagnose
from etascope.diagnosis.cases import Cases, cases, temperatures
from etascope.diagnosis.features import features, names
from etascope.diagnosis.model import Judge, _targets, best_temperature, faults, predict, tempered
from etascope.records.diagnosis import VERDICTS, Diagnosis


def test_a_run_that_diverges_had_too_high_an_lr():
    said = diagnose(run("diverges"))
    assert said.verdict == "too high" and said.probability > 0.5
    assert any("NaN or infinite from step 100" in sentence for sentence in said.evidence)


def test_a_loss_that_hardly_moves_under_aligned_steps_is_too_low():
    said = diagnose(run("low"))
    assert said.verdict == "too low" and said.probability > 0.5
    assert any("same way" in s or "of their size" in s or "fell by" in s for s in said.evidence)
    assert "Raise the lr" in said.next_move


def test_dead_layers_under_a_usual_lr_are_no_fault_of_the_lr():
    log = run("fine")
    flat = Series(log.loss.steps, 2.3 + 0.02 * np.sin(log.loss.steps * 7.0))
    dead = {"a": {"update_ratio": 0.0, "sign": 0.0}, "b": {"update_ratio": 1e-3, "effective_lr": 0.1, "sign": 0.6}}
    log = replace(log, loss=flat, val=Series(log.val.steps, 0 * log.val.values + 2.31),
                  probes=tuple(replace(p, layers=dead) for p in log.probes))  # fmt: skip
    said = diagnose(log)
    assert said.verdict == "not the learning rate"
    assert "50% of the layers are never updated" in said.evidence and "check" in said.next_move


def test_less_of_a_log_gives_an_answer_too():
    for log in (RunLog(run("diverges").loss), RunLog(run("low").loss)):
        said = diagnose(log)
        assert math.isclose(sum(said.probabilities.values()), 1.0) and set(said.probabilities) == set(VERDICTS)
        assert any("lacks the lr" in note for note in said.notes)


def test_the_same_log_gets_the_same_answer():
    assert diagnose(run(seed=3)) == diagnose(run(seed=3))


def test_the_record_goes_through_json(tmp_path):
    said = diagnose(run("high"))
    assert Diagnosis.from_json(json.loads(json.dumps(said.to_json(), allow_nan=False))) == said
    said.save(tmp_path / "said.json")
    assert Diagnosis.load(tmp_path / "said.json") == said
    assert said.verdict in str(said) and "Next: " in str(said)


@pytest.mark.parametrize(
    "change", [{"schema": "other"}, {"verdict": "odd"}, {"probabilities": {"fine": 1.0}}, {"steps": 3}]
)
def test_a_damaged_record_is_refused(change):
    with pytest.raises(eta.RecordError):
        Diagnosis.from_json(diagnose(run()).to_json() | change)


def test_the_shipped_cases_are_whole():
    known = cases()
    assert set(known.verdicts_C) == {0, 1, 2, 3} and known.features_CF.shape[1] == len(names())
    assert len(set(known.tasks)) >= 20 and set(known.points) == {"every", "few"}
    few = known.where(np.arange(len(known.tasks)) < 7)
    again = Cases.from_csv(few.to_csv().splitlines())
    assert again.tasks == few.tasks and np.array_equal(again.features_CF, few.features_CF, equal_nan=True)
    assert np.array_equal(again.places_C2, few.places_C2, equal_nan=True)
    assert all(0.2 < t < 2.5 for t in temperatures().values())


def test_no_scored_task_is_among_the_cases():
    blind = {"fashion-mixer", "fashion-depthwise", "fashion-few", "digits-rows", "shakespeare-neighbours",
             "shakespeare-elman", "sms-attention", "sms-letters", "adult-normed", "adult-hours", "bike-gaussian",
             "goodbooks-stars", "friedman-noisy"}  # fmt: skip
    assert not blind & {task.partition("~")[0] for task in cases().tasks}


def test_a_judge_can_be_fitted_with_any_columns_and_never_sees_others():
    known = cases().of("every")
    judge = Judge(known.where(np.arange(len(known.tasks)) % 3 == 0), ("loss",))
    own = np.array([list(features(run("low")).values())])
    other = own.copy()
    other[:, [i for i, n in enumerate(names()) if not n.startswith("loss.")]] = 5.0
    assert np.array_equal(judge.votes(own), judge.votes(other))


def test_a_judge_knows_each_case_again_and_shares_add_up():
    known = cases().of("every")
    judge = Judge(known.where(np.arange(len(known.tasks)) % 4 == 0), ("loss", "noise", "val", "lr"))
    own = known.where(np.arange(len(known.tasks)) % 4 == 0)
    votes = judge.votes(own.features_CF)
    assert np.allclose(judge.shares(own.features_CF).sum(1), 1.0) and np.allclose(votes.sum(1), 1.0)
    assert (votes.argmax(1) == own.verdicts_C).mean() > 0.95
    assert set(judge.things) - set(VERDICTS) == set(own.kinds) - {""}


def test_where_a_zone_ends_is_not_known_to_the_hair():
    known = cases()
    is_CK = _targets(known, things := [*VERDICTS[:3], *sorted(set(known.kinds) - {""})])
    assert np.allclose(is_CK.sum(1), 1.0) and is_CK.min() >= 0
    fault = np.array([bool(kind) for kind in known.kinds])
    assert np.isnan(known.places_C2[fault]).all() and (is_CK[fault].max(1) == 1.0).all()
    low, fine = (is_CK[:, things.index(v)] for v in ("too low", "fine"))
    at = np.abs(known.places_C2[:, 0]) < 1e-2
    far = known.places_C2[:, 0] < -0.5
    assert np.allclose(low[at], 0.5, atol=0.05) and (low[far] > 0.99).all() and (fine[far] < 0.01).all()


def test_the_kinds_of_fault_are_held_against_each_other():
    votes = faults(features(run("diverges")), 400)
    assert set(votes) == set(cases().kinds) - {""} and math.isclose(sum(votes.values()), 1.0)


def test_a_temperature_makes_votes_as_sure_as_they_are_right():
    votes = np.tile([[0.6, 0.2, 0.1, 0.1]], (1000, 1))
    verdicts = np.where(np.arange(1000) < 900, 0, 1)
    t = best_temperature(votes, verdicts)
    assert t < 1 and tempered(votes, t)[0, 0] == pytest.approx(0.9, abs=0.03)


def test_no_answer_is_certain():
    p = predict(features(run("diverges")), 400)
    assert min(p.values()) > 0.001 and max(p.values()) < 0.999


def test_the_command(tmp_path, cli):
    (tmp_path / "watch.jsonl").write_text(watch_lines(run("low")))
    got = cli("diagnose", tmp_path / "watch.jsonl")
    assert got.code == 0 and "the learning rate is" in got.out and "Next: Raise the lr" in got.out
    data = json.loads(cli("diagnose", tmp_path / "watch.jsonl", "--json").out)
    assert data["verdict"] == "too low" and data["schema"] == "etascope.diagnosis/1"


def test_the_command_says_what_is_missing(tmp_path, cli):
    (tmp_path / "log.csv").write_text("step,accuracy\n1,0.5\n2,0.6\n")
    got = cli("diagnose", tmp_path / "log.csv")
    assert got.code == 2 and "no column with the training loss" in got.err and "Traceback" not in got.err


def test_diagnose_is_public_and_loads_no_torch():
    import subprocess
    import sys

    code = "import sys, etascope as eta; eta.diagnose, eta.Diagnosis; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
