"""A LightningModule and Lightning's Trainer, as they are: found by one line, and left to the bit."""

from __future__ import annotations

import copy
import logging
import pickle
import random
import signal
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta
from etascope.errors import OptionError, TaskError

L = pytest.importorskip("lightning", reason="needs etascope[all]")

from etascope.integrations.lightning import ModuleRun, training_function  # noqa: E402

HORIZON = 48


def data(n: int, seed: int) -> TensorDataset:
    x = torch.randn(n, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, (x[:, 0] > 0).long())


class Data(L.LightningDataModule):
    """With a generator of its own, which every training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.sets = {"train": data(256, 0), "val": data(64, 1)}
        self.generator = torch.Generator().manual_seed(3)
        self.set_up: list[str] = []

    def setup(self, stage: str) -> None:
        self.set_up.append(stage)

    def train_dataloader(self) -> Any:
        return DataLoader(self.sets["train"], 8, shuffle=True, generator=self.generator)

    def val_dataloader(self) -> Any:
        return DataLoader(self.sets["val"], 64)


class Net(L.LightningModule):
    """An MLP, SGD with momentum, and a schedule that `scheduler(optimizer, module)` gives."""

    def __init__(self, lr: float, scheduler: Any = None, seen: list[float] | None = None) -> None:
        super().__init__()
        self.lr, self.scheduler, self.seen = lr, scheduler, seen
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Tanh(), nn.Linear(16, 2))

    def setup(self, stage: str) -> None:
        if self.scheduler is from_setup and stage == "fit":
            self.total = self.trainer.estimated_stepping_batches

    def training_step(self, batch: Any) -> Any:
        if self.seen is not None:
            self.seen.append(self.optimizers().param_groups[0]["lr"] / self.lr)
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any) -> None:
        self.log("val_loss", F.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return optimizer if self.scheduler is None else ([optimizer], [self.scheduler(optimizer, self)])

    def configure_callbacks(self) -> Any:
        return [L.pytorch.callbacks.EarlyStopping("val_loss", patience=0)]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self.seen)] = self.seen  # these tests look into it
        own = memo[id(self)] = type(self).__new__(type(self))
        own.__dict__.update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return own


def trainer(**options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return L.Trainer(**({"accelerator": "cpu", "max_steps": HORIZON} | options))


def run_of(factory: Any, given: Any = None, **how: Any) -> ModuleRun:
    if not {"datamodule", "train_dataloaders"} & set(how):
        how["datamodule"] = Data()
    return training_function(factory, given or trainer(), "lightning.pytorch", **how)


def ended(run: ModuleRun, lr: float = 1e-2, steps: int = HORIZON, seed: int = 0) -> tuple[float, list[Any]]:
    """The loss that a run returns, and what it yielded."""
    points, training = [], run(lr, steps, seed)
    while True:
        try:
            points.append(next(training))
        except StopIteration as end:
            return end.value, points


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def digest(of: Any) -> dict[str, Any]:
    """Every attribute: as bytes where it can be pickled, else which object it is."""
    found: dict[str, Any] = {}
    for name, value in vars(of).items():
        try:
            found[name] = pickle.dumps(value.get_state().tolist() if isinstance(value, torch.Generator) else value)
        except Exception:
            found[name] = id(value)
    return found


# ------------------------------------------------------------------------------------------ the verbs


def test_one_line_finds_it_and_leaves_everything_to_the_bit(tmp_path: Any, capsys: Any) -> None:
    given, module = trainer(), Data()
    before = digest(given), digest(module)
    levels = logging.getLogger("lightning.pytorch").level, list(warnings.filters), signal.getsignal(signal.SIGTERM)
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    capsys.readouterr()
    found = eta.find(lambda lr: Net(lr=lr), trainer=given, datamodule=module, seed=3)
    captured = capsys.readouterr()
    assert (digest(given), digest(module)) == before
    assert given.lightning_module is None and given.datamodule is None and module.set_up == []
    assert (
        logging.getLogger("lightning.pytorch").level, list(warnings.filters), signal.getsignal(signal.SIGTERM)
    ) == levels  # fmt: skip
    assert (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()) == states
    assert (captured.out, captured.err, list(tmp_path.iterdir())) == ("", "", [])
    assert (found.task, found.horizon, found.cost <= 1.0) == ("Net", HORIZON, True)
    assert (found.paste, found.optimizer) == ("Net(lr={lr})", "SGD(momentum=0.9)")
    assert found.judged == "val_loss of trainer.validate() after the last step"
    assert eta.find(lambda lr: Net(lr=lr), trainer=given, datamodule=module, seed=3).lr == found.lr


def test_sweep_and_plan_take_it_too() -> None:
    how = {"trainer": trainer(), "datamodule": Data()}
    assert eta.sweep(Net, lrs=[1e-6, 1e-1], **how).best[0] == 1e-1
    assert "SGD" in eta.plan(Net, **how).line


def test_pytorch_lightning_under_its_old_name() -> None:
    old = pytest.importorskip("pytorch_lightning", reason="needs pytorch_lightning beside lightning")

    class Old(old.LightningModule):
        training_step, validation_step = Net.training_step, Net.validation_step
        configure_optimizers = Net.configure_optimizers

        def __init__(self, lr: float) -> None:
            super().__init__()
            self.lr, self.scheduler, self.seen, self.net = lr, cosine, None, nn.Linear(8, 2)

    class OldData(old.LightningDataModule):
        train_dataloader, val_dataloader = Data.train_dataloader, Data.val_dataloader

        def __init__(self) -> None:
            super().__init__()
            self.sets, self.generator = Data().sets, torch.Generator()

    given = old.Trainer(accelerator="cpu", max_steps=HORIZON)
    assert eta.sweep(Old, lrs=[1e-6, 1e-1], trainer=given, datamodule=OldData()).best[0] == 1e-1


# ------------------------------------------------------------------------------------------ a run is theirs


def cosine(optimizer: Any, module: Any) -> Any:
    return {
        "scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, module.trainer.estimated_stepping_batches),
        "interval": "step",
    }


def by_epoch(optimizer: Any, module: Any) -> Any:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, module.trainer.max_epochs)


def fixed(optimizer: Any, module: Any) -> Any:
    return {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 96), "interval": "step"}


def from_setup(optimizer: Any, module: Any) -> Any:
    return {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, module.total), "interval": "step"}


def every_third(optimizer: Any, module: Any) -> Any:
    return {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.5), "interval": "step", "frequency": 3}


@pytest.mark.parametrize("scheduler", [None, cosine, by_epoch, fixed, from_setup, every_third])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_schedule_is_the_full_runs_in_small(scheduler: Any, accumulate: int) -> None:
    """Three epochs of 32 batches: the full run is Lightning's own, a run of a third has every third of its lrs."""
    theirs: list[float] = []
    own = trainer(
        max_epochs=3, max_steps=-1, accumulate_grad_batches=accumulate, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    plain = Net(1e-2, scheduler, theirs)
    plain.configure_callbacks = list
    own.fit(plain, datamodule=Data())
    seen: list[float] = []
    run = run_of(
        lambda lr: Net(lr, scheduler, seen), trainer(max_epochs=3, max_steps=-1, accumulate_grad_batches=accumulate)
    )
    assert run.horizon == own.global_step == 96 // accumulate
    ended(run, steps=run.horizon)
    assert seen == theirs and len(seen) == 96
    assert [m for _, m in run.about.multipliers] == pytest.approx(theirs[::accumulate])
    seen.clear()
    ended(run, steps=run.horizon // 3)
    assert seen[::accumulate] == theirs[:: 3 * accumulate]


def test_horizons() -> None:
    assert run_of(Net).horizon == HORIZON
    assert (
        run_of(Net, trainer(max_steps=-1, max_epochs=2, limit_train_batches=0.5, accumulate_grad_batches=3)).horizon
        == 12
    )
    assert run_of(Net, trainer(max_steps=20, max_epochs=5)).horizon == 20


def test_the_curve_is_the_loss_of_each_step() -> None:
    loss, points = ended(run_of(Net, trainer(accumulate_grad_batches=2)), steps=12, lr=1e-3)
    assert [step for step, _ in points] == list(range(12))
    assert all(0.4 < value < 1.2 for _, value in points) and 0.4 < loss < 1.2


def test_seeds_repeat_and_start_the_weights() -> None:
    run = run_of(Net)
    assert ended(run, steps=0, seed=1) == ended(run, steps=0, seed=1) != ended(run, steps=0, seed=2)
    assert ended(run, steps=9) == ended(run, steps=9)


def test_what_the_factory_closes_over_is_not_trained() -> None:
    backbone = nn.Linear(8, 8)
    before = [p.clone() for p in backbone.parameters()]

    def build(lr: float) -> Any:
        module = Net(lr)
        module.net = nn.Sequential(backbone, *module.net)
        return module

    run = run_of(build)
    ended(run, lr=0.1)
    assert all(torch.equal(p, q) for p, q in zip(backbone.parameters(), before, strict=True))


def test_loaders_in_place_of_a_datamodule() -> None:
    generator = torch.Generator().manual_seed(1)
    at = generator.get_state()
    train = DataLoader(data(256, 0), 8, shuffle=True, generator=generator)
    found = eta.find(Net, trainer=trainer(), train_dataloaders=train, val_dataloaders=DataLoader(data(64, 1), 64))
    assert torch.equal(generator.get_state(), at)
    assert found.judged.startswith("val_loss")


def test_without_validation_the_end_of_training_is_judged() -> None:
    run = run_of(Net, train_dataloaders=DataLoader(data(256, 0), 8, shuffle=True))
    loss, points = ended(run)
    assert loss == pytest.approx(np.mean([value for _, value in points[-5:]]), rel=0.2)
    assert np.isnan(ended(run, steps=0)[0])
    assert "no validation data" in run.about.judged


def test_the_monitor_is_found_or_asked_for() -> None:
    class Named(Net):
        def validation_step(self, batch: Any) -> None:
            self.log("valid/loss", F.cross_entropy(self.net(batch[0]), batch[1]))
            self.log("valid/acc", 0.5)

    class Two(Net):
        def validation_step(self, batch: Any) -> None:
            self.log("loss_a", 1.0)
            self.log("loss_b", 2.0)

    assert run_of(Named).monitor == "valid/loss"
    assert ended(run_of(Two, monitor="loss_b"), steps=0)[0] == 2.0
    with pytest.raises(TaskError, match=r"not plain: trainer.validate\(\) logs loss_a, loss_b") as refused:
        run_of(Two)
    assert "monitor=..." in refused.value.next_move
    with pytest.raises(TaskError, match="logs no val_acc, but val_loss"):
        run_of(Net, monitor="val_acc")


def test_manual_optimization_steps_for_itself() -> None:
    class Manual(Net):
        automatic_optimization = False

        def training_step(self, batch: Any) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.manual_backward(loss)
            optimizer.step()
            self.lr_schedulers().step()
            self.seen.append(optimizer.param_groups[0]["lr"] / self.lr)
            return loss

    seen: list[float] = []
    run = run_of(lambda lr: Manual(lr, cosine, seen))
    assert np.isfinite(ended(run, steps=12)[0])
    assert len(seen) == 12 and seen[-1] == pytest.approx(0)


# ------------------------------------------------------------------------------------------ what is refused


def plateau(optimizer: Any, module: Any) -> Any:
    return {"scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer), "monitor": "val_loss"}


class Deaf(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


@pytest.mark.parametrize(
    ("factory", "options", "cause", "next_move"),
    [
        (lambda lr: Net(lr, plateau), {}, "ReduceLROnPlateau follows a metric", "run(lr, steps, seed)"),
        (lambda lr: nn.Linear(2, 2), {}, "returned a Linear, no LightningModule", "lambda lr: Lit(lr=lr)"),
        (lambda: Net(1e-3), {}, "takes no lr", "lambda lr: Lit(lr=lr)"),
        (Net, {"max_steps": -1, "max_epochs": -1}, "no end", "max_steps"),
        (Net, {"fast_dev_run": True}, "fast_dev_run", "Leave"),
        (Deaf, {}, "the lr has no effect: the optimizer's is 0.01", "lr=self.lr"),
    ],
)
def test_refused(factory: Any, options: Any, cause: str, next_move: str) -> None:
    with pytest.raises(TaskError) as refused:
        eta.find(factory, trainer=trainer(**options), datamodule=Data())
    assert cause in refused.value.cause and next_move in refused.value.next_move


def test_what_does_not_go_together() -> None:
    for arguments, error, cause in (
        ((Net(1e-3),), TaskError, "a Net that is built has one lr already"),
        ((trainer(),), TaskError, "knows no module"),
    ):
        with pytest.raises(error, match=cause):
            eta.find(*arguments)
    with pytest.raises(OptionError, match="datamodule= is Lightning's, and there is no trainer"):
        eta.find(lambda lr, steps, seed: 1.0, horizon=10, datamodule=Data())
    with pytest.raises(OptionError, match="horizon is given twice"):
        eta.find(Net, trainer=trainer(), datamodule=Data(), horizon=5)
    with pytest.raises(TaskError, match="a int builds no module"):
        eta.find(3, trainer=trainer())
    with pytest.raises(TaskError, match="a str is no trainer of Lightning"):
        eta.find(Net, trainer="mine")


def test_a_failure_in_a_hook_is_named() -> None:
    class Broken(Net):
        def training_step(self, batch: Any) -> Any:
            raise KeyError("no such column")

    with pytest.raises(TaskError, match=r"no such column(.|\n)*training_step") as refused:
        eta.find(Broken, trainer=trainer(), datamodule=Data())
    assert "max_steps=" in refused.value.next_move


def test_ctrl_c_stays_ctrl_c() -> None:
    """Lightning makes sys.exit(1) of it, and leaves the signal ignored."""

    class Stopped(Net):
        def on_train_batch_end(self, *_: Any) -> None:
            raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(eta.Interrupted):
        eta.find(Stopped, trainer=trainer(), datamodule=Data())
    assert signal.getsignal(signal.SIGINT) is handler
