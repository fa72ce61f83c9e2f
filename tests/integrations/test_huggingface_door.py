"""Hugging Face's Trainer, as it is: found by one line, and left to the bit."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import pickle
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import etascope as eta
from etascope.errors import OptionError, TaskError

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="needs etascope[all]")
pytest.importorskip("accelerate", reason="needs etascope[all]")

from etascope.integrations.huggingface import TrainerRun, training_function  # noqa: E402

HORIZON = 48


class Net(nn.Module):
    """What the Trainer needs of a model, and no more: a loss from labels. With a buffer that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.layers(x)
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


def rows(n: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return [{"x": row, "labels": (row[0] > 0).long()} for row in x]


def make(kind: Any = None, given: dict[str, Any] | None = None, **arguments: Any) -> Any:
    """A trainer of the usual kind; `given` goes to the Trainer, the rest to its arguments."""
    torch.manual_seed(0)
    parts = {"train_dataset": rows(256), "eval_dataset": rows(64, 1)} | (given or {})
    if "model_init" not in parts:
        parts.setdefault("model", Net())
    usual = {
        "output_dir": "unused", "max_steps": HORIZON, "per_device_train_batch_size": 8, "use_cpu": True,
        "report_to": "none", "disable_tqdm": True, "lr_scheduler_type": "cosine",
    }  # fmt: skip
    return (kind or transformers.Trainer)(args=transformers.TrainingArguments(**(usual | arguments)), **parts)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Trainer makes the folder `output_dir` where it stands."""
    monkeypatch.chdir(tmp_path)


def ended(run: TrainerRun, lr: float = 1e-2, steps: int = HORIZON, seed: int = 0) -> tuple[float, list[Any]]:
    """The loss that a run returns, and what it yielded."""
    points, training = [], run(lr, steps, seed)
    while True:
        try:
            points.append(next(training))
        except StopIteration as end:
            return end.value, points


def digest(trainer: Any) -> dict[str, str]:
    """Every attribute of a trainer, byte by byte."""

    def of(value: Any) -> str:
        if isinstance(value, nn.Module):
            value = {
                "state": value.state_dict(),
                "training": value.training,
                "at": id(value),
                "own": sorted(vars(value)),
            }
        buffer = io.BytesIO()
        try:
            torch.save(value, buffer)
        except (pickle.PicklingError, AttributeError, TypeError):
            return f"{id(value)} {[type(c) for c in getattr(value, 'callbacks', [])]}"
        return hashlib.sha256(buffer.getvalue()).hexdigest()

    parts = {name: of(value) for name, value in vars(trainer).items() if name != "accelerator"}
    return parts | {"weights": of(list(trainer.model.parameters())), "buffers": of(list(trainer.model.buffers()))}


def randomness() -> tuple[Any, ...]:
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()


# ------------------------------------------------------------------------------------------ the verbs


def test_one_line_finds_it_and_leaves_the_trainer_to_the_bit(tmp_path: Any, capsys: Any) -> None:
    trainer = make(warmup_steps=5)
    model, verbosity = trainer.model, transformers.logging.get_verbosity()
    before, states, folder = digest(trainer), randomness(), sorted(tmp_path.rglob("*"))
    found = eta.find(trainer, seed=3)
    assert digest(trainer) == before
    assert trainer.model is model and trainer.optimizer is None and trainer.lr_scheduler is None
    assert trainer.state.log_history == [] and trainer.state.global_step == 0
    assert randomness() == states
    assert transformers.logging.get_verbosity() == verbosity
    assert sorted(tmp_path.rglob("*")) == folder
    assert capsys.readouterr().out == ""
    assert isinstance(found, eta.Finding)
    assert (found.task, found.horizon, found.cost <= 1.0) == ("Net", HORIZON, True)
    assert found.optimizer == "AdamW()" and found.groups == 2
    assert found.paste == "TrainingArguments(learning_rate={lr}, ...)"
    pasted = re.search(r"TrainingArguments\(learning_rate=(\S+), \.\.\.\)", eta.text(found))
    assert pasted is not None and float(pasted[1]) == pytest.approx(found.lr, rel=0.05)
    assert "cosine, warmup of 5 steps" in eta.text(found)
    assert dict(found.multipliers)[5] == 1.0 and dict(found.multipliers)[0] == 0.0
    assert eta.find(trainer, seed=3).lr == found.lr


def test_sweep_and_plan_take_it_too() -> None:
    trainer = make()
    swept = eta.sweep(trainer, lrs=[1e-6, 1e-2], seeds=(0,))
    assert swept.best[0] == 1e-2
    assert "AdamW" in eta.plan(trainer).line
    assert eta.plan(trainer, budget="1min").seconds is not None


def test_a_finding_in_a_folder_is_not_trained_again(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make()
    found = eta.find(trainer, out=tmp_path / "run")
    monkeypatch.setattr(transformers.Trainer, "train", lambda *_: 1 / 0)
    assert eta.find(trainer, out=tmp_path / "run").lr == found.lr


# ------------------------------------------------------------------------------------------ a run is theirs


def test_the_full_run_is_the_trainers_own() -> None:
    arguments = {"warmup_steps": 5, "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "seed": 7, "data_seed": 7}
    loss, points = ended(training_function(make(**arguments)), lr=1e-2, seed=7)
    theirs = make(**arguments, logging_steps=1)
    transformers.set_seed(7)
    theirs.train()
    assert loss == theirs.evaluate()["eval_loss"]
    assert [p[0] for p in points] == list(range(HORIZON))
    assert [p[1] for p in points] == [row["loss"] for row in theirs.state.log_history if "loss" in row]


def test_the_loss_at_init_is_evaluated_and_seeds_repeat() -> None:
    trainer = make()
    run = training_function(trainer)
    assert ended(run, steps=0) == (trainer.evaluate()["eval_loss"], [])
    assert ended(run, steps=9) == ended(run, steps=9)
    assert ended(run, steps=9) != ended(run, steps=9, seed=1)


def test_model_init_is_seeded() -> None:
    run = training_function(make(given={"model_init": Net}))
    starts = [ended(run, steps=0, seed=seed)[0] for seed in (0, 1, 0)]
    assert starts[0] == starts[2] != starts[1]


@pytest.mark.parametrize("steps", [6, 24, HORIZON])
@pytest.mark.parametrize(("given", "share"), [(16, 1 / 3), (0.25, 0.25), (0, 0)])
def test_warmup_keeps_its_share(monkeypatch: pytest.MonkeyPatch, steps: int, given: float, share: float) -> None:
    asked: list[tuple[int, int]] = []
    real = transformers.trainer.get_scheduler

    def spy(*a: Any, num_warmup_steps: int, num_training_steps: int, **k: Any) -> Any:
        asked.append((num_warmup_steps, num_training_steps))
        return real(*a, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps, **k)

    run = training_function(make(warmup_steps=given))
    monkeypatch.setattr(transformers.trainer, "get_scheduler", spy)
    ended(run, steps=steps)
    assert asked == [(round(share * steps), steps)]


def test_lengths_of_a_stable_decay_keep_their_share() -> None:
    """48 steps, of which the last 12 decay: the last 6 of 24."""
    trainer = make(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 12}, warmup_steps=8)
    args = training_function(trainer)._args(1e-3, 24, 0, "unused")
    assert (args.lr_scheduler_kwargs, args.warmup_steps) == ({"num_decay_steps": 6}, 4)
    assert trainer.args.lr_scheduler_kwargs == {"num_decay_steps": 12}


def test_accumulation_and_epochs_are_counted_in_steps() -> None:
    """250 rows in batches of 8 are 32 batches, four to a step: 8 steps an epoch."""
    given = {"train_dataset": rows(250)}
    trainer = make(given=given, max_steps=-1, num_train_epochs=2.5, gradient_accumulation_steps=4)
    assert training_function(trainer).horizon == 20
    trainer.train()
    assert trainer.state.global_step == 20
    assert training_function(trainer).horizon == 20  # trained, it is still taken: the optimizer is its own


# ------------------------------------------------------------------------------------------ what people change


class Distilled(transformers.Trainer):
    """A subclass with arguments of its own, a loss of its own, and a count that its trainings move."""

    def __init__(self, *args: Any, teacher: nn.Module, weight: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teacher, self.weight, self.calls = teacher, weight, [0]

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
        self.calls[0] += 1
        outputs = model(**inputs)
        loss = self.weight * nn.functional.mse_loss(outputs["logits"], self.teacher(**inputs)["logits"]) + 1.0
        return (loss, outputs) if return_outputs else loss


def test_a_subclass_keeps_its_loss_and_its_own_attributes() -> None:
    torch.manual_seed(5)
    teacher = Net().eval().requires_grad_(False)
    trainer = make(lambda **k: Distilled(teacher=teacher, weight=2.0, **k))
    before = copy.deepcopy(teacher.state_dict())
    run = training_function(trainer)
    start, end = ended(run, steps=0)[0], ended(run)[0]
    assert 1 < end < start
    assert trainer.calls == [0]
    assert all(torch.equal(teacher.state_dict()[k], v) for k, v in before.items())
    assert isinstance(eta.find(trainer), eta.Finding)


def test_its_optimizers_class_gets_the_lr() -> None:
    given = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9})}
    trainer = make(given=given)
    run = training_function(trainer)
    assert ended(run, lr=1e-3)[0] != ended(run, lr=1e-1)[0]
    assert run.about.optimizer == "SGD(momentum=0.9)"
    assert run.about.paste == 'Trainer(optimizer_cls_and_kwargs=(SGD, {"lr": {lr}, ...}), ...)'
    assert given["optimizer_cls_and_kwargs"][1] == {"lr": 1e-3, "momentum": 0.9}


def test_without_evaluation_data_the_end_of_training_is_judged() -> None:
    run = training_function(make(given={"eval_dataset": None}))
    loss, points = ended(run)
    assert loss == pytest.approx(np.mean([p[1] for p in points if p[0] + 1 > 0.9 * HORIZON]))
    assert np.isnan(ended(run, steps=0)[0])
    assert "no eval_dataset" in run.about.judged
    found = eta.find(make(given={"eval_dataset": None}))
    assert found.init_loss is None and isinstance(found, eta.Finding)


def test_several_evaluation_sets_are_judged_by_their_mean() -> None:
    sets = {"a": rows(32, 1), "b": rows(64, 2)}
    trainer = make(given={"eval_dataset": sets})
    results = trainer.evaluate()
    assert ended(training_function(trainer), steps=0)[0] == (results["eval_a_loss"] + results["eval_b_loss"]) / 2


def test_callbacks_and_metrics_are_left_out_and_said() -> None:
    class Never(transformers.TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            raise AssertionError

    trainer = make(
        given={"callbacks": [Never(), transformers.EarlyStoppingCallback()], "compute_metrics": lambda _: 1 / 0},
        load_best_model_at_end=True, eval_strategy="steps", eval_steps=8, save_steps=8,
        metric_for_best_model="accuracy",
    )  # fmt: skip
    run = training_function(trainer)
    assert np.isfinite(ended(run)[0])
    assert run.about.notes == (
        "callbacks are left out of the runs: Never",
        "metric_for_best_model is accuracy; the runs are judged by eval_loss",
    )


# ------------------------------------------------------------------------------------------ what is refused


def test_refused() -> None:
    net = Net()
    ready = make(given={"model": net, "optimizers": (torch.optim.SGD(net.parameters(), lr=0.1), None)})
    plateau = make(lr_scheduler_type="reduce_lr_on_plateau", eval_strategy="steps", eval_steps=8)
    for trainer, cause, next_move in (
        (ready, "a SGD that is built already", "optimizer_cls_and_kwargs"),
        (plateau, "follows a metric", "'cosine'"),
    ):
        with pytest.raises(TaskError, match=cause) as refused:
            eta.find(trainer)
        assert next_move in refused.value.next_move
    with pytest.raises(OptionError, match="horizon is given twice"):
        eta.find(make(), horizon=10)
    with pytest.raises(OptionError, match="datamodule= is Lightning's"):
        eta.find(make(), datamodule=object())


def test_an_lr_without_effect_is_refused() -> None:
    class Fixed(transformers.Trainer):
        def create_optimizer(self, model: Any = None) -> Any:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
            return self.optimizer

    with pytest.raises(TaskError, match=r"the lr has no effect: the optimizer.s is 0\.01") as refused:
        eta.find(make(Fixed))
    assert "args.learning_rate" in refused.value.next_move


def test_data_that_fails_is_named() -> None:
    with pytest.raises(TaskError, match="missing 1 required positional argument: 'labels'"):
        eta.find(make(given={"train_dataset": [{"x": torch.zeros(8)}] * 64, "eval_dataset": None}))
    unlabelled = [{k: v for k, v in row.items() if k == "x"} for row in rows(8)]
    with pytest.raises(TaskError, match=r"raised|gives no eval_loss"):
        eta.find(make(given={"eval_dataset": unlabelled}))
