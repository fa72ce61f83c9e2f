"""FRESH: thirteen workloads for a last judgement. No finder is run on one of them before the method is frozen.

They stand in for what is not in the repository: small models as users bring them. Written down and committed before
their truths were made; only truths, which find nothing, may come before the freeze. All need `ETASCOPE_DATA` but
scikit-learn's.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).parents[1]))

from outside import classify, loaders
from real_data import (
    NUMBERS,
    RATINGS,
    bicycle_hours,
    bicycles,
    census_columns,
    digits_tensors,
    fashion,
    messages,
    next_character,
    ratings,
    windows,
)

import etascope as eta
from etascope.schedules import noam, step_decay, wsd

# ------------------------------------------------------------------------------------------------- vision


def fashion_lenet():
    """A convnet without normalisation, SGD with Nesterov's momentum, three steps down."""
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
        ),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True), horizon=600,
        schedule=step_decay("25%", factor=0.4), **loaders(fashion(), 2000, 32),
    )  # fmt: skip


class Bottle(nn.Module):
    """Two convolutions with batch normalisation, and a way around them."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x):
        return F.relu(x + self.inner(x))


def fashion_resnet():
    """A residual convnet with batch normalisation on images of 14x14, AdamW, one cycle."""
    x, y = fashion()
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Bottle(8),
            nn.Conv2d(8, 16, 3, stride=2, padding=1), Bottle(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(16, 10),
        ),
        loss=classify, optimizer=partial(torch.optim.AdamW, weight_decay=0.05), horizon=250,
        schedule=eta.one_cycle(), **loaders([F.avg_pool2d(x, 2), y], 2000, 64),
    )  # fmt: skip


class Residual(nn.Module):
    """A perceptron behind a layer normalisation, with dropout, and a way around it."""

    def __init__(self, width):
        super().__init__()
        self.inner = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.2), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        return x + self.inner(x)


def fashion_residual():
    """Three residual perceptrons with dropout, NAdam, constant, batches of 256."""
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(784, 48), Residual(48), Residual(48), Residual(48), nn.LayerNorm(48),
            nn.Linear(48, 10),
        ),
        loss=classify, optimizer=torch.optim.NAdam, horizon=300, **loaders(fashion(), 2000, 256),
    )  # fmt: skip


def digits_noisy():
    """A batch-normalised perceptron, three in ten labels it learns from wrong, plain SGD, warmup-stable-decay."""
    x, y = digits_tensors()
    generator = torch.Generator().manual_seed(2)
    wrong = torch.rand(len(y), generator=generator) < 0.3
    noisy = torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Linear(64, 10),
        ),
        loss=classify, optimizer=torch.optim.SGD, horizon=800, schedule=wsd("5%", "30%"),
        train=loaders([x, noisy], 400, 16)["train"], val=loaders([x, y], 400, 16)["val"],
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- language


class Recurrent(nn.Module):
    """An LSTM over characters."""

    def __init__(self, alphabet):
        super().__init__()
        self.characters, self.lstm = nn.Embedding(alphabet, 32), nn.LSTM(32, 64, batch_first=True)
        self.head = nn.Linear(64, alphabet)

    def forward(self, x):
        return self.head(self.lstm(self.characters(x))[0])


def shakespeare_lstm():
    """An LSTM, batches of 8, SGD with momentum, exponential decay, clipped."""
    rows, size = windows(32, 12_000)
    return eta.Task(
        model=lambda: Recurrent(size), loss=next_character, optimizer=partial(torch.optim.SGD, momentum=0.9),
        horizon=500, schedule=eta.exponential(to=0.05), clip_norm=1.0, **loaders([rows], 200, 8),
    )  # fmt: skip


def shakespeare_bigram():
    """Pairs of characters as a table of rank 12, AdaGrad, linear decay."""
    rows, size = windows(24, 16_000)
    return eta.Task(
        model=lambda: nn.Sequential(nn.Embedding(size, 12), nn.Linear(12, size)), loss=next_character,
        optimizer=torch.optim.Adagrad, horizon=300, schedule=eta.linear(to=0.0), **loaders([rows], 400, 32),
    )  # fmt: skip


class Decoder(nn.Module):
    """A causal transformer of two layers, each normalised behind its sums, as the first one was."""

    def __init__(self, alphabet, width=32, length=24):
        super().__init__()
        self.characters, self.where = nn.Embedding(alphabet, width), nn.Embedding(length, width)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 2, 4 * width, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(width, alphabet)
        self.register_buffer("mask", torch.ones(length, length).triu(1).bool())

    def forward(self, x):
        h = self.characters(x) + self.where(torch.arange(x.shape[1], device=x.device))
        for layer in self.layers:
            h = layer(h, src_mask=self.mask)
        return self.head(h)


def shakespeare_noam():
    """A transformer of two layers, Adam, warmup and inverse square root, two batches of 8 a step."""
    rows, size = windows(24, 16_000)
    return eta.Task(
        model=lambda: Decoder(size), loss=next_character, optimizer=partial(torch.optim.Adam, betas=(0.9, 0.98)),
        horizon=250, schedule=noam("10%"), accumulate=2, **loaders([rows], 400, 8),
    )  # fmt: skip


class Reader(nn.Module):
    """A GRU over words, and the largest of what it says on the way."""

    def __init__(self, words=5000):
        super().__init__()
        self.words, self.gru = nn.Embedding(words, 16, padding_idx=0), nn.GRU(16, 24, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, ids):
        return self.head(self.gru(self.words(ids))[0].amax(1))


def sms_gru():
    """Spam by a GRU over words, RMSprop, constant."""
    return eta.Task(
        model=Reader, loss=classify, optimizer=torch.optim.RMSprop, horizon=250, **loaders(messages(), 1500, 16),
    )  # fmt: skip


# ------------------------------------------------------------------------- tables and recommendation


class Census(nn.Module):
    """Each word of a person as a vector of four, beside the numbers, and a perceptron."""

    def __init__(self, sizes):
        super().__init__()
        self.words = nn.ModuleList(nn.Embedding(size, 4) for size in sizes)
        self.head = nn.Sequential(nn.Linear(len(NUMBERS) + 4 * len(sizes), 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, numbers, words):
        vectors = [table(words[:, i]) for i, table in enumerate(self.words)]
        return self.head(torch.cat([numbers, *vectors], 1)).squeeze(1)


def auc(scores, positive):
    """The share of pairs of a positive and a negative that the scores have in order."""
    ranks = scores.argsort().argsort().double() + 1
    count = positive.sum()
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (~positive).sum()))


def adult_auc():
    """Word vectors and a perceptron, judged by the area under the ROC curve, Adam, constant."""
    *columns, income = census_columns()
    values = np.log1p(np.array([columns[i] for i in NUMBERS], float)).T
    words = [np.unique(c, return_inverse=True)[1] for i, c in enumerate(columns) if i not in NUMBERS]
    numbers = torch.from_numpy((values - values.mean(0)) / values.std(0)).float()
    data = loaders(
        [numbers, torch.from_numpy(np.column_stack(words)), torch.tensor([float(v == ">50K") for v in income])],
        4000, 128,
    )  # fmt: skip
    ((*persons, rich),) = data["val"]
    return eta.Task(
        model=partial(Census, [column.max() + 1 for column in words]),
        loss=lambda model, batch: F.binary_cross_entropy_with_logits(model(batch[0], batch[1]), batch[2]),
        evaluate=lambda model: auc(model(*persons), rich.bool()), goal="max",
        optimizer=torch.optim.Adam, horizon=300, train=data["train"],
    )  # fmt: skip


def bike_counts():
    """Poisson regression of an hour's rents from their mean on, a perceptron, plain SGD, cosine, 1,200 steps."""
    rents = torch.tensor([float(row["cnt"]) for row in bicycle_hours()])

    def model():
        net = nn.Sequential(nn.Linear(14, 24), nn.Tanh(), nn.Linear(24, 1))
        nn.init.constant_(net[2].bias, float(rents.mean().log()))
        return net

    return eta.Task(
        model=model,
        loss=lambda model, batch: F.poisson_nll_loss(model(batch[0]).squeeze(1), batch[1], full=True),
        optimizer=torch.optim.SGD, horizon=1200, schedule=eta.cosine(), **loaders([bicycles()[0], rents], 2000, 48),
    )  # fmt: skip


