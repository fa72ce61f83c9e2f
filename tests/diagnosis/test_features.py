"""What has to hold of the features, whatever the log."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from runs import run

from etascope.diagnosis import RunLog, Series
from etascope.diagnosis.features import GROUPS, features, group, momentum, names

KINDS = ("fine", "low", "high", "diverges")


def scaled(series, by):
    return Series(series.steps, series.values * by)


def moved(series, by):
    return Series(series.steps + by, series.values)


def close(a, b):
    assert list(a) == list(b)
    wrong = {n: (a[n], b[n]) for n in a if not np.isclose(a[n], b[n], rtol=1e-6, atol=1e-6, equal_nan=True)}
    assert not wrong


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(KINDS), by=st.floats(-3, 3), seed=st.integers(0, 5))
def test_the_unit_of_the_loss_does_not_matter(kind, by, seed):
    """Gradients carry the loss's unit too, and an update per gradient its inverse."""
    log, by = run(kind, n=120, seed=seed), 2.0 ** round(3 * by)
    probes = tuple(
        replace(p, layers={k: {**w, "effective_lr": w["effective_lr"] / by} for k, w in p.layers.items()})
        for p in log.probes
    )
    other = replace(log, loss=scaled(log.loss, by), val=scaled(log.val, by), grad=scaled(log.grad, by), probes=probes)
    # How far a step goes for a unit of gradient has the unit of the lr: plain SGD's is one over the loss's.
    unit = ("step.own", "step.grad")
    a, b = (
        {n: v for n, v in features(own).items() if not n.startswith(unit)} for own in (log, other)
    )  # fmt: skip
    close(a, b)


@settings(max_examples=20, deadline=None)
@given(kind=st.sampled_from(KINDS), by=st.integers(1, 10**6))
def test_where_steps_begin_to_count_does_not_matter(kind, by):
    log = replace(run(kind, n=120), horizon=None)
    later = replace(
        log, loss=moved(log.loss, by), val=moved(log.val, by), lr=moved(log.lr, by), grad=moved(log.grad, by),
        probes=tuple(replace(p, step=p.step + by) for p in log.probes),
    )  # fmt: skip
    close(features(log), features(later))


any_floats = hnp.arrays(float, st.integers(1, 60), elements=st.floats(allow_nan=True, allow_infinity=True))


@settings(max_examples=60, deadline=None)
@given(loss=any_floats, val=any_floats, lr=any_floats, grad=any_floats, full=st.booleans())
def test_nothing_raises_and_nothing_is_infinite(loss, val, lr, grad, full):
    def series(values):
        return Series(np.arange(float(len(values))), values)

    base = run(n=100) if full else RunLog(series(loss))
    log = replace(base, loss=series(loss), val=series(val), lr=series(lr), grad=series(grad))
    found = features(log)
    assert tuple(found) == names()
    assert all(math.isnan(v) or abs(v) <= 12 for v in found.values())


def test_a_column_that_is_not_there_leaves_its_features_out():
    log = run()
    whole = features(log)
    assert {group(n) for n, v in whole.items() if not math.isnan(v)} == set(GROUPS)
    alone = features(RunLog(log.loss))
    for name, value in alone.items():
        if group(name) in ("loss", "noise"):
            assert value == whole[name] or (math.isnan(value) and math.isnan(whole[name]))
        else:
            assert math.isnan(value)


def test_what_the_telling_features_say():
    fine, low, high = (features(run(kind)) for kind in ("fine", "low", "high"))
    assert low["step.sign_mid"] > fine["step.sign_mid"] > high["step.sign_mid"]
    assert low["step.ratio_mid"] < fine["step.ratio_mid"] < high["step.ratio_mid"]
    assert low["loss.tripling"] > fine["loss.tripling"]
    assert high["noise.end"] > fine["noise.end"]
    assert features(run("diverges"))["loss.nonfinite"] == 1.0


def test_broken_batches_stand_alone_and_come_back_and_rises_do_neither():
    log = run("fine", n=600)
    at = np.arange(600)
    plain, broken, rises = (
        features(RunLog(Series(log.loss.steps, log.loss.values + 3.0 * there)))
        for there in (at < 0, at % 10 == 9, np.isin(at, [100, 101, 102, 333, 334, 335]))
    )
    assert broken["noise.alone"] > plain["noise.alone"] and broken["noise.alone"] > rises["noise.alone"]
    assert rises["noise.together"] > max(plain["noise.together"], broken["noise.together"])
    assert broken["noise.comes_back"] > 0.2 > plain["noise.comes_back"]


def test_the_noise_of_gradients_is_read_from_the_probes():
    log = run("fine")
    quiet, loud = (
        features(replace(log, probes=tuple(replace(p, noise_scale=s) for p in log.probes))) for s in (1, 1e3)
    )
    assert loud["step.scale_late"] == pytest.approx(quiet["step.scale_late"] + 3)
    half = tuple(replace(p, noise_scale=None) if i % 2 else p for i, p in enumerate(log.probes))
    assert features(replace(log, probes=half))["step.unaligned"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("said", "beta"),
    [("SGD(momentum=0.95, nesterov=True)", 0.95), ("AdamW", 0.9), ("Adam(betas=(0.5, 0.99))", 0.5), ("", 0.0)],
)  # fmt: skip
def test_momentum_is_read_from_the_optimizers_text(said, beta):
    assert momentum(said) == beta
