"""A real LRScheduler that no framework can call wrongly: Lightning, Accelerate, transformers' Trainer."""

from __future__ import annotations

import io
import logging
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import LRScheduler

import etascope as eta
from etascope.errors import OptionError
from etascope.integrations.torch import ScheduleLR

SCHEDULE = eta.warmup(3) >> eta.cosine(to=0.1)


def expected(horizon: int, peak: float = 0.1) -> list[float]:
    """The lr at the number of true updates."""
    b = SCHEDULE.bind(horizon)
    return [peak * b(t) for t in range(horizon)]


def record(optimizer: torch.optim.Optimizer) -> list[float]:
    """The lr that each update of this optimizer is made with, from now on."""
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    return used


def sgd(lr: float = 0.1) -> torch.optim.SGD:
    w = torch.ones(2, requires_grad=True)
    w.grad = torch.ones(2)
    return torch.optim.SGD([w], lr=lr)


class TestAlone:
    def test_it_is_one_and_ignores_how_often_it_is_called(self) -> None:
        optimizer = sgd()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scheduler = ScheduleLR(optimizer, SCHEDULE, horizon=10)
            scheduler.step()  # before any update: torch would warn, and skip a value
            used = record(optimizer)
            for calls in range(10):
                optimizer.step()
                for _ in range(calls % 3):
                    scheduler.step()
                scheduler.step(3)
                scheduler.step(epoch=7)
        assert isinstance(scheduler, LRScheduler) and scheduler.optimizer is optimizer
        assert used == expected(10) and scheduler.last_epoch == 10
        assert scheduler.get_last_lr() == scheduler.get_lr() == [optimizer.param_groups[0]["lr"]]
        assert scheduler.base_lrs == [0.1]

    def test_state(self) -> None:
        optimizer = sgd()
        scheduler = ScheduleLR(optimizer, SCHEDULE, horizon=10)
        for _ in range(4):
            optimizer.step()
        buffer = io.BytesIO()
        torch.save(pickle.loads(pickle.dumps(scheduler.state_dict())), buffer)
        buffer.seek(0)
        twin = sgd(lr=9.0)
        other = ScheduleLR(twin, SCHEDULE, horizon=10)
        other.load_state_dict(torch.load(buffer, weights_only=True))
        assert other.last_epoch == 4 and other.get_last_lr() == scheduler.get_last_lr() and other.base_lrs == [0.1]

    @pytest.mark.parametrize("on_change", ["raise", "saved", "given"])
    def test_another_horizon(self, on_change: Any) -> None:
        optimizer = sgd()
        state = ScheduleLR(optimizer, SCHEDULE, horizon=10).state_dict()
        twin = sgd()
        other = ScheduleLR(twin, SCHEDULE, horizon=20, on_change=on_change)
        if on_change == "raise":
            with pytest.raises(OptionError, match="horizon is 10 there and 20 here") as error:
                other.load_state_dict(state)
            assert 'on_change="saved"' in error.value.next_move and "prefer" not in error.value.next_move
        else:
            other.load_state_dict(state)
            assert f"bind({10 if on_change == 'saved' else 20})" in repr(other)

    @pytest.mark.parametrize("torchs_first", [False, True])
    def test_in_a_sequence_it_says_how_to_compose(self, torchs_first: bool) -> None:
        optimizer = sgd()
        parts: list[Any] = [torch.optim.lr_scheduler.ConstantLR(optimizer, 0.5)] if torchs_first else []
        parts.append(ScheduleLR(optimizer, SCHEDULE, 10, lr=0.1))
        with pytest.raises(OptionError, match="last_epoch of a ScheduleLR") as error:
            torch.optim.lr_scheduler.SequentialLR(optimizer, parts, [3] * (len(parts) - 1))
        assert ">>" in error.value.next_move

    def test_options_of_attach(self) -> None:
        optimizer = sgd()
        scheduler = ScheduleLR(optimizer, {"lr": SCHEDULE}, 10, lr=2.0, groups={0: 3 * SCHEDULE})
        assert scheduler.get_last_lr() == [2.0 * 0.75] and scheduler.base_lrs == [2.0]
        with pytest.raises(OptionError, match="on_change is 'keep'"):
            ScheduleLR(sgd(), SCHEDULE, 10, on_change="keep")  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="already has a handle"):
            ScheduleLR(optimizer, SCHEDULE, 10)


