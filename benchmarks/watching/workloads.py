"""Four small trainings on real data, each about a second on one core; all need `ETASCOPE_DATA`.

The peaks are the best of a coarse grid (`python benchmarks/watching/workloads.py` makes it again): final loss of the
whole run, mean of two seeds.

    mlp          cosine     0.01: 0.606  0.032: 0.505  0.1: 0.441  0.32: 0.504  1: 1.535
    mlp          constant   0.01: 0.557  0.032: 0.489  0.1: 0.510  0.32: 0.864  1: 2.291
    convnet      cosine     0.01: 0.639  0.032: 0.503  0.1: 0.465  0.32: 0.471  1: 0.660
    transformer  cosine     0.003: 2.538  0.0095: 2.380  0.03: 2.320  0.095: 2.348  0.3: 3.199
    transformer  constant   0.003: 2.451  0.0095: 2.352  0.03: 2.392  0.095: 2.602  0.3: 3.325
    lstm         cosine     0.003: 2.490  0.0095: 2.268  0.03: 2.116  0.095: 2.125  0.3: 2.414
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "finders"))

from real_data import characters, fashion

import etascope as eta

MOMENTUM = partial(torch.optim.SGD, momentum=0.9)
LENGTH = 32  # characters of a row
VALIDATION = 2000  # images, or 300 rows of text
ROWS = 300


@dataclass(frozen=True)
class Workload:
    """A training: what it learns from, and how.

    Attributes:
        name: in the results.
        model: makes the model, once the seed is set.
        data: () -> (inputs and targets to draw batches from, inputs and targets of validation).
        optimizer: (params, lr) -> optimizer.
        lr: the peak.
        horizon: updates.
        batch: rows of a batch.
        warmup: of the schedule, which goes on as a cosine to 0.
        classes: how many there are to predict.
        inside: name of the submodule whose output the fault "inf activation" spoils.
    """

    name: str
    model: Callable[[], nn.Module]
    data: Callable[[], tuple[list[torch.Tensor], list[torch.Tensor]]]
    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    horizon: int
    batch: int
    warmup: str
    classes: int
    inside: str
    schedules: tuple[str, ...] = field(default=("cosine",))

    def schedule(self, name="cosine"):
        """The multiplier over the run: a function of the update."""
        after = eta.cosine() if name == "cosine" else eta.constant()
        return (eta.warmup(self.warmup) >> after).bind(horizon=self.horizon)

    def start(self, seed):
        """The model of a seed."""
        torch.manual_seed(seed)
        return self.model()

    def evaluate(self, model):
        """The mean loss on the validation data, which is the same for all seeds."""
        was, (x, y) = model.training, self.data()[1]
        model.eval()
        with torch.no_grad():
            loss = loss_of(model, x, y).item()
        model.train(was)
        return loss


def loss_of(model, x, y):
    """Mean cross entropy; y: rows, or rows x characters."""
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())


# --------------------------------------------------------------------------------------------------- data


@cache
def images(side):
    """Fashion-MNIST, averaged to side x side pixels; the last 2,000 of a fixed order are for validation."""
    x, y = fashion()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = F.adaptive_avg_pool2d(x[order], side), y[order]
    return [x[:-VALIDATION], y[:-VALIDATION]], [x[-VALIDATION:], y[-VALIDATION:]]


@cache
def text():
    """Rows of tinyshakespeare's characters and the next ones; 300 rows of a fixed order are for validation."""
    ids, _ = characters()
    rows = ids[: len(ids) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    x, y = rows[:, :-1], rows[:, 1:]
    return [x[:-ROWS], y[:-ROWS]], [x[-ROWS:], y[-ROWS:]]


# ------------------------------------------------------------------------------------------------- models


def perceptron():
    """One hidden layer on 8x8 pixels: the smallest, on which a watch costs the most."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convnet():
    """Two convolutions with batch normalisation, on 14x14 pixels."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


class Block(nn.Module):
    """Causal attention and a perceptron, each on the normalised stream and added to it."""

    def __init__(self, width):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.asked, self.said = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, h):
        b, t, w = h.shape
        q, k, v = self.asked(self.before(h)).view(b, t, 3, 4, w // 4).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.said(seen.transpose(1, 2).reshape(b, t, w))
        return h + self.perceptron(self.between(h))


class Transformer(nn.Module):
    """A causal transformer on characters.

    Args:
        width: of the residual stream.
        layers: how many.
    """

    def __init__(self, width=32, layers=1, alphabet=65):
        super().__init__()
        self.characters, self.where = nn.Embedding(alphabet, width), nn.Embedding(LENGTH, width)
        self.layers = nn.Sequential(*[Block(width) for _ in range(layers)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, alphabet)

    def forward(self, x):
        return self.head(self.norm(self.layers(self.characters(x) + self.where.weight)))


class Recurrent(nn.Module):
    """An LSTM on characters."""

    def __init__(self, width=32, alphabet=65):
        super().__init__()
        self.characters = nn.Embedding(alphabet, 24)
        self.lstm, self.head = nn.LSTM(24, width, batch_first=True), nn.Linear(width, alphabet)

    def forward(self, x):
        return self.head(self.lstm(self.characters(x))[0])


WORKLOADS = {
    w.name: w
    for w in (
        Workload("mlp", perceptron, partial(images, 8), MOMENTUM, 0.1, 900, 64, "5%", 10, "2", ("cosine", "constant")),
        Workload("convnet", convnet, partial(images, 14), partial(MOMENTUM, weight_decay=1e-4), 0.1, 500, 32, "10%",
                 10, "1"),
        Workload("transformer", Transformer, text, torch.optim.AdamW, 3e-2, 500, 8, "8%", 65, "norm",
                 ("cosine", "constant")),
        Workload("lstm", Recurrent, text, torch.optim.AdamW, 3e-2, 500, 8, "5%", 65, "characters"),
    )
}  # fmt: skip


def plain(work, lr, seed, schedule="cosine"):
    """The final loss of a plain training."""
    model = work.start(seed)
    optimizer = work.optimizer(model.parameters(), lr=lr)
    handle = eta.attach(work.schedule(schedule), optimizer, horizon=work.horizon)
    generator, (x, y) = torch.Generator().manual_seed(seed), work.data()[0]
    for _ in range(work.horizon):
        rows = torch.randint(len(x), (work.batch,), generator=generator)
        loss_of(model, x[rows], y[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    handle.detach()
    return work.evaluate(model)


def main():
    import time

    torch.set_num_threads(1)
    if not os.environ.get("ETASCOPE_DATA"):
        sys.exit("The workloads need ETASCOPE_DATA.")
    for work in WORKLOADS.values():
        for schedule in work.schedules:
            for power in (-2, -1, 0, 1, 2):
                lr, began = float(f"{work.lr * 10 ** (power / 2):.2g}"), time.perf_counter()
                losses = [plain(work, lr, seed, schedule) for seed in (100, 101)]
                took = (time.perf_counter() - began) / 2
                told = f"{work.name:12} {schedule:9} lr {lr:<8.2g} {sum(losses) / 2:.4f}"
                print(f"{told}  apart {abs(losses[0] - losses[1]):.4f}  {took:.2f} s a run", flush=True)


if __name__ == "__main__":
    main()
