"""BLIND: thirteen workloads for judging `eta.diagnose` once more. No run of them has a part in what it learns from.

The fresh workloads were scored twice by it and are fitted with since. Written down and committed before the truths
of these were made, and their truths and runs were made without a look at what is said of them. All need
`ETASCOPE_DATA` but scikit-learn's.
"""

import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from outside import classify, loaders, unpacked
from real_data import (
    NUMBERS,
    RATINGS,
    bicycles,
    census,
    census_columns,
    digits_tensors,
    fashion,
    messages,
    next_character,
    ratings,
    windows,
)

import etascope as eta
from etascope.schedules import flat_cosine, inverse_time, polynomial, step_decay, wsd

# ------------------------------------------------------------------------------------------------- vision


class Mixer(nn.Module):
    """One block of a mixer: a perceptron over the 49 patches of an image, then one over their channels."""

    def __init__(self, width=24):
        super().__init__()
        self.patches = nn.Linear(4, width)
        self.norm, self.along = nn.LayerNorm(width), nn.Sequential(nn.Linear(49, 32), nn.GELU(), nn.Linear(32, 49))
        self.across = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, x):
        h = self.patches(x.view(-1, 7, 2, 7, 2).transpose(2, 3).reshape(-1, 49, 4))
        h = h + self.along(self.norm(h).transpose(1, 2)).transpose(1, 2)
        return self.head((h + self.across(h)).mean(1))


def fashion_mixer():
    """A mixer on images of 14x14, Adam with a shorter memory, warmup, stable, decay."""
    x, y = fashion()
    return eta.Task(
        model=Mixer, loss=classify, optimizer=partial(torch.optim.Adam, betas=(0.9, 0.95)), horizon=300,
        schedule=wsd("10%", "40%"), **loaders([F.avg_pool2d(x, 2), y], 2000, 32),
    )  # fmt: skip


def fashion_depthwise():
    """A convnet of depthwise convolutions with group normalisation, SGD with momentum, warmup and cosine."""
    x, y = fashion()
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1, bias=False), nn.GroupNorm(3, 12), nn.SiLU(),
            nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.Conv2d(12, 24, 1), nn.GroupNorm(4, 24),
            nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(216, 10),
        ),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4), horizon=300,
        schedule=eta.warmup("10%") >> eta.cosine(), **loaders([F.avg_pool2d(x, 2), y], 2000, 48),
    )  # fmt: skip


def fashion_few():
    """Four hundred images learned by heart by a perceptron, RMSprop, constant."""
    x, y = fashion()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(3))[:2400]
    return eta.Task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(),
                                    nn.Linear(48, 10)),
        loss=classify, optimizer=torch.optim.RMSprop, horizon=500, **loaders([x[order], y[order]], 2000, 40),
    )  # fmt: skip


class Rows(nn.Module):
    """A recurrent net that reads an image of 8x8 row by row."""

    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.RNN(8, 40, batch_first=True), nn.Linear(40, 10)

    def forward(self, x):
        return self.head(self.rnn(x.view(-1, 8, 8))[0][:, -1])


