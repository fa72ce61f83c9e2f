"""The usual finders' rules on curves whose answers are known, and the look itself in a race."""

import json

import numpy as np
import pytest
import torch

import etascope as eta
from etascope.finder.range_test import suggestions
from etascope.records import load
from etascope.workloads import get


def curve(losses):
    return tuple(zip(np.geomspace(1e-7, 10, len(losses)).tolist(), losses, strict=True))


def test_rules_read_what_they_say():
    x = np.linspace(-7, 1, 100)
    loss = 2.0 - 1.5 / (1 + np.exp(-4 * (x + 3))) + np.where(x > -1, 5 * (x + 1) ** 2, 0.0)  # falls at 1e-3, lowest 0.1
    said = {name: np.log10(lr) for name, lr in suggestions(curve(loss.tolist())).items()}
    assert -3 <= said["steepest"] <= -1  # the average lags behind
    assert said["steepest"] < said["minimum/10"] + 1
    assert -7 < said["valley"] < said["minimum/10"] + 1


def test_too_few_points_say_nothing():
    assert set(suggestions(curve([1.0, 0.9])).values()) == {None}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return eta.find(get("wine-rmsprop"), seed=4, engine="loop", out=folder, progress=False), folder


def test_the_look_costs_and_is_kept(found):
    finding, folder = found
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()[1:-1]]
    assert lines[0]["steps"] == 32  # a twenty-fifth of 800
    assert len(finding.range_test.points) <= lines[0]["curves"][0]["trained"] <= 32
    trained = sum(curve["trained"] for line in lines for curve in line["curves"])
    assert finding.cost * finding.horizon == pytest.approx(trained)
    assert finding.cost <= finding.budget + 1e-9
    lrs = [lr for lr, _ in finding.range_test.points]
    assert lrs == sorted(lrs)
    assert lrs[0] == pytest.approx(1e-7)
    assert load(folder) == finding


def test_the_usual_finders_stand_beside_the_answer(found):
    finding, _ = found
    assert {"default", "rule of thumb", "steepest", "minimum/10", "valley", "slide"} <= set(finding.heuristics)
    assert finding.heuristics["default"].lr == 0.01  # torch's RMSprop
    assert finding.heuristics["default"] == finding.judge(0.01)


def test_an_explanation_says_each_rung_and_what_stands_beside_them(found):
    finding, _ = found
    said = finding.explain().splitlines()
    assert f"{finding.lr:.1e}".replace("e-0", "e-").replace(".0e", "e") in said[0]
    assert sum(line.startswith("rung ") for line in said) == len(finding.rungs) == len(finding.course)
    for part in ("drift:", "noise:", "edge:", "default:", "valley:"):
        assert sum(line.startswith(part) for line in said) == 1
    assert finding.course[-1].lr == finding.lr


def test_no_look_goes_beyond_the_users_own_bound():
    assert eta.find(get("wine-rmsprop"), seed=4, lr_max=1.0, engine="loop", progress=False).range_test is None


def test_a_training_function_has_no_such_look():
    def run(lr, steps, seed):
        return 1.0 + (np.log10(lr) + 2) ** 2 if steps else 4.0

    finding = eta.find(run, horizon=1000)
    assert finding.range_test is None
    assert finding.heuristics == {}
    assert "rung 1" in finding.explain()


def test_a_repeated_race_reads_the_look_from_its_journal(tmp_path):
    calls = []

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            calls.append(1)
            return super().step(closure)

    def task():
        x = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
        data = [(part, part.sum(1, keepdim=True)) for part in x.split(32)]
        return eta.Task(
            model=lambda: torch.nn.Linear(4, 1), optimizer=Counting, train=data, val=data[:1], horizon=600,
            loss=lambda model, batch: torch.nn.functional.mse_loss(model(batch[0]), batch[1]),
        )  # fmt: skip

    first = eta.find(task(), engine="loop", out=tmp_path, progress=False)
    before = len(calls)
    again = eta.find(task(), engine="loop", out=tmp_path, progress=False)
    assert again.range_test == first.range_test
    assert again.lr == first.lr
    assert len(calls) - before < 10  # what checking the task takes, no training
