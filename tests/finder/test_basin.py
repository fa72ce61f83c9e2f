"""The basin: what it makes of rungs whose truth is known, and what it expects where they say nothing."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from etascope.finder.basin import Seen, _rho, _vertex, axis, fit
from etascope.finder.race import sight
from etascope.records import Curve, Rung

HORIZON = 1000
GRID = np.arange(-7.0, 3.0, 0.001)


def loss_of(x, steps, b=-0.9, c=0.0):
    """A basin between flanks at -3.5 and -0.5 at the full horizon; from 2 at init to 0.5."""
    age = np.log10(steps / HORIZON)
    low, high = 1.2 * (x + 3.5 - b * age), 1.5 * (-0.5 + c * age - x)
    return 0.5 + 1.5 * np.minimum(1, 1 / (1 + 10**low) + 1 / (1 + 10**high))


def seen_of(rungs, decays=True, noise=0.002, **options):
    """Rungs as {steps: log10 of lrs}."""
    rng = np.random.default_rng(0)
    x = np.concatenate([np.asarray(v, float) for v in rungs.values()])
    rung = np.repeat(np.arange(len(rungs)), [len(v) for v in rungs.values()])
    steps = np.array([float(s) for s in rungs])
    loss = loss_of(x, steps[rung], **options) + noise * rng.standard_normal(len(x))
    n = len(rungs)
    return Seen(x, loss, rung, steps, np.full(n, 2.0), np.full(n, np.inf), HORIZON, decays)


def vertex(steps, **options):
    return GRID[np.argmin(loss_of(GRID, steps, **options))]


@given(
    left=st.floats(-4, -2.5),
    right=st.floats(-1.0, 1.0),
    slopes=st.tuples(st.floats(1.0, 4.0), st.floats(1.0, 4.0)),
    paces=st.tuples(st.floats(-0.5, 0.2), st.floats(-0.5, 0.2)),
    drifts=st.tuples(st.floats(-1.2, 0.0), st.floats(-0.5, 0.5)),
    age=st.floats(-0.8, 0.0),
)
def test_the_vertex_is_where_rho_is_least(left, right, slopes, paces, drifts, age):
    p = np.array([[left, drifts[0], np.log(slopes[0]), paces[0], right, drifts[1], np.log(slopes[1]), paces[1], -4.0]])
    apart = right + drifts[1] * age - left - drifts[0] * age
    assume(apart * min(slopes) * 0.8 > 4)  # or the flanks run into each other, and there are no tails to balance
    rho = _rho(p, GRID, np.full(len(GRID), age))[0]
    assert abs(GRID[np.argmin(rho)] - _vertex(p, np.array([age]))[0, 0]) < 0.05


@pytest.mark.parametrize("c", [-0.7, 0.0, 0.3])
def test_a_drift_that_is_seen_is_carried_on(c):
    rungs = {10: np.linspace(-4, 0, 9), 60: np.linspace(-3, 0, 6), 250: np.linspace(-3, -0.5, 5)}
    seen = seen_of(rungs, c=c)
    best = np.median(fit(seen).best(axis(seen)))
    assert abs(best - vertex(HORIZON, c=c)) < 0.1


def test_where_nothing_tells_the_best_drifts_down_and_farther_without_a_decay():
    rungs = {100: np.linspace(-3.5, 0.5, 9)}
    drift = {}
    for decays in (True, False):
        seen = seen_of(rungs, decays)
        drift[decays] = np.median(fit(seen).best(axis(seen))) - vertex(100)
    assert -0.9 < drift[False] < drift[True] < 0


def test_the_same_evidence_gives_the_same_answer():
    seen = seen_of({20: np.linspace(-4, 0, 8), 200: np.linspace(-3, -1, 4)})
    assert np.array_equal(fit(seen).samples, fit(seen).samples)


@pytest.mark.parametrize(
    ("optimizer", "adapts"),
    [("SGD(momentum=0.9)", False), ("ASGD()", False), ("SGD() and AdamW()", False), ("AdamW()", True), ("", True)],
)
def test_the_edge_drifts_by_the_optimizer_s_name(optimizer, adapts, monkeypatch):
    told = []
    monkeypatch.setattr("etascope.finder.race.find_edge", lambda *_, adapts, **__: told.append(adapts))
    monkeypatch.setattr("etascope.finder.race.fit", lambda seen: None)
    facts = SimpleNamespace(decays=True, optimizer=optimizer, init_loss=2.0)
    rungs = [Rung.of(9, [Curve(1e-2, 0, 9, 1.0, None, 9)])]
    sight(SimpleNamespace(rungs=rungs, facts=facts, horizon=HORIZON, init=lambda curve: 2.0))
    assert told == [adapts]
