"""`eta.watch` in real trainings by Lightning."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import etascope as eta
from etascope.errors import OptionError

from .digits import batches, data, net, told

L = pytest.importorskip("lightning", reason="needs etascope[all]")

WatchCallback = eta.integrations.lightning.WatchCallback
STEPS = 90
EPOCH = 30
POLICIES = (eta.rewind(), eta.plateau(patience=0, factor=0.5, threshold=0.5))


class Net(L.LightningModule):
    def __init__(self, scheduler: str = "step") -> None:
        super().__init__()
        self.net, self.scheduler, self.lrs = net(), scheduler, []

    def training_step(self, batch: Any) -> Any:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        if self.scheduler == "ours":
            scheduler: Any = eta.integrations.ScheduleLR(optimizer, eta.cosine(), horizon=STEPS)
        else:
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.9)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def on_train_batch_end(self, *_: Any) -> None:
        self.lrs.append(self.trainer.optimizers[0].param_groups[0]["lr"])


def fit(
    *callbacks: Any, bad: Any = (40,), module: Any = None, steps: int = STEPS, resume: Any = None, **options: Any
) -> Any:
    """A training of three epochs of 30 batches; `bad` are the numbers of the updates whose batch is corrupt."""
    module = module or Net()

    def loader() -> Any:
        epoch = trainer.current_epoch
        return DataLoader(batches(EPOCH, {b - epoch * EPOCH for b in bad}), batch_size=None)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = L.Trainer(**({
            "accelerator": "cpu", "max_steps": steps, "callbacks": list(callbacks), "logger": False,
            "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
            "reload_dataloaders_every_n_epochs": 1, "num_sanity_val_steps": 1,
        } | options))  # fmt: skip
        module.train_dataloader = loader
        trainer.fit(module, val_dataloaders=DataLoader([data(slice(1500, 1790))], batch_size=None), ckpt_path=resume)
    return module


def weights(module: Any) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def test_without_act_it_is_the_same_to_the_bit() -> None:
    callback = WatchCallback(log=None)
    plain, watched = fit(bad=()), fit(callback, bad=())
    assert torch.equal(weights(plain), weights(watched)) and plain.lrs == watched.lrs
    seen = list(callback.watch.log.observations())
    assert [o.step for o in seen] == list(range(STEPS)) and seen[0].loss == pytest.approx(2.3, abs=0.2)
    assert [o.lr for o in seen] == [0.01, *plain.lrs[:-1]]
    assert len(list(callback.watch.log.of("val"))) == 3 and callback.watch.log.header["horizon"] == STEPS


def test_decisions_are_taken_logged_and_resumed(tmp_path: Path) -> None:
    """A corrupt batch is left out; a plateau of the validation loss halves the lr; a checkpoint goes on with both."""
    save = L.pytorch.callbacks.ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)  # after each epoch
    callback = WatchCallback(act=True, log="run.jsonl", policies=POLICIES)
    whole = fit(callback, save, enable_checkpointing=True)
    log = eta.read_log("run.jsonl")
    assert [(d.step, d.code, d.action) for d in log.decisions if d.code] == [(40, "ETA001", "skip")]
    assert log.lines[-1]["why"] == "over" and torch.isfinite(weights(whole)).all()
    factors = [line["factors"] for line in log.of("factors")]
    assert {"plateau": 0.5} in factors
    # Lightning's scheduler knows nothing of it, the log does
    last = list(log.observations())[-1]
    assert whole.lrs[-2] == pytest.approx(0.01 * 0.9**8) and last.lr == pytest.approx(
        whole.lrs[-2] * callback.watch._factor
    )

    again = WatchCallback(act=True, log="again.jsonl", policies=POLICIES)
    resumed = fit(again, resume=tmp_path / "step=60.ckpt")
    assert torch.equal(weights(whole), weights(resumed))
    assert told(eta.read_log("again.jsonl")) == told(log, since=60)


def test_a_factor_holds_from_the_update_at_which_it_was_decided() -> None:
    """Lightning calls `optimizer.step` with a closure that trains: what it observes there holds for this very step."""
    callback = WatchCallback(act=True, log=None, policies=(eta.plateau(patience=0, factor=0.5, threshold=10.0),))
    moved: list[float] = []

    class Sgd(Net):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def on_before_zero_grad(self, optimizer: Any) -> None:
            self.before = weights(self)

        def on_train_batch_end(self, *_: Any) -> None:
            gradient = torch.cat([p.grad.reshape(-1) for p in self.parameters()])
            moved.append(((weights(self) - self.before).norm() / gradient.norm()).item())

    fit(callback, bad=(), module=Sgd())
    assert moved == pytest.approx([o.lr for o in callback.watch.log.observations()], rel=1e-3)
    assert moved[0] == pytest.approx(0.1) and moved[-1] < 0.06


@pytest.mark.parametrize("scheduler", ["step", "ours"])
def test_a_rewind_within_lightnings_step(scheduler: str) -> None:
    """Weights that were spoilt are taken back, the optimizer's state with them, while it is within `step`."""

    class Spoilt(Net):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.trainer.global_step == 70:
                with torch.no_grad():
                    self.net[2].weight.mul_(-5)

    callback = WatchCallback(act=True, log=None)
    fit(callback, bad=(), module=Spoilt(scheduler))
    *skips, decision = callback.watch.decisions
    assert {d.action for d in skips} == {"skip"} and (decision.step, decision.action) == (70, "rewind")
    after = [o.loss for o in callback.watch.log.observations() if o.seen > decision.seen]
    assert max(after) < 1.5 < min(o.loss for o in callback.watch.log.observations() if 70 <= o.seen <= decision.seen)
    then = fit(bad=(), module=Net(scheduler), steps=decision.to_step)
    x, y = batches(EPOCH)[(decision.seen + 1) % EPOCH]
    assert after[0] == F.cross_entropy(then.net(x), y).item()