def bike_forecast():
    """The next hour's rents from a day's, by convolutions, AdamW with much weight decay, warmup and cosine."""
    rents = np.log1p([float(row["cnt"]) for row in bicycle_hours()])
    days = torch.from_numpy((rents - rents.mean()) / rents.std()).float().unfold(0, 25, 1)
    x, y = days[:, None, :24].contiguous(), days[:, 24].contiguous()
    past = DataLoader(TensorDataset(x[:-3000], y[:-3000]), batch_size=64, shuffle=True)
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Conv1d(1, 12, 5), nn.SiLU(), nn.Conv1d(12, 12, 5, stride=2), nn.SiLU(), nn.Flatten(), nn.Linear(96, 1),
        ),
        loss=lambda model, batch: F.l1_loss(model(batch[0]).squeeze(1), batch[1]),
        optimizer=partial(torch.optim.AdamW, weight_decay=1.0), horizon=700, schedule=eta.warmup("10%") >> eta.cosine(),
        train=past, val=[(x[-3000:], y[-3000:])],
    )  # fmt: skip


class Towers(nn.Module):
    """Readers and books, each through a perceptron of its own to a vector; the product of two is their score."""

    def __init__(self, users, books):
        super().__init__()
        self.users, self.books = (
            nn.Sequential(nn.Embedding(count, 16), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12))
            for count in (users, books)
        )

    def forward(self, user, book):
        return (self.users(user) * self.books(book)).sum(1)


