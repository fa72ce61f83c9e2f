"""Small random tasks of every kind, and short ways to the engines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etascope.engines.base import Setting, Tick, Trained
from etascope.engines.lanes import Lanes
from etascope.engines.loop import Loop
from etascope.engines.prepared import Objective, Prepared
from etascope.engines.stack import Stack, quiet
from etascope.records import Curve
from etascope.records import Engine as Ran
from etascope.task import Task

CPU = torch.device("cpu")
WORDS, LENGTH, CLASSES = 11, 6, 3


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 6)
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(x))[0]).flatten(0, 1)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 8)
        self.layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, WORDS)
        self.register_buffer("mask", torch.ones(LENGTH, LENGTH).triu(1).bool())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x), src_mask=self.mask)).flatten(0, 1)


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 6, mode="mean")
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.bag(x))


class Square(torch.autograd.Function):
    """x², as a function with a rule for lanes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * grad


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def convnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES)),
    )


def dropnet() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, CLASSES))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": mlp,
    "conv-bn": convnet,
    "lstm": Recurrent,
    "transformer": Transformer,
    "embedding-bag": Bag,
    "dropout": dropnet,
}
KINDS = ["linear", "conv-bn", "lstm", "transformer", "embedding-bag"]  # those whose engines must agree


def batches(kind: str, n: int = 5, rows: int = 10, dtype: torch.dtype = torch.float32, seed: int = 1) -> list[Any]:
    """n batches (x, y) for the model of that kind; the last one is smaller."""
    g = torch.Generator().manual_seed(seed)
    out = []
    for i in range(n):
        b = rows - 3 * (i == n - 1)
        if kind in ("lstm", "transformer"):
            text = torch.randint(WORDS, (b, LENGTH + 1), generator=g)
            out.append((text[:, :-1], text[:, 1:].flatten()))
        elif kind == "embedding-bag":
            out.append((torch.randint(20, (b, 4), generator=g), torch.randint(CLASSES, (b,), generator=g)))
        else:
            x = torch.randn((b, 1, 8, 8) if kind == "conv-bn" else (b, 5), generator=g, dtype=torch.float64)
            y = x.flatten(1)[:, :CLASSES].argmax(1)  # something to learn
            out.append((x.to(dtype), y))
    return out


def cross_entropy(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return F.cross_entropy(model(x), y)


def small_task(kind: str = "linear", dtype: torch.dtype = torch.float32, **changes: Any) -> Task:
    """A task of that kind; `changes` are arguments of Task."""
    options = {
        "model": lambda: MODELS[kind]().to(dtype),
        "loss": cross_entropy,
        "optimizer": partial(torch.optim.SGD, momentum=0.9),
        "train": batches(kind, dtype=dtype),
        "val": batches(kind, n=2, dtype=dtype, seed=2),
        "horizon": 50,
    }
    return Task(**(options | changes))


def engine(name: str, task: Task, chunk: int = 32) -> Loop | Lanes:
    prepared = Prepared(task, CPU)
    return (Lanes if name == "lanes" else Loop)(prepared, Ran(name, chunk if name == "lanes" else 1, 1, "cpu"))


def lanes_of(lrs: Sequence[float | Setting], seed: int = 0) -> list[Setting]:
    return [lr if isinstance(lr, Setting) else Setting(seed, lr) for lr in lrs]


def setting(lr: float, seed: int = 0, **options: Any) -> Setting:
    return Setting(seed, lr, tuple(sorted(options.items())))


def train(
    name: str,
    task: Task,
    lrs: Sequence[float | Setting],
    steps: int,
    seed: int = 0,
    rung: int = 0,
    tick: Tick = lambda *_: None,
) -> list[Curve]:
    """One unit's curves, in the order of the lrs."""
    done: Trained = engine(name, task).train(lanes_of(lrs, seed), steps, rung, tick)
    return list(done.curves)


def train_losses(curve: Curve) -> Tensor:
    return torch.tensor([v for _, v in curve.train], dtype=torch.float64)


def largest_gap(found: Sequence[Curve], truth: Sequence[Curve]) -> float:
    """The largest relative difference of training losses, step by step."""
    return max(
        float(((a - b).abs() / b.abs()).max())
        for a, b in ((train_losses(f), train_losses(t)) for f, t in zip(found, truth, strict=True))
    )


def nearly(curves: Sequence[Curve]) -> list[Curve]:
    """Curves in float64 that equal all those that differ from them in its last digits alone.

    That is what two stacks of different size can promise: on some CPUs a lane's place in the stack decides whether its
    numbers go through torch's vector code or through that of the rest, which differ in the last bit. A draw or an
    update too many shows in the first digits.
    """

    def near(value: float | None) -> Any:
        return None if value is None else pytest.approx(value, rel=1e-12, abs=0)

    def points(curve: Curve, name: str) -> Any:
        return tuple((t, near(v)) for t, v in getattr(curve, name))

    return [
        replace(c, loss=near(c.loss), ended=near(c.ended), train=points(c, "train"), val=points(c, "val"))
        for c in curves
    ]


def off_at_the_loops_state(task: Task, lrs: Sequence[float | Setting], steps: int = 10) -> tuple[float, float]:
    """Largest differences after loop steps: of a lane's gradient, by its norm, and of buffers."""
    p, settings = Prepared(task, CPU), lanes_of(lrs)
    stack, loop = Stack(p, settings), Loop(p, Ran("loop", 1, 1, "cpu"))
    gradients, buffers = [], []
    for k, s in enumerate(settings):
        built = p.build(s.seed, s.lr, s.options)
        stream = p.batches(s.seed, 0, s.options)
        for _ in range(steps):
            loop.step(built, stream, s.lr)
        load(stack, k, built.objective)
        loop._gradient(built, list(itertools.islice(stream, task.accumulate)))
        scale = built.scaler.get_scale()
        gradients.append(torch.cat([q.grad.flatten() for q in built.optimized]) / scale)
        buffers.append(dict(built.objective.named_buffers()))
    truth_LP = torch.stack(gradients)
    seen = itertools.islice(stack.batches(0), steps * task.accumulate, (steps + 1) * task.accumulate)
    with quiet():
        grads_LP, _ = stack.gradients(list(seen))
    gap = float(((grads_LP - truth_LP).norm(dim=1) / truth_LP.norm(dim=1)).max())
    buffer_gap = max(
        (
            float((b.double() - buffers[k][n].double()).abs().max())
            for k in range(len(settings))
            for n, b in stack.lane(k).named_buffers()
        ),
        default=0.0,
    )
    return gap, buffer_gap


def load(stack: Stack, k: int, objective: Objective) -> None:
    """Set lane k to the loop's own state."""
    params, buffers = dict(objective.named_parameters()), dict(objective.named_buffers())
    with torch.no_grad():
        for name, view in stack.views.items():
            view[k] = params[name]
        for name, own in stack.buffers.items():
            own[k] = buffers[name]
