"""What lanes cannot train is refused by name; faults of a task show before anything is trained."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import CPU, Bag, batches, cross_entropy, engine, lanes_of, mlp, small_task
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal, refuse
from etascope.errors import NoAnswer, ScheduleError, TaskError
from etascope.task import Task


def check(task: Task) -> None:
    Prepared(task, CPU).check(0)


def line_of(function: Callable[..., Any], offset: int = 1) -> str:
    """File and line inside a function, as an error should name them."""
    return f"{Path(__file__).name}:{function.__code__.co_firstlineno + offset}"


# -------------------------------------------------------------------------------- what lanes refuse


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Peeks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.abs().max().item()


class Replaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + 1
        return x


def within(module: nn.Module) -> dict[str, Any]:
    return {"model": lambda: nn.Sequential(nn.Linear(5, 4), nn.Sequential(module), nn.Linear(4, 3))}


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(5, 3), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


class Dropped(nn.Module):
    """A layer that is passed over at random, in every other batch or so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.maybe, self.last = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return self.last(self.maybe(hidden) if random.random() < 0.5 else hidden)


def hooked(post: bool = False) -> nn.Module:
    model = mlp()
    if post:
        model[0].weight.register_post_accumulate_grad_hook(lambda q: None)
    else:
        model[0].weight.register_hook(lambda grad: grad * 0)
    return model