class TestLightning:
    @pytest.fixture
    def lightning(self) -> Any:
        module = pytest.importorskip("lightning", reason="needs lightning: pip install etascope[all]")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        return module

    def fit(self, lightning: Any, folder: Path, interval: str, steps: int, accumulate: int, resume: Any = None) -> Any:
        horizon = 10

        class Module(lightning.LightningModule):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.net = torch.nn.Linear(2, 1)

            def training_step(self, batch: Any) -> Any:
                return self.net(batch).square().mean()

            def configure_optimizers(self) -> Any:
                optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
                self.used = record(optimizer)
                self.scheduler = ScheduleLR(optimizer, SCHEDULE, horizon=horizon)
                return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.scheduler, "interval": interval}}

        torch.manual_seed(0)
        module = Module()
        trainer = lightning.Trainer(
            max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=folder,
            enable_progress_bar=False, enable_model_summary=False, accumulate_grad_batches=accumulate,
        )  # fmt: skip
        data = torch.utils.data.DataLoader(torch.ones(3 * accumulate, 2), batch_size=1)  # an epoch is 3 updates
        trainer.fit(module, data, ckpt_path=resume)
        trainer.save_checkpoint(folder / "last.ckpt")
        return module

    @pytest.mark.parametrize(("interval", "accumulate"), [("step", 1), ("epoch", 1), ("step", 4), ("epoch", 4)])
    def test_fit_and_resume(self, lightning: Any, tmp_path: Path, interval: str, accumulate: int) -> None:
        whole = self.fit(lightning, tmp_path, interval, 10, accumulate)
        assert whole.used == expected(10) and whole.scheduler.last_epoch == 10
        first = self.fit(lightning, tmp_path, interval, 6, accumulate)
        rest = self.fit(lightning, tmp_path, interval, 10, accumulate, tmp_path / "last.ckpt")
        assert first.used + rest.used == whole.used
        if accumulate == 1:  # resumed after an epoch, Lightning makes its first update of one batch, with any scheduler
            assert torch.equal(rest.net.weight, whole.net.weight)


class TestAccelerate:
    def train(self, folder: Path, batches: int, resume: bool = False, scheduler_prepared: bool = True) -> Any:
        accelerate = pytest.importorskip("accelerate", reason="needs accelerate: pip install etascope[all]")
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        used = record(optimizer)
        scheduler = ScheduleLR(optimizer, SCHEDULE, horizon=10)
        model, optimizer = accelerator.prepare(model, optimizer)
        stepped = accelerator.prepare(scheduler)
        if resume:
            accelerator.load_state(str(folder))
        for _ in range(batches):
            with accelerator.accumulate(model):
                accelerator.backward(model(torch.ones(1, 2)).square().sum())
                optimizer.step()
                stepped.step()
                optimizer.zero_grad()
        accelerator.save_state(str(folder))
        return used, scheduler, model.weight.detach().clone()

    def test_accumulation_and_resume(self, tmp_path: Path) -> None:
        whole, scheduler, weight = self.train(tmp_path, 40)
        assert whole == expected(10) and scheduler.last_epoch == 10
        first, *_ = self.train(tmp_path, 24)
        rest, again, resumed = self.train(tmp_path, 16, resume=True)
        assert len(first) == 6 and first + rest == whole and again.last_epoch == 10
        assert torch.equal(resumed, weight)

    def test_attach_sees_through_its_optimizer(self) -> None:
        accelerate = pytest.importorskip("accelerate", reason="needs accelerate: pip install etascope[all]")
        inner = sgd()
        wrapped = accelerate.Accelerator(cpu=True).prepare(inner)
        handle = eta.attach(SCHEDULE, wrapped, horizon=10)
        wrapped.step()
        assert handle.step == 1 and inner.param_groups[0]["lr"] == expected(10)[1]


class TestTrainer:
    def train(self, folder: Path, steps: int, resume: Any = None) -> Any:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        transformers = pytest.importorskip("transformers", reason="needs transformers: pip install etascope[all]")
        transformers.utils.logging.set_verbosity_error()
        torch.manual_seed(0)
        config = transformers.GPT2Config(
            vocab_size=11, n_positions=8, n_embd=8, n_layer=1, n_head=2, use_cache=False, bos_token_id=None,
            eos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        used = record(optimizer)
        scheduler = ScheduleLR(optimizer, SCHEDULE, horizon=10)
        args = transformers.TrainingArguments(
            str(folder), max_steps=steps, per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True,
            report_to="none", disable_tqdm=True, save_strategy="steps", save_steps=6, logging_steps=1,
        )  # fmt: skip
        rows = [{"input_ids": torch.arange(8) % 11, "labels": torch.arange(8) % 11} for _ in range(12)]
        trainer = transformers.Trainer(model=model, args=args, train_dataset=rows, optimizers=(optimizer, scheduler))
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train(resume_from_checkpoint=resume)
        logged = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
        return used, scheduler, logged

    def test_accumulation_and_resume(self, tmp_path: Path) -> None:
        whole, scheduler, logged = self.train(tmp_path / "whole", 10)
        assert whole == expected(10) and scheduler.last_epoch == 10
        assert len(logged) == 10
        rest, again, _ = self.train(tmp_path / "rest", 10, resume=str(tmp_path / "whole" / "checkpoint-6"))
        assert rest == whole[6:] and again.last_epoch == 10
