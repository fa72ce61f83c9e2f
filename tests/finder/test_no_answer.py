"""No answer is an answer: each hopeless task is refused, for its own reason, with the next move."""

import sys
from pathlib import Path

import numpy as np
import pytest

import etascope as eta

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks/finders"))
from hopeless import HOPELESS, usual


@pytest.mark.parametrize("name", HOPELESS)
def test_what_is_hopeless_is_refused_for_its_own_reason(name):
    hopeless = HOPELESS[name]
    subject = hopeless.subject if hopeless.is_function else hopeless.subject()
    with pytest.raises(eta.NoAnswer) as refused:
        eta.find(subject, seed=3, progress=False, **hopeless.options)
    assert refused.value.record.kind == hopeless.kind
    assert refused.value.next_move


def test_bounds_that_hold_the_best_are_no_reason():
    found = eta.find(usual(), seed=3, lr_min=1e-4, lr_max=1.0, progress=False)
    assert 1e-3 < found.lr < 0.1


def test_the_kind_survives_the_record(tmp_path):
    with pytest.raises(eta.NoAnswer):
        eta.find(HOPELESS["constant"].subject, horizon=100, out=tmp_path, progress=False)
    record = eta.load(tmp_path)
    assert (record.kind, record.lr) == ("flat", None)


def test_the_border_names_the_bound_and_says_what_lies_beyond():
    def bowl(lr, steps, seed):
        if steps == 0:
            return 2.9
        x = np.log10(lr * steps / 30)
        return float(
            min(0.3 + 0.15 * x * x, 2.9) + 1e-3 * np.random.default_rng([seed, int(lr * 1e9)]).standard_normal()
        )

    with pytest.raises(eta.NoAnswer, match=r"lr_max=0\.0005") as refused:
        eta.find(bowl, horizon=1000, lr_max=5e-4)
    assert "larger" in refused.value.next_move
    with pytest.raises(eta.NoAnswer, match=r"lr_min=1") as refused:
        eta.find(bowl, horizon=1000, lr_min=1.0)
    assert "smaller" in refused.value.next_move


def test_what_never_moves_is_flat_even_where_rounding_lifts_it():
    with pytest.raises(eta.NoAnswer) as refused:
        eta.find(lambda lr, steps, seed: 1.0 + 1e-9 * (steps > 0), horizon=100)
    assert refused.value.record.kind == "flat"


def test_what_ends_far_above_its_start_at_every_lr_diverges():
    with pytest.raises(eta.NoAnswer) as refused:
        eta.find(lambda lr, steps, seed: 1.0 + (steps > 0), horizon=100)
    assert refused.value.record.kind == "diverges"
