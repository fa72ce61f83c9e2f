"""The workloads that finders are judged on, and which of them the method was chosen by.

CHOOSING: the seven built-in tasks and the six of `outside.py`. etascope's method was tried on them while it was made.
REPORTING: fourteen others, written down and committed before etascope or any peer was run on one of them; they have
had a part in changes of the method since.
FRESH: thirteen more, in `fresh_workloads.py`; no finder was run on them before the method was frozen.
BLIND: thirteen more, in `blind_workloads.py`, for `benchmarks/diagnose.py` alone.

All differ in model, data, optimizer, schedule, horizon (200 to 5,000 steps), batch and noise. All need `ETASCOPE_DATA`
but the built-in ones.
"""

import itertools
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from blind_workloads import BLIND
from fresh_workloads import FRESH
from outside import OUTSIDE, classify, loaders
from real_data import (
    RATINGS,
    bicycles,
    census,
    digits_tensors,
    fashion,
    messages,
    next_character,
    ratings,
    windows,
)

import etascope as eta
from etascope.schedules import multistep
from etascope.workloads import TASKS, get


def squared(model, batch):
    return F.mse_loss(model(batch[0]).squeeze(-1), batch[1])


# ------------------------------------------------------------------------------------------------- vision


def fashion_cnn():
    """A convnet with batch normalisation, Adam, cosine."""
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
        ),
        loss=classify, optimizer=torch.optim.Adam, horizon=500, schedule=eta.cosine(),
        **loaders(fashion(), 2000, 64),
    )  # fmt: skip


def fashion_noisy():
    """A perceptron under a fifth of wrong labels, SGD with momentum and weight decay, steps."""
    x, y = fashion()
    generator = torch.Generator().manual_seed(1)
    wrong = torch.rand(len(y), generator=generator) < 0.2
    y = torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)
    return eta.Task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-3), horizon=800,
        schedule=multistep(["50%", "75%"], factor=0.1), **loaders([x, y], 2000, 128),
    )  # fmt: skip


def fashion_softmax():
    """Softmax regression, plain SGD, 5,000 steps of linear decay."""
    return eta.Task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        loss=classify, optimizer=torch.optim.SGD, horizon=5000, schedule=eta.linear(to=0.0),
        **loaders(fashion(), 2000, 16),
    )  # fmt: skip


class Patches(nn.Module):
    """A vision transformer of one layer on the 2x2 patches of an image of 8x8."""

    def __init__(self, width=32):
        super().__init__()
        self.patches, self.where = nn.Linear(4, width), nn.Parameter(0.02 * torch.randn(16, width))
        self.layer = nn.TransformerEncoderLayer(width, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        patches = x.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        return self.head(self.layer(self.patches(patches) + self.where).mean(1))


def digits_vit():
    """A vision transformer of one layer, Adam, warmup and linear decay."""
    return eta.Task(
        model=Patches, loss=classify, optimizer=torch.optim.Adam, horizon=400,
        schedule=eta.warmup("10%") >> eta.linear(to=0.0), clip_norm=1.0, **loaders(digits_tensors(), 400, 32),
    )  # fmt: skip


def digits_autoencoder():
    """An autoencoder, RMSprop with momentum, cosine."""
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 6), nn.Linear(6, 24), nn.ReLU(),
                                    nn.Linear(24, 64)),
        loss=lambda model, batch: F.mse_loss(model(batch[0]), batch[0]),
        optimizer=partial(torch.optim.RMSprop, momentum=0.9), horizon=700, schedule=eta.cosine(),
        **loaders(digits_tensors()[:1], 400, 32),
    )  # fmt: skip


def iris_full_batch():
    """A small perceptron on all of 110 flowers at once, SGD with momentum, constant."""
    from sklearn.datasets import load_iris

    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = torch.from_numpy(x[order]).float(), torch.from_numpy(y[order]).long()
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3)),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9), horizon=200,
        train=[(x[:110], y[:110])], val=[(x[110:], y[110:])],
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- language


class Attention(nn.Module):
    """A causal transformer of one layer."""

    def __init__(self, alphabet, width=48, length=32):
        super().__init__()
        self.characters, self.where = nn.Embedding(alphabet, width), nn.Embedding(length, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, alphabet)
        self.register_buffer("mask", torch.ones(length, length).triu(1).bool())

    def forward(self, x):
        positions = torch.arange(x.shape[1], device=x.device)
        return self.head(self.norm(self.layer(self.characters(x) + self.where(positions), src_mask=self.mask)))


def shakespeare_gpt():
    """A transformer of one layer, AdamW, warmup and cosine to a tenth, clipped."""
    rows, size = windows(32, 12_000)
    return eta.Task(
        model=lambda: Attention(size), loss=next_character,
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.98), weight_decay=0.05), horizon=300,
        schedule=eta.warmup("10%") >> eta.cosine(to=0.1), clip_norm=1.0, **loaders([rows], 400, 8),
    )  # fmt: skip


