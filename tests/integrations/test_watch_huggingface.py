"""`eta.watch` in real trainings by Hugging Face's `Trainer`: a tiny GPT-2 on the topics of pydoc."""

from __future__ import annotations

import functools
import os
import pydoc_data.topics
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import etascope as eta
from etascope.errors import OptionError

from .digits import told

os.environ.setdefault("HF_HUB_OFFLINE", "1")
transformers = pytest.importorskip("transformers", reason="needs etascope[all]")
pytest.importorskip("accelerate", reason="needs etascope[all]")

from etascope.integrations import watch_huggingface  # noqa: E402
from etascope.integrations.huggingface import WatchCallback  # noqa: E402
from etascope.integrations.watch_huggingface import FILE  # noqa: E402

STEPS, BAD = 60, 45
OPTIONS = {"act": True, "policies": (eta.rewind(), eta.plateau(patience=0, factor=0.5, threshold=10.0))}


@functools.cache
def rows(start: int, count: int) -> list[dict[str, list[int]]]:
    text = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    known = [min(ord(c), 127) for c in text[: 16 * 1000]]
    own = (known[i * 16 : (i + 1) * 16] for i in range(start, start + count))
    return [{"input_ids": row, "labels": row} for row in own]


class Poison(transformers.TrainerCallback):
    """One gradient that is not a number, before the watch looks."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == BAD:
            next(kwargs["model"].parameters()).grad[0, 0] = torch.nan


def make(*callbacks: Any, kind: Any = None, given: Any = None, **arguments: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=128, n_positions=16, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.1, bos_token_id=0, eos_token_id=0
    )
    usual = {
        "output_dir": "out", "max_steps": STEPS, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none",
        "disable_tqdm": True, "learning_rate": 1e-2, "eval_strategy": "steps", "eval_steps": 20, "log_level": "error",
        "save_strategy": "no", "logging_steps": 1, "logging_strategy": "no",
    }  # fmt: skip
    return (kind or transformers.Trainer)(
        transformers.GPT2LMHeadModel(config),
        transformers.TrainingArguments(**(usual | arguments)),
        train_dataset=rows(0, 400), eval_dataset=rows(400, 16), callbacks=list(callbacks), **(given or {}),
    )  # fmt: skip


def weights(trainer: Any) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.model.parameters()])


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_without_act_it_is_the_same_to_the_bit() -> None:
    """And the loss is the trainer's own, the mean of the batches of an update."""
    plain = make(max_steps=20, gradient_accumulation_steps=2, logging_strategy="steps")
    plain.train()
    callback = WatchCallback(log=None)
    watched = make(callback, max_steps=20, gradient_accumulation_steps=2, logging_strategy="steps")
    watched.train()
    assert torch.equal(weights(plain), weights(watched))
    theirs = [row for row in plain.state.log_history if "loss" in row]
    seen = list(callback.watch.log.observations())
    assert [o.loss for o in seen] == pytest.approx([row["loss"] for row in theirs], rel=1e-4)
    assert [o.lr for o in seen] == pytest.approx([row["learning_rate"] for row in theirs])
    assert not watched.model._forward_hooks and callback.watch.log.header["horizon"] == 20


def test_decisions_are_taken_logged_and_resumed() -> None:
    """A gradient of nan is left out; validations halve the lr; a checkpoint goes on with it all."""
    callback = WatchCallback(log="run.jsonl", **OPTIONS)
    whole = make(Poison(), callback, save_strategy="steps", save_steps=40)
    whole.train()
    log = eta.read_log("run.jsonl")
    assert [(d.step, d.code, d.action, d.taken) for d in log.decisions if d.code] == [(BAD, "ETA001", "skip", True)]
    assert torch.isfinite(weights(whole)).all() and log.lines[-1]["why"] == "over"
    assert (whole.state.global_step, callback.watch.step) == (STEPS, STEPS - 1)  # the trainer counts what was left out
    assert [line["scale"] for line in log.of("factors")] == [0.5] and len(list(log.of("val"))) == 3
    assert list(log.observations())[-1].lr == pytest.approx(0.5 * 1e-2 / STEPS)

    assert Path("out/checkpoint-40", FILE).exists()
    again = make(Poison(), WatchCallback(log="again.jsonl", **OPTIONS))
    again.train(resume_from_checkpoint="out/checkpoint-40")
    assert torch.equal(weights(whole), weights(again))
    assert told(eta.read_log("again.jsonl")) == told(log, since=40)

    Path("out/checkpoint-40").rename("elsewhere")
    with pytest.warns(UserWarning, match="the watch begins anew"):
        make(WatchCallback(log=None, **OPTIONS), max_steps=41).train(resume_from_checkpoint="elsewhere")
    other = WatchCallback(log=None, resume="elsewhere", **OPTIONS)
    make(other, max_steps=41).train(resume_from_checkpoint="elsewhere")
    assert other.watch.step == 41 and list(other.watch.log.observations())[-1].lr == list(log.observations())[40].lr


