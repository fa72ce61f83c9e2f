"""The scoring of the finders' benchmark, on a truth made by hand; nothing is trained."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest

from etascope.records import Curve, Engine, Rung, Sweep

FINDERS = Path(__file__).parent.parent / "benchmarks" / "finders"
NAMES = ("scores", "table", "calibration", "labels", "summary")

# lr         0.001   0.01    0.1     1      10
# seed 0     2.0     1.0     1.02    1.3    -
# seed 1     2.0     1.1     1.10    1.5    -
# seed 2     2.0     1.2     1.24    -      -
# mean       2.0     1.1     1.12    -      -
# init 3.1: drop 2.0; one deviation at the best .1, standard error .0577, zone up to 1.2
LOSSES = {
    1e-3: (2.0, 2.0, 2.0),
    1e-2: (1.0, 1.1, 1.2),
    1e-1: (1.02, 1.10, 1.24),
    1.0: (1.3, 1.5, None),
    10.0: (None, None, None),
}


def curve(lr: float, seed: int, loss: float | None) -> Curve:
    """A hundred steps, evaluated at 50 (twice the final loss) and the end; what diverges does so at step 60."""
    if loss is None:
        return Curve(lr, seed, 100, math.inf, 60, 60, val=((0, 3.1), (50, 8.0)))
    return Curve(lr, seed, 100, loss, None, 100, val=((0, 3.1), (50, 2 * loss), (100, loss)))


def truth(losses: dict[float, tuple[float | None, ...]]) -> Sweep:
    curves = [curve(lr, seed, loss) for lr, row in losses.items() for seed, loss in enumerate(row)]
    return Sweep(
        task="toy", horizon=100, seed=0, init_loss=3.1, engine=Engine("loop", 1, 1, "cpu"), cost=15.0, eval_s=0.0,
        wall_s=0.0, rungs=(Rung.of(100, curves),), versions={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def dense() -> Sweep:
    return truth(LOSSES)


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules, as a script in their folder imports them."""
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(FINDERS))
    try:
        yield SimpleNamespace(**{name: __import__(name) for name in NAMES})
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", None)).startswith(str(FINDERS.parent)):
                del sys.modules[name]


def test_an_lr_is_judged_by_its_mean_loss(bench: SimpleNamespace, dense: Sweep) -> None:
    assert bench.scores.score(dense, 1e-2) == (True, 0.0)
    assert bench.scores.score(dense, 1e-1) == (True, pytest.approx(0.01))
    in_zone, regret = bench.scores.score(dense, 10**-2.5)
    assert not in_zone and regret == pytest.approx(0.225)  # half way to 2.0


@pytest.mark.parametrize("lr", [None, 0.5, 1.0, 10.0, 100.0])
def test_no_lr_and_one_that_diverges_or_lies_above_have_a_regret_of_one(
    bench: SimpleNamespace, dense: Sweep, lr: float | None
) -> None:
    assert bench.scores.score(dense, lr) == (False, 1.0)


def test_below_the_grid_learning_is_proportional_to_the_lr(bench: SimpleNamespace, dense: Sweep) -> None:
    assert bench.scores.score(dense, 5e-4) == (False, pytest.approx(1 - 0.55 / 2))


@pytest.mark.parametrize(
    ("loss", "expected"), [(1.1, (True, 0.0)), (1.19, (True, 0.045)), (1.3, (False, 0.1)), (9.0, (False, 1.0))]
)
def test_a_final_loss_is_judged_as_it_is(
    bench: SimpleNamespace, dense: Sweep, loss: float, expected: tuple[bool, float]
) -> None:
    in_zone, regret = bench.scores.score_loss(dense, loss)
    assert (in_zone, regret) == (expected[0], pytest.approx(expected[1]))
    assert bench.scores.score_loss(dense, math.inf) == (False, 1.0)


def test_as_good_as_the_best_is_within_a_standard_error(bench: SimpleNamespace, dense: Sweep) -> None:
    """From 1.1 + .0577, crossed on the line from 2.0, to 0.1: beyond it a seed diverges."""
    reach = -2 - 0.1 / math.sqrt(3) / 0.9
    ends = [end for part in bench.scores.as_good(dense) for end in part]
    assert (min(ends), max(ends)) == (pytest.approx(reach), -1)


@pytest.mark.parametrize(
    ("interval", "covers", "value"),
    [
        ((1e-3, 1.0), True, 3.0),
        ((0.02, 0.03), True, math.log10(1.5)),  # as narrow as one likes, between two lrs of the truth
        ((0.2, 0.4), False, math.log10(2) * 21),  # as far from 0.1 as it is wide: 1 + 20 times that
        ((1e-4, 1e-3), False, 1 + 20 * (1 - 0.1 / math.sqrt(3) / 0.9)),
    ],
)
def test_intervals_pay_for_width_and_twenty_times_for_a_miss(
    bench: SimpleNamespace, dense: Sweep, interval: tuple[float, float], covers: bool, value: float
) -> None:
    assert bench.scores.covers(dense, interval) is covers
    assert bench.scores.interval_score(dense, interval) == pytest.approx(value)


@pytest.mark.parametrize(
    ("edge", "right"), [(0.1, True), (1.0, True), (0.072, True), (0.069, False), (14, True), (15, False), (None, False)]
)
def test_an_edge_is_right_between_what_trains_and_what_never_does(
    bench: SimpleNamespace, dense: Sweep, edge: float | None, right: bool
) -> None:
    """0.1 trains for all seeds, 10 for none; .15 decade of slack to each side."""
    assert bench.scores.edge_right(dense, edge) is right