def digits_rows():
    """A plain recurrent net on the rows of digits, Adamax, linear decay."""
    return eta.Task(
        model=Rows, loss=classify, optimizer=torch.optim.Adamax, horizon=600, schedule=eta.linear(to=0.0),
        **loaders(digits_tensors(), 400, 24),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- language


def shakespeare_neighbours():
    """The next character from the vectors of the last eight, a perceptron, plain SGD, three steps down."""
    rows, size = windows(8, 40_000)
    return eta.Task(
        model=lambda: nn.Sequential(nn.Embedding(size, 10), nn.Flatten(), nn.Linear(80, 96), nn.Tanh(),
                                    nn.Linear(96, size)),
        loss=lambda model, batch: F.cross_entropy(model(batch[0][:, :8]), batch[0][:, 8]),
        optimizer=torch.optim.SGD, horizon=1000, schedule=step_decay("30%", factor=0.3), **loaders([rows], 4000, 64),
    )  # fmt: skip


class Elman(nn.Module):
    """A plain recurrent net over characters."""

    def __init__(self, alphabet):
        super().__init__()
        self.characters, self.rnn = nn.Embedding(alphabet, 24), nn.RNN(24, 64, batch_first=True)
        self.head = nn.Linear(64, alphabet)

    def forward(self, x):
        return self.head(self.rnn(self.characters(x))[0])


def shakespeare_elman():
    """A plain recurrent net, RMSprop with a long memory, cosine to a tenth, clipped."""
    rows, size = windows(20, 18_000)
    return eta.Task(
        model=lambda: Elman(size), loss=next_character, optimizer=partial(torch.optim.RMSprop, alpha=0.999),
        horizon=400, schedule=eta.cosine(to=0.1), clip_norm=0.5, **loaders([rows], 300, 12),
    )  # fmt: skip


class Looks(nn.Module):
    """The words of a message as vectors, weighed by what one query thinks of them."""

    def __init__(self, words=5000, width=20):
        super().__init__()
        self.words = nn.Embedding(words, width, padding_idx=0)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.query, self.head = nn.Parameter(0.1 * torch.randn(width)), nn.Linear(width, 2)

    def forward(self, ids):
        h = self.words(ids)
        scores = (torch.tanh(self.key(h)) @ self.query).masked_fill((ids == 0) & (ids.sum(1, keepdim=True) > 0), -1e4)
        return self.head((scores.softmax(1)[:, :, None] * torch.relu(self.value(h))).sum(1))


def sms_attention():
    """Spam by one look at all words, AdamW, cosine, batches of 64."""
    return eta.Task(
        model=Looks, loss=classify, optimizer=partial(torch.optim.AdamW, weight_decay=0.01), horizon=350,
        schedule=eta.cosine(), **loaders(messages(), 1500, 64),
    )  # fmt: skip


class Letters(nn.Module):
    """Convolutions over a message's characters, and the largest of what each says on the way."""

    def __init__(self):
        super().__init__()
        self.letters = nn.Embedding(64, 12)
        self.convolution, self.head = nn.Conv1d(12, 32, 5, stride=2), nn.Linear(32, 2)

    def forward(self, ids):
        return self.head(torch.relu(self.convolution(self.letters(ids).transpose(1, 2))).amax(2))


def sms_letters():
    """Spam by convolutions over 80 characters, SGD with Nesterov's momentum, constant."""
    lines = [line.split("\t", 1) for line in unpacked("sms-spam/SMSSpamCollection.gz").decode().split("\n") if line]
    ids = torch.zeros(len(lines), 80, dtype=torch.long)
    for i, (_, text) in enumerate(lines):
        ids[i, : len(text[:80])] = torch.tensor([ord(c) % 63 + 1 for c in text[:80]])
    return eta.Task(
        model=Letters, loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9, nesterov=True), horizon=400,
        **loaders([ids, messages()[1]], 1500, 24),
    )  # fmt: skip


# ------------------------------------------------------------------------- tables and recommendation


def adult_normed():
    """A perceptron with batch normalisation, SGD with momentum and weight decay, quadratic decay, batches of 256."""
    return eta.Task(
        model=lambda: nn.Sequential(
            nn.Linear(census()[0].shape[1], 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 24), nn.BatchNorm1d(24),
            nn.ReLU(), nn.Linear(24, 2),
        ),
        loss=classify, optimizer=partial(torch.optim.SGD, momentum=0.9, weight_decay=1e-4), horizon=500,
        schedule=polynomial(power=2.0), **loaders(census(), 4000, 256),
    )  # fmt: skip