@pytest.mark.parametrize("act", [False, True])
@pytest.mark.parametrize(("items", "seen"), [(8, 3.0), (None, 1.5)])
def test_one_place_takes_the_mean_over_processes(
    act: bool, items: int | None, seen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses of 1 here and of 2 there: shares that add up where `Trainer` has divided each by the items of all."""

    class Watched:
        acts = act

        def observe(self, loss: torch.Tensor) -> None:
            # One that acts takes the mean over the processes.
            observed.append(((loss + 2 * loss) / 2 if act else loss).item())

    def reduced(loss: torch.Tensor, how: str) -> torch.Tensor:
        assert how == "mean" and not act
        return (loss + 2 * loss) / 2

    observed: list[float] = []
    monkeypatch.setattr(watch_huggingface, "reduce", reduced)
    callback = WatchCallback(log=None)
    callback.watch = Watched()
    loss = torch.tensor(1.0)
    callback._look(torch.nn.Linear(1, 1), (), {"num_items_in_batch": items}, {"loss": loss})
    loss *= 2  # as Trainer does
    callback.on_pre_optimizer_step(SimpleNamespace(world_size=2, average_tokens_across_devices=True), None, None)
    assert observed == [seen]


def test_a_stop_ends_the_training() -> None:
    callback = WatchCallback(log="run.jsonl", act=True, policies=(eta.early_stop(patience=1, threshold=0.99),))
    trainer = make(callback, eval_steps=4)
    trainer.train()
    assert trainer.state.global_step == 12 and eta.read_log("run.jsonl").lines[-1]["why"] == "stopped"


def test_a_schedule_of_ours_is_watched_as_a_handle() -> None:
    class Ours(transformers.Trainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            own = eta.integrations.ScheduleLR(optimizer or self.optimizer, eta.cosine(), horizon=num_training_steps)
            self.lr_scheduler, self._created_lr_scheduler = own, True
            return own

    callback = WatchCallback(log=None, act=True)
    make(Poison(), callback, kind=Ours, max_steps=50).train()
    assert callback.watch.log.header["schedule"] is not None and callback.watch.step == 49
    assert [d.action for d in callback.watch.decisions] == ["skip"]


def test_a_loss_that_the_model_does_not_return() -> None:
    def loss_of(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
        logits = outputs["logits"][:, :-1].reshape(-1, 128)
        return torch.nn.functional.cross_entropy(logits, labels[:, 1:].reshape(-1)) / 2

    own = {"given": {"compute_loss_func": loss_of}, "max_steps": 3, "gradient_accumulation_steps": 2}
    with pytest.raises(OptionError, match="returns no loss") as refused:
        make(WatchCallback(log=None, act=True), **own).train()
    assert "callback.take(loss)" in refused.value.next_move
    with pytest.warns(UserWarning, match="goes on unwatched"):
        make(WatchCallback(log=None), **own).train()

    callback = WatchCallback(log=None, act=True)

    class Mine(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().training_step(*args, **kwargs)
            callback.take(loss)
            return loss

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(callback, kind=Mine, **own).train()
    assert [o.step for o in callback.watch.log.observations()] == [0, 1, 2]
    assert next(callback.watch.log.observations()).loss == pytest.approx(4.85, abs=0.3)