def test_an_edge_is_not_judged_where_the_truth_has_none(bench: SimpleNamespace) -> None:
    flat = truth({lr: row for lr, row in LOSSES.items() if lr < 0.5})
    assert bench.scores.edge_right(flat, 0.01) is None and bench.scores.edge_right(flat, None) is None


def test_an_edge_without_an_upper_end(bench: SimpleNamespace) -> None:
    open_ended = truth({lr: row for lr, row in LOSSES.items() if lr < 5})
    assert bench.scores.edge_right(open_ended, 50.0) is True
    assert bench.scores.edge_right(open_ended, 0.01) is False


def test_a_table_has_one_seed_at_any_lr(bench: SimpleNamespace, dense: Sweep) -> None:
    table = bench.table.Table(dense, seed=2)
    assert table.steps == (50, 100)
    assert table.loss(1e-2) == table.loss(1e-2, 100) == 1.2 and table.loss(1e-2, 50) == 2.4
    assert table.loss(10**-2.5) == pytest.approx(1.6) and table.loss(10**-2.5, 50) == pytest.approx(3.2)
    assert table.loss(0.2) == table.loss(1.0) == math.inf
    assert bench.table.Table(dense, seed=3).loss(1.0) == 1.3  # seed 0 again


def test_a_table_knows_how_long_a_training_went(bench: SimpleNamespace, dense: Sweep) -> None:
    table = bench.table.Table(dense, seed=2)
    assert (table.trained(0.1), table.trained(1.0), table.trained(10**-0.5)) == (100, 60, 80)
    assert table.loss(1.0, 50) == 8.0  # it was still finite
    with pytest.raises(ValueError, match="outside the table"):
        table.loss(20.0)


def test_calibration_looks_at_the_other_workloads_only(bench: SimpleNamespace) -> None:
    """Over a and b, a third is best (mean .1 against .15); over b and c, or a and c, three times the lr is."""
    #     x0.1 x0.3  x1   x3  x10  x30
    regrets = {
        "a": (0.9, 0.0, 0.5, 0.3, 0.9, 0.9),
        "b": (0.9, 0.2, 0.5, 0.0, 0.9, 0.9),
        "c": (0.9, 0.9, 0.1, 0.0, 0.9, 0.9),
        "d": (0.0,),  # lacks factors, and plays no part
    }
    rows = [
        {"method": bench.calibration.named("Prodigy", f), "task": task, "seed": 10, "regret": regret}
        for task, row in regrets.items()
        for f, regret in zip(bench.calibration.FACTORS, row, strict=False)
    ]
    rows.append({"method": "Prodigy", "task": "a", "seed": 11, "regret": -9.0})  # a later seed is not what is compared
    rows.append({"method": "random 10", "task": "a", "seed": 10, "regret": 0.0})
    chosen = bench.calibration.calibrated(rows, lambda row: row["regret"])
    assert {row["task"]: (row["factor"], row["regret"]) for row in chosen} == {
        "a": (3, 0.3),
        "b": (3, 0.0),
        "c": (0.3, 0.9),
    }
    assert {row["method"] for row in chosen} == {"Prodigy, calibrated"}


def row(method: str, seed: int, lr: float | None, **more: object) -> dict[str, object]:
    kept = {"method": method, "budget": None, "half": "reporting", "task": "toy", "seed": seed, "lr": lr, "cost": 1.0}
    return kept | more


def test_a_summary_counts_what_has_no_answer_as_a_miss(
    bench: SimpleNamespace, dense: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.summary, "truth", lambda name: dense)
    stated = {"budget": 0.5, "interval": [0.02, 0.03], "edge": 0.5}
    rows = [
        row("etascope", 10, 1e-2, **stated, cost=0.4),
        row("etascope", 11, 1e-1, **stated | {"interval": [0.2, 0.4], "edge": None}, cost=0.5),
        row("etascope", 12, None, budget=0.5, cost=0.0),
        row("random 10", 10, 1e-2),
        row("random 10", 10, 1e-1, half="choosing"),
    ]
    line, other = bench.summary.summaries(rows, "reporting")
    assert (line.name, line.rows, line.tasks) == ("etascope 0.5", 3, 1)
    assert (line.in_zone, line.none, line.cost) == (pytest.approx(2 / 3), pytest.approx(1 / 3), pytest.approx(0.3))
    assert (line.median, line.worst) == (pytest.approx(0.01), 1.0)
    assert line.spread == pytest.approx(math.sqrt(0.5))  # a decade apart
    assert (line.covered, line.edge, line.width) == (0.5, 0.5, pytest.approx(math.log10(3) / 2))
    assert (other.name, other.rows, other.median) == ("random 10", 1, 0.0)
    assert math.isnan(other.spread) and math.isnan(other.covered)


def test_what_trains_itself_is_judged_by_its_loss(
    bench: SimpleNamespace, dense: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.summary, "truth", lambda name: dense)
    rows = [row("Prodigy", 10, 1.0, loss=1.3), row("Prodigy", 11, 1.0, loss=None)]
    (line,) = bench.summary.summaries(rows, "reporting")
    assert (line.median, line.worst, line.in_zone) == (pytest.approx(0.55), 1.0, 0.0)
    assert "Prodigy" in bench.summary.lines(rows, "reporting")[1]


def test_names_in_the_picture_keep_off_each_other(bench: SimpleNamespace) -> None:
    frame = bench.labels.Box(0, 0, 600, 300)
    points = [("a method of some length", "#000", (300 + i % 3, 150 + 4 * (i // 3))) for i in range(12)]
    found = bench.labels.placed(points, [], frame)
    assert len(found) == 12 and all(label.box.inside(frame) for label in found)
    assert not any(a.box.meets(b.box) for a, b in combinations(found, 2))
    assert not any(label.box.meets(bench.labels.Box(x, y, x, y)) for label in found for *_, (x, y) in points)
