"""What the user gives is the same to the bit afterwards (M2), also when training raises or is interrupted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_tasks import convnet, cross_entropy, engine, lanes_of, small_task
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset, WeightedRandomSampler

from etascope.engines import randomness
from etascope.engines.randomness import seed_all, start_cuda, undisturbed
from etascope.engines.refusals import refusal
from etascope.errors import TaskError
from etascope.task import Task


class Shuffled(Sampler[int]):
    """A sampler with a generator and a NumPy generator of its own."""

    def __init__(self, n: int) -> None:
        self.n, self.own = n, np.random.default_rng(5)
        self.generator = torch.Generator().manual_seed(5)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        shift = int(self.own.integers(self.n))
        yield from ((i + shift) % self.n for i in torch.randperm(self.n, generator=self.generator).tolist())


def dataset() -> TensorDataset:
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.flatten(1)[:, :3].argmax(1))


def weighted(generator: torch.Generator | None) -> WeightedRandomSampler:
    return WeightedRandomSampler(torch.linspace(1, 2, 24), 24, generator=generator)


LOADERS: dict[str, Callable[[], DataLoader[Any]]] = {
    "generator": lambda: DataLoader(dataset(), batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(7)),
    "no generator": lambda: DataLoader(dataset(), batch_size=6, shuffle=True),
    "weighted": lambda: DataLoader(dataset(), batch_size=6, sampler=weighted(torch.Generator().manual_seed(7))),
    "weighted without": lambda: DataLoader(dataset(), batch_size=6, sampler=weighted(None)),
    "own sampler": lambda: DataLoader(dataset(), batch_size=6, sampler=Shuffled(24)),
}


class Given:
    """What a user gives, and has around it; the same at every making, so that one is the other's truth."""

    def __init__(self, loader: str = "generator") -> None:
        torch.manual_seed(11)
        self.model = convnet()
        self.model[2].eval()
        self.model[0].weight.requires_grad_(False)
        self.loader = LOADERS[loader]()
        self.val = LOADERS["generator"]()
        self.epoch = iter(LOADERS["generator"]())  # a reading that the user began
        next(self.epoch)
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)

    def task(self, **changes: Any) -> Task:
        return small_task("conv-bn", model=self.model, train=self.loader, val=self.val, **changes)

    def state(self) -> dict[str, Any]:
        """Everything that must not move; reading the loaders comes last, since that moves them."""
        out: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": [x.tolist() if isinstance(x, np.ndarray) else x for x in np.random.get_state()],
            "torch": torch.get_rng_state(),
            "threads": torch.get_num_threads(),
            "grad mode": torch.is_grad_enabled(),
            "denormals": float(torch.tensor(1e-39) * 1.0),
            "tensors": {k: v.clone() for k, v in self.model.state_dict().items()},
            "grads": [q.grad for q in self.model.parameters()],
            "requires grad": [q.requires_grad for q in self.model.parameters()],
            "training": [m.training for m in self.model.modules()],
        }
        if self.loader.generator is not None:
            out["generator"] = self.loader.generator.get_state()
        return out | {"next": list(self.loader), "rest": list(self.epoch), "val": list(self.val)}


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def work(name: str, task: Task) -> None:
    with undisturbed():
        own = engine(name, task)
        own.prepared.check(0)
        own.facts(0)
        refusal(own.prepared, 0)
        for unit in own.units(lanes_of([0.01, 0.1]) + lanes_of([0.05], seed=1)):
            own.train(unit, 8, 0, lambda *_: None)


@pytest.mark.parametrize("name", ["loop", "lanes"])
@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_moves(name: str, loader: str) -> None:
    truth = Given(loader).state()
    given = Given(loader)
    work(name, given.task())
    found = given.state()
    assert [k for k in truth if not equal(found[k], truth[k])] == []


@pytest.mark.parametrize("name", ["loop", "lanes"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", [1, 4, 9, 14])
def test_nothing_moves_when_it_is_cut_short(name: str, error: type[BaseException], call: int) -> None:
    calls = 0

    def loss(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls += 1
        torch.rand(3), np.random.rand(3), random.random()
        if calls >= call:
            raise error("enough")
        return cross_entropy(model, batch)

    truth = Given().state()
    given = Given()
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else TaskError) as raised:
        work(name, given.task(loss=loss))
    if error is not KeyboardInterrupt:
        assert isinstance(raised.value.__cause__, error)
    found = given.state()
    assert [k for k in truth if not equal(found[k], truth[k])] == []


def test_a_loss_that_reaches_for_the_model_outside_leaves_no_gradient() -> None:
    truth = Given().state()
    given = Given()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, batch) + cross_entropy(given.model, batch)

    with pytest.raises(TaskError, match="from outside"), undisturbed():
        engine("loop", given.task(loss=loss)).prepared.check(0)
    found = given.state()
    assert [k for k in truth if not equal(found[k], truth[k])] == []


@pytest.mark.parametrize("raises", [False, True])
def test_modes_and_threads_are_given_back(raises: bool) -> None:
    for flush in (True, False):
        torch.set_flush_denormal(flush)
        with torch.no_grad():
            threads = torch.get_num_threads()
            try:
                with undisturbed():
                    assert torch.is_grad_enabled()
                    assert torch.tensor(1e-39) * 1.0 == 0
                    torch.set_num_threads(threads + 1)
                    if raises:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                assert raises
            assert torch.get_num_threads() == threads
            assert not torch.is_grad_enabled()
            assert bool(torch.tensor(1e-39) * 1.0 == 0) is flush


def test_a_seed_that_waits_for_cuda_stays_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before CUDA is started, torch queues one seed for it, the last one given."""
    queued: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", queued.append)
    torch.manual_seed(7)
    with undisturbed():
        work("loop", small_task())
    assert queued == [7]


def test_cuda_started_inside_is_given_back_as_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device is asked for inside the border, and the user's seed comes into force when CUDA starts."""
    generator = torch.Generator()
    started: list[bool] = []

    def start() -> None:
        started.append(True)
        generator.manual_seed(7)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: bool(started))
    monkeypatch.setattr(torch.cuda, "init", start)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", generator.manual_seed)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [generator.get_state()])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda states: generator.set_state(states[0]))
    monkeypatch.setattr(randomness, "_cuda_at_start", [])
    for _ in range(2):
        with undisturbed():
            start_cuda()
            seed_all("anything")
        assert generator.initial_seed() == 7
        assert torch.equal(generator.get_state(), torch.Generator().manual_seed(7).get_state())
    assert len(started) == 1


def test_denormals_are_given_back_under_another_default_dtype() -> None:
    torch.set_flush_denormal(True)
    torch.set_default_dtype(torch.float64)
    try:
        with undisturbed():
            pass
    finally:
        torch.set_default_dtype(torch.float32)
    try:
        assert torch.tensor(1e-39) * 1.0 == 0
    finally:
        torch.set_flush_denormal(False)


def test_the_users_grads_stay() -> None:
    given = Given()
    cross_entropy(given.model, next(iter(given.val))).backward()
    before = [q.grad for q in given.model.parameters()]
    copies = [None if g is None else g.clone() for g in before]
    work("lanes", given.task())
    after = [q.grad for q in given.model.parameters()]
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert equal(after, copies)