def sparse_bag() -> nn.Module:
    model = Bag()
    model.bag.sparse = True
    return model


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "control flow": (within(Branches()), ["Branches (1.0)", "data-dependent control flow"]),
    ".item()": (within(Peeks()), ["Peeks (1.0)", ".item()"]),
    "replaced buffer": (within(Replaces()), ["'1.0.count'", "in place"]),
    "unknown optimizer": ({"optimizer": torch.optim.Adafactor}, ["Adafactor", "no rule"]),
    "idle parameter": ({"model": Unused}, ["'idle.weight'", "no gradient"]),
    "dropped layer": ({"model": Dropped}, ["'maybe.weight'", "no gradient"]),
    "gradient hook": ({"model": hooked}, ["'0.weight'", "gradient hook"]),
    "gradient hook, after": ({"model": lambda: hooked(post=True)}, ["'0.weight'", "gradient hook"]),
    "mixed dtypes": (
        {
            "model": lambda: nn.Sequential(nn.Linear(5, 3), nn.Linear(1, 1).double()),
            "loss": lambda m, b: cross_entropy(m[0], b) + m[1](torch.ones(1, 1).double()).sum().float(),
        },
        ["float64", "float32"],
    ),
    "a tensor that is no parameter": (
        {
            "params": lambda model: [torch.nn.Parameter(torch.ones(1)), *model.parameters()],
        },
        ["not a parameter of the model"],
    ),
    ".item() in the loss": (
        {"loss": lambda m, b: cross_entropy(m, b) * cross_entropy(m, b).item()},
        ["Sequential", ".item()"],
    ),
    "control flow in evaluation": (
        {"loss": lambda m, b: cross_entropy(m, b) * (1 if m.training or m(b[0]).sum() > 0 else 2)},
        ["data-dependent control flow"],
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_lanes_name_module_and_cause(what: str) -> None:
    changes, words = REFUSED[what]
    task = small_task(**changes)
    if what != "a tensor that is no parameter":
        check(task)  # the loop takes it
        engine("loop", task).train(lanes_of([0.01]), 2, 0, lambda *_: None)
    reason = refusal(Prepared(task, CPU), 0)
    assert reason is not None
    assert all(word in reason for word in words), reason
    assert "\n" not in reason
    assert "engine='loop'" in str(refuse(reason))


def test_lanes_take_scalar_parameters() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.scale = mlp(), nn.Parameter(torch.tensor(1.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) * self.scale

    assert refusal(Prepared(small_task(model=Scaled), CPU), 0) is None


# ------------------------------------------------------------------------- faults seen when it is made


class Rows(Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Tensor:
        return torch.zeros(2)


class Wrapper:
    """Around a loader of the user's, which must not be iterated."""

    def __iter__(self) -> Iterator[Tensor]:
        yield from DataLoader(Rows())


class Halved(DataLoader[Tensor]):
    def __iter__(self) -> Any:
        for batch in super().__iter__():
            yield batch / 2


MADE: dict[str, tuple[dict[str, Any], str]] = {
    "horizon 0": ({"horizon": 0}, "horizon is 0"),
    "horizon < 0": ({"horizon": -5}, "horizon is -5"),
    "horizon 2.5": ({"horizon": 2.5}, "horizon is 2.5"),
    "horizon True": ({"horizon": True}, "horizon is True"),
    "horizon text": ({"horizon": "3 weeks"}, "3 weeks"),
    "horizon 0ep": ({"horizon": "0ep"}, "0ep"),
    "epochs of no length": ({"horizon": "3ep", "train": lambda seed: iter([])}, "no length"),
    "optimizer instance": ({"optimizer": torch.optim.SGD(mlp().parameters(), lr=0.1)}, "instance of SGD"),
    "optimizer name": ({"optimizer": "adam"}, "optimizer is a str"),
    "criterion as loss": ({"loss": nn.CrossEntropyLoss()}, r"nn\.CrossEntropyLoss"),
    "loss is a number": ({"loss": 3}, "loss is a int"),
    "model is a number": ({"model": 3}, "model is a int"),
    "dataset as train": ({"train": Rows()}, "train is a dataset"),
    "dataset as val": ({"val": Rows()}, "val is a dataset"),
    "iterator as train": ({"train": iter(batches("linear"))}, "train is an iterator"),
    "generator as val": ({"val": (b for b in batches("linear"))}, "val is an iterator"),
    "function as val": ({"val": lambda: batches("linear")}, "val is a function"),
    "number as train": ({"train": 3}, "train is a int"),
    "wrapper as train": ({"train": Wrapper()}, "train is a Wrapper, which can only be iterated"),
    "dict as train": ({"train": {"x": torch.zeros(2)}}, "train is a dict"),
    "dict as val": ({"val": {"x": torch.zeros(2)}}, "val is a dict"),
    "tensor as train": ({"train": torch.zeros(2)}, "train is a Tensor"),
    "tensor as val": ({"val": torch.zeros(2)}, "val is a Tensor"),
    "loader of its own as train": ({"train": Halved(Rows())}, "train is a Halved, a DataLoader that iterates in a way"),
    "loader of its own as val": ({"val": Halved(Rows())}, "val is a Halved"),
    "no batches": ({"train": []}, "train is empty"),
    "no val batches": ({"val": []}, "val is empty"),
    "goal max": ({"goal": "max"}, "goal=\"max\" without `evaluate`"),
    "goal": ({"goal": "least"}, "goal is 'least'"),
    "precision": ({"precision": "fp8"}, "precision is 'fp8'"),
    "accumulate": ({"accumulate": 0}, "accumulate is 0"),
    "clip_norm": ({"clip_norm": -1.0}, "clip_norm is -1.0"),
    "clip_norm text": ({"clip_norm": "1"}, "clip_norm is '1'"),
    "clip_norm NaN": ({"clip_norm": math.nan}, "clip_norm is nan"),
    "schedule": ({"schedule": 0.3}, "schedule"),
}  # fmt: skip


@pytest.mark.parametrize("what", MADE)
def test_refused_when_made(what: str) -> None:
    changes, words = MADE[what]
    with pytest.raises(TaskError, match=words) as raised:
        small_task(**changes)
    assert raised.value.next_move


def test_an_lr_in_a_partial() -> None:
    from functools import partial

    with pytest.raises(TaskError, match=r"lr of its own \(0\.1\)"):
        small_task(optimizer=partial(torch.optim.SGD, lr=0.1))


# ------------------------------------------------------------------------------ faults seen by `check`


def not_finite() -> list[Any]:
    (x, y), *others = batches("linear")
    x[0, 0] = math.nan
    return [(x, y), *others]


def texts(seed: int) -> Iterator[str]:
    yield "no tensors"


outside = mlp()

CHECKED: dict[str, tuple[dict[str, Any], str]] = {
    "vector loss": ({"loss": lambda m, b: m(b[0]).sum(1)}, r"shape \(10,\), not a scalar"),
    "float loss": ({"loss": lambda m, b: 3.0}, "returned float, not a scalar"),
    "no loss": ({"loss": lambda m, b: None}, "returned NoneType, not a scalar"),
    "NaN in the data": ({"train": not_finite()}, r"first training batch is not finite: tensor 0"),
    "NaN in the data of a loss that pops": (
        {
            "train": [{"x": x, "y": y} for x, y in not_finite()],
            "loss": lambda m, b: cross_entropy(m, (b.pop("x"), b.pop("y"))),
            "val": None,
        },
        "first training batch is not finite",
    ),
    "NaN in val": ({"val": not_finite()}, "validation batch 0 is not finite"),
    "empty loader": ({"train": DataLoader(Rows(), batch_size=8, drop_last=True)}, "train is empty"),
    "empty val loader": ({"val": DataLoader(Rows(), batch_size=8, drop_last=True)}, "val is empty"),
    "no tensors": ({"train": texts}, "holds no tensor: it is a str"),
    "absolute lr": (
        {"params": lambda m: [{"params": m.parameters(), "lr": 0.1}]},
        r"param group 0 has an absolute lr \(0\.1\)",
    ),
    "group without params": ({"params": lambda m: [{"lr_scale": 1.0}]}, 'param group 0 has no "params"'),
    "lr_scale text": (
        {"params": lambda m: [{"params": m.parameters(), "lr_scale": "x"}]},
        "param group 0 has lr_scale='x'",
    ),
    "lr_scale in the optimizer alone": (
        {"optimizer": lambda ps, lr: torch.optim.SGD([{"params": list(ps), "lr_scale": 0.1}], lr=lr)},
        r"param group 0 with lr_scale=0\.1",
    ),
    "an lr of its own": ({"optimizer": lambda ps, lr: torch.optim.SGD(ps, lr=0.1)}, "does not use lr"),
    "the same model at every call": ({"model": lambda: outside}, "the same parameters at every call"),
    "a shared part": (
        {"model": lambda: nn.Sequential(outside, nn.Linear(3, 3))},
        "the same parameters at every call",
    ),
    "a gradient hook": ({"model": hooked()}, "parameter '0.weight' has a gradient hook"),
    "LBFGS": ({"optimizer": torch.optim.LBFGS}, "LBFGS needs a closure"),
    "no optimizer": ({"optimizer": lambda ps, lr: None}, "returned a NoneType"),
    "nothing to train": ({"model": mlp().requires_grad_(False)}, "nothing to optimize"),
    "no model": ({"model": lambda: 3}, r"model\(\) returned a int"),
    "detached": ({"loss": lambda m, b: cross_entropy(m, b).detach()}, "does not depend on the model"),
    "item": ({"loss": lambda m, b: torch.tensor(cross_entropy(m, b).item())}, "does not depend on the model"),
    "another model": (
        {"loss": lambda m, b: cross_entropy(outside, b)},
        "no optimized parameter has a gradient",
    ),
    "the model from outside": (
        {"model": outside, "loss": lambda m, b: cross_entropy(m, b) + outside[0].weight.abs().sum()},
        "own model from outside",
    ),
}


@pytest.mark.parametrize("what", CHECKED)
def test_refused_by_check(what: str) -> None:
    changes, words = CHECKED[what]
    with pytest.raises(TaskError, match=words) as raised:
        check(small_task(**changes))
    assert raised.value.next_move
    assert all(q.grad is None for q in outside.parameters()) or what == "another model"
    outside.zero_grad()


def wrong_shape(model: nn.Module, batch: Any) -> Tensor:
    return model(batch[0][:, :2]).sum()


def broken_loss(model: nn.Module, batch: Any) -> Tensor:
    raise KeyError("label")


def broken_model() -> nn.Module:
    raise ImportError("no such layer")


def broken_params(model: nn.Module) -> list[Tensor]:
    return [model.nothing]


def broken_data(seed: int) -> Iterator[Any]:
    yield {}["first"]


def broken_evaluate(model: nn.Module) -> float:
    return float("many")


def broken_optimizer(params: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=lr, momentum=-1)


def broken_json(model: nn.Module, batch: Any) -> Tensor:
    return __import__("json").loads("{")


class Broken(Rows):
    def __getitem__(self, i: int) -> Tensor:
        raise OSError("the disk is gone")


RAISES: dict[str, tuple[dict[str, Any], str, type[Exception], str]] = {
    "loss": ({"loss": broken_loss}, "loss", KeyError, line_of(broken_loss)),
    "model's forward": ({"loss": wrong_shape}, "loss", RuntimeError, line_of(wrong_shape)),
    "a library inside": ({"loss": broken_json}, "loss", ValueError, line_of(broken_json)),
    "model": ({"model": broken_model}, "model", ImportError, line_of(broken_model)),
    "params": ({"params": broken_params}, "params", AttributeError, line_of(broken_params)),
    "optimizer": ({"optimizer": broken_optimizer}, "optimizer", ValueError, line_of(broken_optimizer)),
    "data": ({"train": broken_data}, "training data", KeyError, line_of(broken_data)),
    "dataset": ({"train": DataLoader(Broken())}, "training data", OSError, line_of(Broken.__getitem__)),
    "val": ({"val": DataLoader(Broken())}, "validation data", OSError, line_of(Broken.__getitem__)),
    "evaluate": ({"evaluate": broken_evaluate}, "evaluate", ValueError, line_of(broken_evaluate)),
}


@pytest.mark.parametrize("what", RAISES)
def test_what_raises_is_named_with_file_line_and_exception(what: str) -> None:
    changes, part, error, place = RAISES[what]
    with pytest.raises(TaskError) as raised:
        check(small_task(**changes))
    assert isinstance(raised.value.__cause__, error)
    message = str(raised.value)
    assert f"the task's {part} raised {type(raised.value.__cause__).__name__}" in message
    assert place in message
    assert raised.value.next_move


def test_a_loss_that_ends_the_program_is_named() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        raise SystemExit(7)

    with pytest.raises(TaskError, match=r"loss ended the program, by sys\.exit\(7\)") as raised:
        check(small_task(loss=loss))
    assert line_of(loss) in str(raised.value)


def test_what_raises_in_a_worker_is_named() -> None:
    with pytest.raises(TaskError, match="the disk is gone") as raised:
        check(small_task(train=DataLoader(Broken(), num_workers=1)))
    assert line_of(Broken.__getitem__) in raised.value.cause.splitlines()[1]
    assert raised.value.cause.splitlines()[0].endswith("raised OSError: the disk is gone")  # none of torch's own words


class BrokenRow(Dataset[Any]):
    """Its fault is in the second batch: `check` reads the first alone."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        if i == 10:
            raise KeyError("row 10")
        return torch.ones(5), i % 3


def test_a_broken_row_is_a_fault_of_the_data_whoever_reads_it() -> None:
    prepared = Prepared(small_task(train=DataLoader(BrokenRow(), batch_size=10), val=None), CPU)
    for read in (prepared.check, lambda seed: prepared.find_nan(seed, -1, 5)):
        with pytest.raises(TaskError, match="the task's training data raised KeyError: 'row 10'"):
            read(0)


@pytest.mark.parametrize("name", ["loop", "lanes"])
def test_what_raises_while_training_is_named_too(name: str) -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        if len(batch[0]) < 10:  # the last batch
            raise ZeroDivisionError("too few")
        return cross_entropy(model, batch)

    task = small_task(loss=loss, val=None, horizon=4)
    check(task)
    with pytest.raises(TaskError, match=r"the task's loss raised ZeroDivisionError: too few") as raised:
        engine(name, task).train(lanes_of([0.01]), 10, 0, lambda *_: None)
    assert line_of(loss, 2) in str(raised.value)


def test_a_loss_that_is_not_finite_at_the_start_has_no_answer() -> None:
    with pytest.raises(NoAnswer, match="the loss is inf at the start"):
        check(small_task(loss=lambda m, b: cross_entropy(m, b) / 0))
    with pytest.raises(NoAnswer, match="the judged loss is nan at the start"):
        check(small_task(evaluate=lambda m: math.nan))


def test_a_schedule_that_raises_at_a_step_is_named() -> None:
    with pytest.raises(ScheduleError, match="raised ZeroDivisionError at step 5") as raised:
        check(small_task(schedule=lambda t: 1 / (t - 5)))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_nan_later_in_the_data_is_found() -> None:
    (a, y), *others = batches("linear")
    bad = a.clone()
    bad[0, 0] = math.inf
    prepared = Prepared(small_task(train=[(a, y), *others[:1], (bad, y)]), CPU)
    assert "training batch 2" in str(prepared.find_nan(0, 0, 10))
    assert prepared.find_nan(0, 0, 2) is None


def test_good_tasks_pass() -> None:
    check(small_task())
    check(small_task(horizon="3ep"))
    check(small_task(loss=lambda m, b: cross_entropy(m, b).reshape(1)))
    check(small_task(optimizer=lambda ps, lr: torch.optim.SGD(ps, lr=lr), model=mlp()))
    check(small_task(params=lambda m: m.named_parameters()))
    check(small_task(params=lambda m: [{"params": m.named_parameters(), "lr_scale": 0.5}]))
    scaled = lambda ps, lr: torch.optim.SGD([{"params": list(ps), "lr_scale": 0.1, "lr": 0.1 * lr}], lr=lr)  # noqa: E731
    check(small_task(optimizer=scaled))
    frozen = mlp().requires_grad_(False)
    check(small_task(model=lambda: nn.Sequential(frozen, nn.Linear(3, 3))))


def test_a_loss_may_take_gradients_itself() -> None:
    """A gradient penalty, as physics-informed networks have: `vmap` refuses it, and the loop must take it."""

    def penalty(model: nn.Module, batch: Any) -> Tensor:
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return (slope - 1).square().mean()

    changes: list[dict[str, Any]] = [{}, {"val": None}]
    changes.append({"evaluate": lambda model: penalty(model, batches("linear", n=1)[0]).item()})
    for change in changes:
        task = small_task(model=within(nn.Tanh())["model"], loss=penalty, **change)
        check(task)
        curve = engine("loop", task).train(lanes_of([0.1]), 60, 0, lambda *_: None).curves[0]
        assert curve.loss < 0.9 * curve.train[0][1]
        assert refusal(Prepared(task, CPU), 0) is not None