class Convolutions(nn.Module):
    """Causal convolutions over characters."""

    def __init__(self, alphabet, width=48):
        super().__init__()
        self.characters = nn.Embedding(alphabet, width)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=d) for d in (1, 2, 4))
        self.head = nn.Linear(width, alphabet)

    def forward(self, x):
        h = self.characters(x).transpose(1, 2)
        for layer in self.layers:
            h = h + F.relu(layer(F.pad(h, (2 * layer.dilation[0], 0))))
        return self.head(h.transpose(1, 2))


def shakespeare_convolutions():
    """Causal convolutions, Adam, constant."""
    rows, size = windows(32, 12_000)
    return eta.Task(
        model=lambda: Convolutions(size), loss=next_character, optimizer=torch.optim.Adam, horizon=500,
        **loaders([rows], 400, 16),
    )  # fmt: skip


class Mean(nn.Module):
    """The mean of a message's words as vectors, and a perceptron."""

    def __init__(self, words=5000, width=24):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(width, 24), nn.ReLU(), nn.Linear(24, 2))

    def forward(self, ids):
        there = (ids > 0).float()[:, :, None]
        return self.head((self.words(ids) * there).sum(1) / there.sum(1).clamp(min=1))


def sms_embeddings():
    """Spam by word vectors, AdamW, constant."""
    return eta.Task(
        model=Mean, loss=classify, optimizer=torch.optim.AdamW, horizon=300, **loaders(messages(), 1500, 32),
    )  # fmt: skip


# ------------------------------------------------------------------------- tables and recommendation


def adult_logistic():
    """Logistic regression, AdaGrad, constant, large batches."""
    return eta.Task(
        model=lambda: nn.Linear(census()[0].shape[1], 2), loss=classify, optimizer=torch.optim.Adagrad, horizon=400,
        **loaders(census(), 4000, 512),
    )  # fmt: skip


def adult_deep():
    """A perceptron of four layers, SGD with Nesterov's momentum, cosine, 1,500 steps."""
    widths = [census()[0].shape[1], 32, 32, 32]

    def model():
        layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
        return nn.Sequential(*layers, nn.Linear(32, 2))

    return eta.Task(
        model=model, loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.95, nesterov=True), horizon=1500,
        schedule=eta.cosine(), **loaders(census(), 4000, 64),
    )  # fmt: skip


def bike_adam():
    """A perceptron with layer normalisation, Adam, exponential decay, Huber's loss."""
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(14, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 32), nn.GELU(),
                                    nn.Linear(32, 1)),
        loss=lambda model, batch: F.huber_loss(model(batch[0]).squeeze(-1), batch[1], delta=0.5),
        optimizer=torch.optim.Adam, horizon=1200, schedule=eta.exponential(to=0.02), **loaders(bicycles(), 2000, 64),
    )  # fmt: skip


def bike_linear():
    """Least squares on the first 300 hours at once, plain SGD, constant: what theory knows, 2/λ and all."""
    x, y = bicycles()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    fit, judged = order[:300], order[300:2300]
    return eta.Task(
        model=lambda: nn.Linear(14, 1), loss=squared, optimizer=torch.optim.SGD, horizon=250,
        train=[(x[fit], y[fit])], val=[(x[judged], y[judged])],
    )  # fmt: skip


class Taste(nn.Module):
    """Vectors of readers and books, joined by a perceptron."""

    def __init__(self, users, books):
        super().__init__()
        self.users, self.books = nn.Embedding(users, 12), nn.Embedding(books, 12)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 1))

    def forward(self, user, book):
        return 3.9 + self.head(torch.cat([self.users(user), self.books(book)], 1)).squeeze(1)


def goodbooks_taste():
    """Ratings by a perceptron on embeddings, Adam with L2, warmup."""
    user, book, rating = ratings()
    return eta.Task(
        model=lambda: Taste(int(user.max()) + 1, RATINGS),
        loss=lambda model, batch: F.mse_loss(model(batch[0], batch[1]), batch[2]),
        optimizer=partial(torch.optim.Adam, weight_decay=1e-5), horizon=700, schedule=eta.warmup("5%"),
        **loaders([user, book, rating], 8000, 256),
    )  # fmt: skip


CHOOSING = {name: partial(get, name) for name in TASKS} | OUTSIDE
REPORTING = {
    "fashion-cnn": fashion_cnn,
    "fashion-noisy": fashion_noisy,
    "fashion-softmax": fashion_softmax,
    "digits-vit": digits_vit,
    "digits-autoencoder": digits_autoencoder,
    "iris-full-batch": iris_full_batch,
    "shakespeare-gpt": shakespeare_gpt,
    "shakespeare-convolutions": shakespeare_convolutions,
    "sms-embeddings": sms_embeddings,
    "adult-logistic": adult_logistic,
    "adult-deep": adult_deep,
    "bike-adam": bike_adam,
    "bike-linear": bike_linear,
    "goodbooks-taste": goodbooks_taste,
}


def workload(name):
    return (CHOOSING | REPORTING | FRESH | BLIND)[name]()
