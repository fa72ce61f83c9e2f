"""Learning-rate range tests, each by its own code and at its own defaults, on the real task.

pytorch-lr-finder as its README has it: 1e-7 to 10 in 100 steps, `plot(suggest_lr=True)`. Lightning: `Tuner.lr_find`,
1e-8 to 1. fastai: `Learner.lr_find`, 1e-7 to 10, with each of its four suggestion functions. What is trained is the
task's own model, loss, data and optimizer; the loss is computed inside a module, for two of the three hand the model
only a part of the batch. Gradients are clipped as the task has it by each library's own means (pytorch-lr-finder has
none). A schedule plays no part in a range test. The cost is the steps that the test trained; a crash, or no suggestion,
is an answer without an lr.

fastai is the real one, installed with --no-deps (requirements.txt): only fastai.vision needs torchvision.
"""

from __future__ import annotations

import contextlib
import io
import logging
import random
import tempfile
import warnings
from functools import partial

import numpy as np
import torch
from answer import Answer
from torch import nn
from torch.utils.data import DataLoader

import etascope as eta


class Whole(nn.Module):
    """A task's model with its loss inside: a batch goes in, the loss comes out.

    Attributes:
        trained: how many batches it was called with.
    """

    def __init__(self, task: eta.Task):
        super().__init__()
        self.task, self.model, self.trained = task, task.model(), 0

    def forward(self, batch):
        self.trained += 1
        return self.task.loss(self.model, batch)

    def optimizer(self, lr: float) -> torch.optim.Optimizer:
        """The task's own, over the model's parameters."""
        params = self.model.parameters() if self.task.params is None else self.task.params(self.model)
        return self.task.optimizer(params, lr=lr)

    @property
    def batches(self) -> DataLoader:
        """The task's training data."""
        train = self.task.train
        return train if isinstance(train, DataLoader) else DataLoader(train, batch_size=None)


def loss_itself(loss, _):
    """The criterion over a `Whole`."""
    return loss


def pytorch_lr_finder(whole: Whole) -> float:
    import matplotlib as mpl
    import torch_lr_finder

    class Batches(torch_lr_finder.TrainDataLoaderIter):
        def inputs_labels_from_batch(self, batch):
            return batch, 0

    mpl.use("agg")
    finder = torch_lr_finder.LRFinder(whole, whole.optimizer(1e-7), loss_itself, device="cpu")
    finder.range_test(Batches(whole.batches), end_lr=10, num_iter=100)
    _, lr = finder.plot(suggest_lr=True)
    mpl.pyplot.close("all")
    return lr


def lightning(whole: Whole) -> float | None:
    import lightning as L
    from lightning.pytorch.tuner import Tuner

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.whole, self.lr = whole, 1e-3

        def training_step(self, batch):
            return self.whole(batch)

        def configure_optimizers(self):
            return self.whole.optimizer(self.lr)

    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_steps=whole.task.steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, gradient_clip_val=whole.task.clip_norm,
            default_root_dir=folder,
        )  # fmt: skip
        found = Tuner(trainer).lr_find(Module(), train_dataloaders=whole.batches, update_attr=False)
    return found.suggestion()


class Labelled:
    """Batches as (batch, label), for fastai computes no loss where there is no label; the label is not used."""

    def __init__(self, batches: DataLoader):
        self.batches, self.dataset = batches, batches.dataset

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return ((batch, torch.zeros(1)) for batch in self.batches)


def fastai(whole: Whole, rule: str) -> float:
    from fastai.callback import schedule
    from fastai.callback.training import GradientClip
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    def opt_func(_, lr):
        return OptimWrapper(opt=whole.optimizer(lr))

    norm = whole.task.clip_norm
    with tempfile.TemporaryDirectory() as folder:
        batches = Labelled(whole.batches)
        learner = Learner(
            DataLoaders(batches, batches, path=folder, device=torch.device("cpu")), whole, loss_func=loss_itself,
            opt_func=opt_func, cbs=None if norm is None else GradientClip(norm), path=folder,
        )  # fmt: skip
        found = learner.lr_find(suggest_funcs=getattr(schedule, rule), show_plot=False)
    return found[0]


TESTS = {"pytorch-lr-finder": pytorch_lr_finder, "Lightning": lightning} | {
    f"fastai {rule}": partial(fastai, rule=rule) for rule in ("minimum", "steep", "valley", "slide")
}
RANGE_TESTS = tuple(TESTS)


def range_test(method: str, task: eta.Task, seed: int) -> Answer:
    """The answer of one of `RANGE_TESTS`; model, data order and dropout come from the seed."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    whole, reason, lr = Whole(task), "", None
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            lr = TESTS[method](whole)
        except Exception as error:  # whatever a library raises is its answer
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
    usable = lr is not None and np.isfinite(lr) and lr > 0
    reason = reason or ("" if usable else f"suggests {lr}")
    return Answer(float(lr) if usable else None, whole.trained / task.steps, reason)
