"""`sweep(lanes=[...])`: from dicts to a record that says which lane had what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import etascope as eta
from etascope.engines import Lanes, Loop

X = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)


def loss(model: nn.Module, batch: Any, label_smoothing: float = 0.0) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=label_smoothing)


def train(seed: int, fold: int = 0) -> Iterator[Any]:
    rows = torch.randperm(80, generator=torch.Generator().manual_seed(seed))
    yield from ((X[r], Y[r]) for r in rows[rows % 4 != fold].split(20))


def task(**changes: Any) -> eta.Task:
    options: dict[str, Any] = {
        "model": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 3)),
        "loss": loss,
        "optimizer": torch.optim.AdamW,
        "train": train,
        "val": [(X[80:], Y[80:])],
        "horizon": 30,
    }
    return eta.Task(**(options | changes))


LANES: list[dict[str, Any]] = [
    {"lr": 1e-2, "weight_decay": 0.1},
    {"lr": 3e-2, "seed": 1, "schedule": eta.cosine(), "betas": (0.8, 0.99)},
    {"lr": 3e-2, "label_smoothing": 0.1, "dropout": 0.3, "schedule": "warmup(10%) >> linear()"},
    {"lr": 1e-2, "fold": 2},
    {"lr": 1e6},
]


@pytest.mark.parametrize("engine", ["lanes", "loop", "auto"])
def test_a_lanes_sweep_says_which_lane_had_what(engine: str, tmp_path: Path) -> None:
    found = eta.sweep(task(), lanes=LANES, engine=engine, out=tmp_path / "run", progress=False)
    assert [(lane.lr, lane.options) for lane in found.lanes] == [
        (1e-2, {"fold": 2}),
        (1e-2, {"weight_decay": 0.1}),
        (3e-2, {"betas": [0.8, 0.99], "schedule": "cosine()"}),
        (3e-2, {"dropout": 0.3, "label_smoothing": 0.1, "schedule": "warmup('10%') >> linear()"}),
        (1e6, {}),
    ]
    assert found.lanes[2].curves[0].seed == 1
    best = min(found.lanes, key=lambda lane: lane.mean)
    assert found.best == (best.lr, best.mean)
    assert found.best_lane.options == best.options

    assert eta.load(tmp_path / "run") == found
    assert type(found).from_json(json.loads(json.dumps(found.to_json()))) == found
    assert "4 lanes" in str(found)
    assert "1 of 5 lanes diverged" in str(found)
    eta.report(found, tmp_path / "report.html")
    for shown in (eta.text(found), (tmp_path / "report.html").read_text()):
        assert "betas=(0.8, 0.99), schedule=cosine()" in shown
        assert "weight_decay=0.1" in shown


def test_a_lane_without_a_seed_is_trained_for_each(tmp_path: Path) -> None:
    lanes = [{"lr": 0.01}, {"lr": 0.01, "weight_decay": 0.3}, {"lr": 0.02, "seed": 7}]
    found = eta.sweep(task(), lanes=lanes, seeds=(3, 1), engine="lanes", progress=False)
    assert [(lane.lr, [c.seed for c in lane.curves]) for lane in found.lanes] == [
        (0.01, [1, 3]),
        (0.01, [1, 3]),
        (0.02, [7]),
    ]
    assert found.seed == 1


def test_lanes_of_nothing_but_lrs_are_the_usual_sweep() -> None:
    lrs = [0.003, 0.01, 0.03, 0.1]
    plain = eta.sweep(task(), lrs=lrs, engine="lanes", progress=False)
    lanes = eta.sweep(task(), lanes=[{"lr": lr} for lr in lrs], engine="lanes", progress=False)
    assert plain.rungs == lanes.rungs
    assert "options" not in json.dumps(plain.to_json())


@pytest.mark.parametrize("engine", ["lanes", "loop"])
def test_an_interrupted_lanes_sweep_goes_on(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a switch of the optimizer is the same in all lanes of a stack, so there are two
    lanes = [{"lr": 0.01, "weight_decay": w, "seed": s, "amsgrad": w > 0} for w in (0.0, 0.1, 0.2) for s in range(4)]
    whole = eta.sweep(task(), lanes=lanes, engine=engine, progress=False)
    kind: Any = Lanes if engine == "lanes" else Loop
    train_one: Callable[..., Any] = kind.train
    calls: list[Any] = []

    def once(self: Any, unit: Any, *args: Any) -> Any:
        if len(calls) == 5 - 4 * (engine == "lanes"):
            raise KeyboardInterrupt
        calls.append(unit)
        return train_one(self, unit, *args)

    monkeypatch.setattr(kind, "train", once)
    with pytest.raises(KeyboardInterrupt):
        eta.sweep(task(), lanes=lanes, engine=engine, out=tmp_path, progress=False)
    monkeypatch.setattr(kind, "train", train_one)
    trained: list[Any] = []
    monkeypatch.setattr(kind, "train", lambda self, unit, *a: trained.extend(unit) or train_one(self, unit, *a))
    found = eta.sweep(task(), lanes=lanes, engine=engine, out=tmp_path, progress=False)
    assert len(trained) == len(lanes) - sum(map(len, calls))
    assert [c.options for c in found.rungs[0].curves] == [c.options for c in whole.rungs[0].curves]
    with pytest.raises(eta.RecordError, match="its lanes is"):
        eta.sweep(task(), lanes=lanes[:-1], engine=engine, out=tmp_path, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"lanes": []},
        {"lanes": {"lr": 0.1}},
        {"lanes": [0.1]},
        {"lanes": [{"weight_decay": 0.1}]},
        {"lanes": [{"lr": 0}]},
        {"lanes": [{"lr": 0.1, "seed": 0.5}]},
        {"lanes": [{"lr": 0.1}, {"lr": 0.1, "seed": 0}]},
        {"lanes": [{"lr": 0.1, "schedule": "cosin()"}]},
        {"lanes": [{"lr": 0.1, "weight_decay": None}]},
        {"lanes": [{"lr": 0.1, "weight_decay": float("nan")}]},
        {"lanes": [{"lr": 0.1, "depth": 3}]},
        {"lanes": [{"lr": 0.1}], "lrs": [0.1]},
        {"lanes": [{"lr": 0.1}], "lr_min": 0.1},
    ],
)
def test_bad_lanes_name_cause_and_next_move(options: dict[str, Any]) -> None:
    with pytest.raises(eta.OptionError) as caught:
        eta.sweep(task(), progress=False, **options)
    assert caught.value.cause
    assert caught.value.next_move


def test_a_training_function_takes_no_options() -> None:
    run = lambda lr, steps, seed: (lr - 0.1) ** 2  # noqa: E731
    found = eta.sweep(run, horizon=5, lanes=[{"lr": 0.1}, {"lr": 0.2, "seed": 3}], init_loss=9.0, progress=False)
    assert found.best[0] == 0.1
    with pytest.raises(eta.OptionError, match="takes no other options"):
        eta.sweep(run, horizon=5, lanes=[{"lr": 0.1, "weight_decay": 0.1}], progress=False)


def test_nan_in_one_fold_is_found_there() -> None:
    def spoilt(seed: int, fold: int = 0) -> Iterator[Any]:
        for x, y in train(seed):
            yield (x * float("nan") if fold else x), y

    with pytest.raises(eta.TaskError, match="the data is why"):
        eta.sweep(task(train=spoilt), lanes=[{"lr": 0.01, "fold": 1}], progress=False)
    ok = eta.sweep(task(train=spoilt), lanes=[{"lr": 0.01}, {"lr": 0.02, "weight_decay": 0.0}], progress=False)
    assert ok.best_lane.curves[0].diverged_at is None


@pytest.mark.parametrize("engine", ["lanes", "loop"])
def test_nan_in_one_fold_leaves_the_others_their_answer(engine: str) -> None:
    def spoilt(seed: int, fold: int = 0) -> Iterator[Any]:
        for i, (x, y) in enumerate(train(seed, fold)):
            yield (x * float("nan") if fold == 2 and i == 1 else x), y

    lanes = [{"lr": lr, "fold": fold} for lr in (0.01, 0.02) for fold in (1, 2, 3)]
    found, clean = (eta.sweep(task(train=t), lanes=lanes, engine=engine, progress=False) for t in (spoilt, train))
    for lane, same in zip(found.lanes, clean.lanes, strict=True):
        assert lane.curves[0].diverged_at == 1 if lane.options["fold"] == 2 else lane == same  # to the bit
    (note,) = found.notes
    assert note.startswith("no setting that saw it stayed finite: training batch 1 (counted from 0) of seed 0, fold=2")
    with pytest.raises(eta.TaskError, match=r"the data is why: training batch 1 .* of seed 0, fold=2: tensor 0"):
        eta.sweep(task(train=spoilt), lanes=lanes[1::3], engine=engine, progress=False)


def test_without_validation_data_the_record_says_that_losses_are_the_lanes_own() -> None:
    found = eta.sweep(task(val=None), lanes=[{"lr": 0.01}, {"lr": 0.01, "label_smoothing": 0.2}], progress=False)
    assert any("its own training loss" in note for note in found.notes)


class Plain:
    """A progress of the user's own, with the protocol's methods alone."""

    def __init__(self) -> None:
        self.steps, self.totals = 0, list[int]()

    def plan(self, line: str) -> None: ...

    def start(self, steps: int) -> None:
        self.totals.append(steps)

    def tick(self, steps: int) -> None:
        self.steps += steps

    def rung(self, line: str) -> None: ...

    def stop(self) -> None: ...


class Counting(Plain):
    """One that is told of lanes, too."""

    def __init__(self) -> None:
        super().__init__()
        self.told = list[tuple[int, int]]()

    def lanes(self, live: int, dropped: int) -> None:
        self.told.append((live, dropped))


@pytest.mark.parametrize("engine", ["lanes", "loop"])
def test_progress_is_told_of_lanes_that_drop_and_of_the_steps_that_they_spare(engine: str, tmp_path: Path) -> None:
    def squared(model: nn.Module, batch: Any) -> torch.Tensor:
        return model(batch[0]).square().mean()

    swift = task(loss=squared, optimizer=torch.optim.SGD, horizon=40)
    lrs = [1e-3, 1e-2, 1e18, 1e20]
    counting, plain, again = Counting(), Plain(), Counting()
    found = eta.sweep(swift, lrs=lrs, engine=engine, out=tmp_path, progress=counting)
    trained = [c.trained for c in found.rungs[0].curves]
    assert [c.diverged for c in found.rungs[0].curves] == [False, False, True, True]
    assert max(trained[2:]) < 16
    assert counting.told[0] == (4, 0) and counting.told[-1] == (0, 2)
    if engine == "lanes":
        assert (2, 2) in counting.told  # long before the end
    assert all(live + dropped <= 4 for live, dropped in counting.told)
    assert counting.totals[0] == 160 and counting.totals[-1] == counting.steps == sum(trained)

    eta.sweep(swift, lrs=lrs, engine=engine, progress=plain)
    assert plain.totals[-1] == plain.steps == sum(trained)
    eta.sweep(swift, lrs=lrs, engine=engine, out=tmp_path, progress=again)  # all from the journal
    assert again.told[-1] == (0, 2)
    assert again.totals[-1] == again.steps == sum(trained)