def goodbooks_towers():
    """Two towers that rank what a reader liked above a book at random, Adam, constant."""
    user, book, rating = ratings()
    user, book = user[rating >= 4], book[rating >= 4]
    other = torch.randint(RATINGS, book.shape, generator=torch.Generator().manual_seed(0))

    def ranking(model, batch):
        return -F.logsigmoid(model(batch[0], batch[1]) - model(batch[0], batch[2])).mean()

    return eta.Task(
        model=lambda: Towers(int(user.max()) + 1, RATINGS), loss=ranking, optimizer=torch.optim.Adam, horizon=400,
        **loaders([user, book, other], 8000, 192),
    )  # fmt: skip


def breast_cancer_few():
    """A perceptron that learns sixty tumours by heart, all at once, SGD with momentum, constant, 1,000 steps."""
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(y))
    x = (x - x[order[:60]].mean(0)) / x[order[:60]].std(0)
    x, y = torch.from_numpy(x[order]).float(), torch.from_numpy(y[order]).long()
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(30, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2)),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9), horizon=1000,
        train=[(x[:60], y[:60])], val=[(x[60:], y[60:])],
    )  # fmt: skip


FRESH = {
    "fashion-lenet": fashion_lenet,
    "fashion-resnet": fashion_resnet,
    "fashion-residual": fashion_residual,
    "digits-noisy": digits_noisy,
    "shakespeare-lstm": shakespeare_lstm,
    "shakespeare-bigram": shakespeare_bigram,
    "shakespeare-noam": shakespeare_noam,
    "sms-gru": sms_gru,
    "adult-auc": adult_auc,
    "bike-counts": bike_counts,
    "bike-forecast": bike_forecast,
    "goodbooks-towers": goodbooks_towers,
    "breast-cancer-few": breast_cancer_few,
}
