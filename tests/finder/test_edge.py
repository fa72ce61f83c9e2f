"""The edge: where training starts to diverge, told from short runs."""

import math
from functools import partial

import numpy as np
import pytest

from etascope.finder.edge import find_edge as find_any_edge
from etascope.records import Curve, Rung

find_edge = partial(find_any_edge, adapts=True)


def rung(steps, losses):
    """A rung from {lr: final loss}; a loss of 2 is that at init, one above it diverged, `inf` was not finite."""

    def curve(lr, loss):
        bad, ended = loss > 2, loss if 2 < loss < math.inf else None
        return Curve(lr, 0, steps, math.inf if bad else loss, 3 if loss == math.inf else None, steps, ended=ended)

    return Rung.of(steps, [curve(lr, loss) for lr, loss in losses.items()])


def test_nothing_diverged():
    assert find_edge([rung(10, {1e-3: 1.9, 1e-2: 1.5, 1e-1: 1.2})], 100, 2.0, decays=True) is None


def test_a_useless_lr_that_ended_above_the_init_did_not_diverge():
    """Noise, or a batch normalisation's statistics, lift what learns nothing."""
    short = rung(10, {1e-5: 2.01, 1e-2: 1.5, 1e-1: 1.2})
    assert [c.diverged for c in short.curves] == [False, False, False]
    assert short.curves[0].loss == 2.01
    assert find_edge([short], 100, 2.0, decays=True) is None


@pytest.mark.parametrize("decays", [True, False])
def test_at_the_horizon_itself_it_lies_between_what_trained_and_what_did_not(decays):
    edge = find_edge([rung(100, {0.01: 1.0, 0.1: 1.1, 1.0: 5.0, 10.0: 7.0})], 100, 2.0, decays=decays)
    assert 0.1 < 10 ** edge.at(100) < 1.0
    assert edge.at(100, 0.05) < edge.at(100, 0.5) < edge.at(100, 0.95)


def test_a_short_run_that_ended_a_little_above_the_init_may_recover_in_a_longer_one():
    short = [rung(10, {0.01: 1.5, 0.1: 1.4, 1.0: 3.0})]
    constant, decaying = (find_edge(short, 1000, 2.0, decays=d) for d in (False, True))
    assert constant.at(10) < constant.at(1000) < decaying.at(1000)


@pytest.mark.parametrize("decays", [True, False])
def test_plain_steps_recover_less_than_adaptive_ones(decays):
    short = [rung(10, {0.01: 1.5, 0.1: 1.4, 1.0: 3.0})]
    plain, adaptive = (find_any_edge(short, 1000, 2.0, decays=decays, adapts=a).at(1000) for a in (False, True))
    assert plain < adaptive


@pytest.mark.parametrize("loss", [math.inf, 1e6])
def test_an_explosion_stays_one(loss):
    short = [rung(10, {0.01: 1.5, 0.1: 1.4, 1.0: loss, 10.0: loss})]
    mild = [rung(10, {0.01: 1.5, 0.1: 1.4, 1.0: 3.0, 10.0: 3.0})]
    exploded, recovers = (find_edge(r, 1000, 2.0, decays=True).at(1000) for r in (short, mild))
    assert -1 < exploded < 0.1 < recovers


def test_longer_rungs_count():
    """What trained in a longer run moves the edge up."""
    short = rung(10, {0.01: 1.5, 0.1: 1.4, 1.0: 3.0})
    longer = rung(100, {0.1: 1.2, 3.0: 1.5})
    alone, together = (find_edge(rungs, 1000, 2.0, decays=True).at(1000) for rungs in ([short], [short, longer]))
    assert together > alone + 0.3
    above = find_edge([short, longer], 1000, 2.0, decays=True).above(np.array([-1.0, together, 9.0]), 1000)
    assert above[0] > 0.99 and abs(above[1] - 0.5) < 0.02 and above[2] < 1e-6