def test_a_schedule_of_ours_accumulation_and_a_stop() -> None:
    callback = WatchCallback(act=True, log=None, policies=(eta.rewind(), eta.early_stop(patience=1, threshold=0.9)))
    module = fit(
        callback, bad=(20,), module=Net("ours"), accumulate_grad_batches=2, val_check_interval=10, gradient_clip_val=1.0
    )
    watch = callback.watch
    assert watch.log.header["schedule"] is not None and watch.log.header["horizon"] == STEPS
    assert next((d.step, d.action) for d in watch.decisions) == (10, "skip")
    assert watch.should_stop and watch.log.lines[-1]["why"] == "stopped"
    assert len(list(watch.log.observations())) < 40 and module.trainer.should_stop
    lines = len(watch.log.lines)
    module.trainer.validate(module, DataLoader([data(slice(1500, 1790))], batch_size=None), verbose=False)
    assert len(watch.log.lines) == lines  # the watch is over
    assert next(watch.log.observations()).loss == pytest.approx(2.3, abs=0.2)  # the mean of two, not half of it


def test_a_scaler() -> None:
    """What a precision plugin scales is unscaled; a refused update leaves the scale as it was."""
    plugin = L.pytorch.plugins.precision.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", 2.0**10))
    callback = WatchCallback(act=True, log=None)
    module = fit(callback, plugins=[plugin], steps=50)
    seen = list(callback.watch.log.observations())
    assert seen[0].loss == pytest.approx(2.3, abs=0.2) and seen[0].grad < 10
    assert [d.action for d in callback.watch.decisions] in (["skip"], []) and plugin.scaler.get_scale() <= 2.0**10
    assert torch.isfinite(weights(module)).all()


@pytest.mark.parametrize("act", [False, True])
def test_one_place_takes_the_mean_over_processes(act: bool) -> None:
    """The adapter, or the watch itself where it acts."""

    class Watched:
        acts, should_stop = act, False

        def observe(self, loss: torch.Tensor) -> None:
            observed.append(loss.item())

    class Trainer:
        world_size, accumulate_grad_batches, strategy = 2, 1, property(lambda self: self)

        def reduce(self, loss: torch.Tensor, reduce_op: str) -> torch.Tensor:
            assert reduce_op == "mean"
            return (loss + 2.0) / 2

    observed: list[float] = []
    callback = WatchCallback(log=None)
    callback.watch = Watched()
    callback.on_before_backward(Trainer(), None, torch.tensor(1.0))
    callback.on_before_optimizer_step(Trainer(), None, None)
    assert observed == [1.0 if act else 1.5]


def test_refused() -> None:
    class Manual(Net):
        automatic_optimization = False

    with pytest.raises(OptionError, match="optimizes by hand"):
        fit(WatchCallback(log=None), module=Manual())
    with pytest.raises(TypeError, match="polices"):
        WatchCallback(polices=())
    with pytest.raises(OptionError, match="No val_acc was logged, but val_loss"):
        fit(WatchCallback(log=None, monitor="val_acc"), steps=30)


def test_what_was_raised_stands_in_the_log() -> None:
    class Broken(Net):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 3:
                raise KeyError("no such column")

    callback = WatchCallback(act=True, log="run.jsonl")
    with pytest.raises(KeyError):
        fit(callback, module=Broken())
    assert eta.read_log("run.jsonl").lines[-1]["why"] == "KeyError"