def adult_hours():
    """The upper third of the hours that a person works a week, SELU units, plain SGD, warmup and linear decay."""
    x, _ = census()
    hours = NUMBERS[-1]
    place = sum(1 if i in NUMBERS else len(set(column)) for i, column in enumerate(census_columns()[:hours]))
    rest = torch.cat([x[:, :place], x[:, place + 1 :]], 1)

    def pinball(model, batch):
        short = batch[1] - model(batch[0]).squeeze(1)
        return torch.maximum(0.67 * short, -0.33 * short).mean()

    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(rest.shape[1], 32), nn.SELU(), nn.Linear(32, 32), nn.SELU(),
                                    nn.Linear(32, 1)),
        loss=pinball, optimizer=torch.optim.SGD, horizon=700, schedule=eta.warmup("5%") >> eta.linear(to=0.0),
        **loaders([rest, x[:, place].contiguous()], 4000, 96),
    )  # fmt: skip


def bike_gaussian():
    """The mean and the deviation of an hour's rents, a perceptron, RAdam, flat and then a cosine."""

    def likelihood(model, batch):
        mean, deviation = model(batch[0]).unbind(1)
        return F.gaussian_nll_loss(mean, batch[1], F.softplus(deviation).square() + 1e-3)

    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(14, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 2)),
        loss=likelihood, optimizer=torch.optim.RAdam, horizon=800, schedule=flat_cosine("60%"),
        **loaders(bicycles(), 2000, 128),
    )  # fmt: skip


class Stars(nn.Module):
    """A reader's and a book's vectors, multiplied and added up, and the odds of one to five stars."""

    def __init__(self, users, books, width=16):
        super().__init__()
        self.users, self.books = nn.Embedding(users, width), nn.Embedding(books, width)
        nn.init.normal_(self.users.weight, 0, 0.3)
        nn.init.normal_(self.books.weight, 0, 0.3)
        self.head = nn.Sequential(nn.Linear(2 * width, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, user, book):
        u, b = self.users(user), self.books(book)
        return self.head(torch.cat([u * b, u + b], 1))


def goodbooks_stars():
    """How many stars a reader gives, as classes, NAdam, linear decay to a tenth, batches of 384."""
    user, book, rating = ratings()
    return eta.Task(
        model=lambda: Stars(int(user.max()) + 1, RATINGS),
        loss=lambda model, batch: F.cross_entropy(model(batch[0], batch[1]), batch[2]),
        optimizer=torch.optim.NAdam, horizon=400, schedule=eta.linear(to=0.1),
        **loaders([user, book, rating.long() - 1], 8000, 384),
    )  # fmt: skip


def friedman_noisy():
    """Friedman's first function under much noise, a perceptron, SGD with much momentum, 1/t decay."""
    from sklearn.datasets import make_friedman1

    x, y = make_friedman1(1600, noise=3.0, random_state=0)
    x, y = torch.from_numpy(2 * x - 1).float(), torch.from_numpy((y - y.mean()) / y.std()).float()
    return eta.Task(
        model=lambda: nn.Sequential(nn.Linear(10, 48), nn.ELU(), nn.Linear(48, 48), nn.ELU(), nn.Linear(48, 1)),
        loss=lambda model, batch: F.mse_loss(model(batch[0]).squeeze(1), batch[1]),
        optimizer=partial(torch.optim.SGD, momentum=0.95), horizon=900, schedule=inverse_time(to=0.1),
        **loaders([x, y], 800, 20),
    )  # fmt: skip


BLIND = {
    "fashion-mixer": fashion_mixer,
    "fashion-depthwise": fashion_depthwise,
    "fashion-few": fashion_few,
    "digits-rows": digits_rows,
    "shakespeare-neighbours": shakespeare_neighbours,
    "shakespeare-elman": shakespeare_elman,
    "sms-attention": sms_attention,
    "sms-letters": sms_letters,
    "adult-normed": adult_normed,
    "adult-hours": adult_hours,
    "bike-gaussian": bike_gaussian,
    "goodbooks-stars": goodbooks_stars,
    "friedman-noisy": friedman_noisy,
}
