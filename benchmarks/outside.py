"""Six tasks beside the built-in ones, for `find_truth.py --outside`; needs `ETASCOPE_DATA`.

The finder was tried on them before its last changes, so they are no blind test.

Vision, language, a recommender, two tables and a text classifier; SGD, Adam, AdamW, Adagrad and RMSprop;
constant, linear and cosine schedules.
"""

import csv
import gzip
import io
import os
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta


def unpacked(name):
    return gzip.decompress(Path(os.environ["ETASCOPE_DATA"], name).read_bytes())


def loaders(tensors, n_val, batch_size):
    """The rows in a fixed random order; the last `n_val` of them are for validation."""
    order = torch.randperm(len(tensors[0]), generator=torch.Generator().manual_seed(0))
    train, val = ([t[part] for t in tensors] for part in (order[:-n_val], order[-n_val:]))
    return {
        "train": DataLoader(TensorDataset(*train), batch_size=batch_size, shuffle=True),
        "val": [tuple(val)],
    }


def classify(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def images(part):
    def read(kind, offset):
        return np.frombuffer(unpacked(f"fashion-mnist/{part}-{kind}-ubyte.gz"), np.uint8, offset=offset)

    x = torch.from_numpy(read("images-idx3", 16).copy()).view(-1, 1, 28, 28).float() / 255
    return TensorDataset((x - 0.286) / 0.353, torch.from_numpy(read("labels-idx1", 8).copy()).long())


def fashion_mlp():
    """A multilayer perceptron on clothing, SGD with momentum at a constant lr."""
    return eta.Task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10)),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9), horizon=600,
        **loaders(images("train").tensors, 2000, 64),
    )  # fmt: skip


class CharGRU(nn.Module):
    def __init__(self, alphabet):
        super().__init__()
        self.characters, self.gru = nn.Embedding(alphabet, 64), nn.GRU(64, 96, batch_first=True)
        self.head = nn.Linear(96, alphabet)

    def forward(self, x):
        return self.head(self.gru(self.characters(x))[0])


def shakespeare_gru():
    """A GRU on Shakespeare's characters, AdamW, warmup and cosine, clipped."""
    text = Path(os.environ["ETASCOPE_DATA"], "tinyshakespeare/input.txt").read_text("ascii")
    alphabet = sorted(set(text))
    ids = torch.tensor([alphabet.index(c) for c in text[:400_000]])
    windows = ids[: len(ids) // 33 * 33].view(-1, 33)
    return eta.Task(
        model=lambda: CharGRU(len(alphabet)),
        loss=lambda model, batch: F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten()),
        optimizer=torch.optim.AdamW, horizon=400, schedule=eta.warmup("5%") >> eta.cosine(), clip_norm=1.0,
        **loaders([windows], 500, 16),
    )  # fmt: skip


class Factors(nn.Module):
    def __init__(self, users, books):
        super().__init__()
        self.users, self.books = nn.Embedding(users, 9), nn.Embedding(books, 9)
        nn.init.normal_(self.users.weight, 0, 0.1)
        nn.init.normal_(self.books.weight, 0, 0.1)

    def forward(self, user, book):
        u, b = self.users(user), self.books(book)
        return 3.9 + (u[:, 1:] * b[:, 1:]).sum(1) + u[:, 0] + b[:, 0]


def goodbooks_factors():
    """Matrix factorisation of the 2,000 most rated books' ratings, Adagrad at a constant lr."""
    table = np.loadtxt(io.BytesIO(unpacked("goodbooks-10k/ratings.csv.gz")), delimiter=",", skiprows=1, dtype=int)
    books, counts = np.unique(table[:, 1], return_counts=True)
    table = table[np.isin(table[:, 1], books[np.argsort(-counts, kind="stable")[:2000]])]
    user, book = (torch.from_numpy(np.unique(table[:, i], return_inverse=True)[1]) for i in (0, 1))
    rating = torch.from_numpy(table[:, 2]).float()
    return eta.Task(
        model=lambda: Factors(int(user.max()) + 1, 2000),
        loss=lambda model, batch: F.mse_loss(model(batch[0], batch[1]), batch[2]),
        optimizer=torch.optim.Adagrad, horizon=800,
        **loaders([user, book, rating], 8000, 256),
    )  # fmt: skip


def adult_mlp():
    """Income from the census table, a perceptron with dropout, Adam, cosine."""
    lines = [line.split(", ") for line in unpacked("adult/adult.data.gz").decode().splitlines() if line]
    columns = list(zip(*lines, strict=True))
    parts = []
    for i, column in enumerate(columns[:-1]):
        if i in (0, 2, 4, 10, 11, 12):
            v = np.log1p(np.array(column, float))
            parts.append(((v - v.mean()) / v.std())[:, None])
        else:
            parts.append(np.eye(len(set(column)))[np.unique(column, return_inverse=True)[1]])
    x = torch.from_numpy(np.hstack(parts)).float()
    y = torch.tensor([int(v == ">50K") for v in columns[-1]])
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2)),
        loss=classify, optimizer=torch.optim.Adam, horizon=500, schedule=eta.cosine(),
        **loaders([x, y], 4000, 128),
    )  # fmt: skip


def sms_bag():
    """Spam from a bag of hashed words, SGD with momentum, linear decay."""
    raw = unpacked("sms-spam/SMSSpamCollection.gz").decode()
    rows = [line.split("\t", 1) for line in raw.split("\n") if line]
    words = torch.zeros(len(rows), 2000)
    for i, (_, text) in enumerate(rows):
        for word in text.lower().split():
            words[i, zlib.crc32(word.encode()) % 2000] = 1.0
    y = torch.tensor([int(label == "spam") for label, _ in rows])
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(2000, 16), nn.Tanh(), nn.Linear(16, 2)),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9), horizon=300, schedule=eta.linear(to=0.0),
        **loaders([words, y], 1500, 32),
    )  # fmt: skip


def bike_rmsprop():
    """Hourly rents of bicycles, a perceptron, RMSprop, warmup and linear decay."""
    rows = list(csv.DictReader(unpacked("bike-sharing/hour.csv.gz").decode().splitlines()))
    kinds = ("season", "yr", "mnth", "hr", "weekday", "weathersit")
    parts = [np.eye(25)[[int(r[k]) for r in rows]] for k in kinds]
    x = np.hstack([*parts, np.array([[float(r[k]) for k in ("temp", "hum", "windspeed")] for r in rows])])
    y = np.log1p(np.array([float(r["cnt"]) for r in rows]))
    x, y = torch.from_numpy(x).float(), torch.from_numpy((y - y.mean()) / y.std()).float()
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Linear(x.shape[1], 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1),
        ),
        loss=lambda model, batch: F.mse_loss(model(batch[0]).squeeze(1), batch[1]),
        optimizer=torch.optim.RMSprop, horizon=600, schedule=eta.warmup(20) >> eta.linear(to=0.05),
        **loaders([x, y], 2000, 64),
    )  # fmt: skip


OUTSIDE = {
    "fashion-mlp": fashion_mlp,
    "shakespeare-gru": shakespeare_gru,
    "goodbooks-factors": goodbooks_factors,
    "adult-mlp": adult_mlp,
    "sms-bag": sms_bag,
    "bike-rmsprop": bike_rmsprop,
}
