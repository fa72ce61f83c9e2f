"""Rewinding is exact: training on from a snapshot is the training that went on from it, to the bit."""

from __future__ import annotations

import copy
import io
import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dadaptation
import hypothesis.strategies as st
import numpy as np
import prodigyopt
import pytest
import schedulefree
import torch
from hypothesis import given, settings
from torch import Tensor, nn

import etascope as eta
from etascope.errors import EngineError, OptionError, RecordError
from etascope.watching import filing
from etascope.watching.snapshots import Ring
from etascope.watching.subject import Subject

Optimizers = Callable[[Any], Any]


def net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def batches(n: int, seed: int = 1) -> list[Tensor]:
    return list(torch.randn(n, 16, 5, generator=torch.Generator().manual_seed(seed)))


def train(model: nn.Module, optimizer: Any, data: Sequence[Tensor], scaler: Any = None) -> list[float]:
    losses = []
    for batch in data:
        optimizer.zero_grad()
        loss = model(batch).float().square().mean()
        losses.append(loss.item())
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    return losses


def bits(value: Any) -> Any:
    """Nested data with every tensor and float as its bytes."""
    if isinstance(value, Tensor):
        dense = torch.view_as_real(value.detach()) if value.is_complex() else value.detach()
        dense = dense.clone(memory_format=torch.contiguous_format).reshape(-1)
        return str(value.dtype), tuple(value.shape), dense.view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items() if k not in ("params", "param_names")}
    if isinstance(value, list | tuple):
        return type(value), [bits(v) for v in value]
    return value.hex() if isinstance(value, float) else value


def everything(model: nn.Module, optimizer: Any, scaler: Any = None) -> Any:
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    state = [bits(optimizer.state[p]) if p in optimizer.state else None for p in model.parameters()]
    return bits(tensors), state, [bits(g) for g in optimizer.param_groups], scaler and scaler.state_dict()


OPTIMIZERS: dict[str, Optimizers] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.01, fused=True),
    "adam tensor lr": lambda p: torch.optim.AdamW(p, lr=torch.tensor(0.01)),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.01, t0=2),
    "lbfgs": lambda p: torch.optim.LBFGS(p, lr=0.1, history_size=3),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01),
    "schedulefree": lambda p: schedulefree.AdamWScheduleFree(p, lr=0.01, warmup_steps=3),
    "schedulefree wrapper": lambda p: schedulefree.ScheduleFreeWrapper(
        torch.optim.SGD(p, lr=0.01, momentum=0.5), momentum=0.9
    ),
    "prodigy": lambda p: prodigyopt.Prodigy(list(p), lr=1.0, slice_p=3, safeguard_warmup=True),
    "dadapt adam": lambda p: dadaptation.DAdaptAdam(p, lr=1.0),
    "dadapt sgd": lambda p: dadaptation.DAdaptSGD(p, lr=1.0, momentum=0.9),
    "dadapt adagrad": lambda p: dadaptation.DAdaptAdaGrad(p, lr=1.0),
}


def made(name: str, model: nn.Module) -> Any:
    torch.manual_seed(0)
    optimizer = OPTIMIZERS[name](model.parameters())
    if hasattr(optimizer, "train"):
        optimizer.train()
    if name == "lbfgs":
        step = optimizer.step
        optimizer.step = lambda: step(lambda: sum(p.square().sum() for p in model.parameters()))
    return optimizer


@pytest.mark.parametrize(("before", "disk"), [(0, False), (5, False), (5, True)], ids=["start", "memory", "disk"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_on_from_a_rewind_is_training_on_from_the_snapshot(
    name: str, before: int, disk: bool, tmp_path: Path
) -> None:
    # steps    0 ......... before ........ before + 7
    #                      take            rewind -> the same 7 again
    data = batches(before + 7)
    model = net()
    optimizer = made(name, model)
    train(model, optimizer, data[:before])
    ring = Ring(Subject(model, optimizer), healthy=0, folder=tmp_path if disk else None)
    at_snapshot = everything(model, optimizer)
    assert ring.take(before, {"factors": [0.1, math.nan]})
    losses = train(model, optimizer, data[before:])
    at_end = everything(model, optimizer)
    ring.confirm(before + 7)
    ring.wait()
    assert at_end != at_snapshot
    pointers = [t.data_ptr() for t in [*model.parameters(), *model.buffers()]]
    random_states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    step, extra = ring.rewind()
    assert (step, list(extra), extra["factors"][0]) == (before, ["factors"], 0.1)
    assert everything(model, optimizer) == at_snapshot
    assert pointers == [t.data_ptr() for t in [*model.parameters(), *model.buffers()]]
    assert torch.equal(random_states[0], torch.get_rng_state())
    assert random_states[1:] == (random.getstate(), str(np.random.get_state()))
    assert bits(train(model, optimizer, data[before:])) == bits(losses)
    assert everything(model, optimizer) == at_end
    ring.rewind()  # the snapshot was not changed by going on
    assert everything(model, optimizer) == at_snapshot


def test_the_gradient_scaler_is_rewound() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    data = batches(12)
    for before in (0, 5):  # before its first step, it has no tensors yet
        train(model, optimizer, data[:before], scaler)
        ring = Ring(Subject(model, optimizer, scaler), healthy=0)
        then = everything(model, optimizer, scaler)
        ring.take(before)
        ring.confirm(before)
        losses = train(model, optimizer, data[before:], scaler)
        end = everything(model, optimizer, scaler)
        assert end[-1] != then[-1]
        ring.rewind()
        assert everything(model, optimizer, scaler) == then
        assert train(model, optimizer, data[before:], scaler) == losses
        assert everything(model, optimizer, scaler) == end
        ring.rewind()


def test_the_schedule_goes_on() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = eta.attach(eta.cosine(), optimizer, horizon=20)
    train(model, optimizer, batches(3))
    ring = Ring(Subject(model, optimizer), healthy=0)
    ring.take(3)
    ring.confirm(3)
    train(model, optimizer, batches(4))
    lr = handle.lrs
    ring.rewind(leave={"lr"})
    assert handle.step == 7 and handle.lrs == lr and handle.peaks == [0.1]
    ring.rewind()
    assert handle.lrs != lr


class Odd(nn.Module):
    """What models may hold."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        flat = torch.randn(12)
        self.a = nn.Parameter(flat[:6].view(2, 3))  # views of one tensor
        self.b = nn.Parameter(flat[6:].view(2, 3))
        self.tied = self.a
        self.short = nn.Parameter(torch.randn(4, dtype=torch.bfloat16))
        self.phase = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.turned = nn.Parameter(torch.randn(3, 2).t())
        self.base = nn.Parameter(torch.randn(7), requires_grad=False)
        self.register_parameter("none", None)
        self.register_buffer("gone", None)
        self.register_buffer("count", torch.tensor(0), persistent=False)
        self.register_buffer("wide", torch.randn(1, 3).expand(4, 3))
        self.register_buffer("average", torch.zeros(3))
        self.register_buffer("last", torch.zeros(16, 5))
        self.register_buffer("nowhere", torch.zeros(2, device="meta"))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.average = 0.9 * self.average + 0.1 * x[0, :3]
        self.last = x
        out: Tensor = (x[:, :2] @ (self.a + self.b + self.turned)) * self.short.float().sum() * self.base.sum() * 0.1
        return out + self.phase.abs() + self.wide[0] + self.average


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
def test_odd_models_are_rewound(disk: bool, tmp_path: Path) -> None:
    model, loss_scale = Odd(), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([*[p for p in model.parameters() if p.requires_grad], loss_scale], lr=0.01)
    loss_scale.grad = torch.ones(2)
    ring = Ring(Subject(model, optimizer), healthy=0, folder=tmp_path if disk else None)
    data = batches(9)
    model.register_buffer("cache", None)
    train(model, optimizer, data[:2])

    def now() -> Any:
        tensors = dict([*model.named_parameters(), *model.named_buffers()])
        del tensors["nowhere"]
        return bits(tensors), bits(loss_scale), bits(list(optimizer.state.values()))

    then = now()
    ring.take(2)
    ring.confirm(2)
    kept = [batch.clone() for batch in data]
    loss_scale.grad = torch.ones(2)
    losses = train(model, optimizer, data[2:])
    loss_scale.data.add_(1)
    model.wide[:1].add_(1)
    model.cache = torch.ones(3)
    model.base.data.add_(1)
    ring.wait()
    ring.rewind()
    assert model.cache is None and model.gone is None and model.tied is model.a
    assert now() == then
    assert all(map(torch.equal, data, kept))  # the model's own buffer was a batch
    assert train(model, optimizer, data[2:]) == losses


def test_frozen_parameters_are_cloned_once_until_one_moves(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(100, 100), nn.Linear(100, 2))
    model[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.1)
    for folder in (None, tmp_path):
        subject = Subject(model, optimizer)
        ring = Ring(subject, keep=3, healthy=0, folder=folder)
        for step in range(3):
            ring.take(step)
            ring.confirm(step)
        states = [ring._state_of(s) for s in ring._snapshots]
        assert [s.nbytes for s in states] == [4 * 202] * 3
        if folder is None:
            assert states[0].frozen is states[2].frozen and states[0].frozen_nbytes == 4 * 10_100
            assert subject.nbytes() == (808, 40_400)
        else:
            ring.wait()
            assert len(list(folder.glob("frozen-*"))) == 1
    # a target network: updated in a way that torch does not count, which the fourth capture sees
    before = model[0].weight.clone()
    model[0].weight.data.add_(1)
    ring.take(3)
    ring.confirm(3)
    model[0].weight.data.add_(1)
    ring.rewind()
    assert torch.equal(model[0].weight, before + 1)
    ring.rewind(back=1)
    assert torch.equal(model[0].weight, before)


def test_parameters_can_be_frozen_and_thawed_on_the_way() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    others = torch.optim.SGD(model[3].parameters(), lr=0.1)
    ring = Ring(Subject(model, others), keep=9, healthy=0)
    seen = []
    for step, trains in enumerate([True, False, False, True, False]):
        model[0].requires_grad_(trains)
        train(model, optimizer, batches(2, seed=step))
        seen.append([p.detach().clone() for p in model.parameters()])
        turn(ring, step)
    model.double()
    for _ in range(5):
        ring.rewind()
        assert all(map(torch.equal, model.float().parameters(), seen.pop()))
        ring._drop(ring._snapshots[-1])


def test_other_parameters_are_refused_and_nothing_is_changed() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    ring = Ring(Subject(model, optimizer), healthy=0)
    ring.take(0)
    ring.confirm(0)
    train(model, optimizer, batches(2))
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    then = everything(model, optimizer)
    with pytest.raises(EngineError, match=r"The optimizer has 2 param groups of 6, 1 tensors now, and 1 .* of 6"):
        ring.rewind()
    model.add_module("more", nn.Linear(3, 3))
    with pytest.raises(
        EngineError, match=r"has the parameter 'more.bias', which the snapshot lacks. Nothing"
    ) as caught:
        ring.rewind()
    assert "Begin the watch anew" in caught.value.next_move
    del model.more
    assert everything(model, optimizer) == then and ring.good == (0,)


def test_a_lazy_module_and_foreign_state_are_refused() -> None:
    lazy = nn.LazyLinear(3)
    with pytest.raises(OptionError, match="Run a batch"):
        Subject(lazy, torch.optim.SGD([torch.ones(1)], lr=0.1)).capture()
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    optimizer.state[torch.ones(2)] = {"step": 1}
    with pytest.raises(OptionError, match="none of its param groups"):
        Subject(model, optimizer).capture()


def test_memory_is_used_again_but_not_that_of_a_checkpoint() -> None:
    model = nn.Linear(200, 200)  # large enough for it
    ring = Ring(Subject(model, torch.optim.SGD(model.parameters(), lr=0.1)), keep=1, healthy=0)
    pointers = []
    for step in range(6):
        with torch.no_grad():
            model.weight.fill_(step)
        turn(ring, step)
        pointers.append(ring._snapshots[-1].state.tensors["model0..weight"].data_ptr())  # type: ignore[union-attr]
    assert len(set(pointers)) == 2
    saved = ring.state_dict()
    for step in range(6, 10):
        with torch.no_grad():
            model.weight.fill_(step)
        turn(ring, step)
    assert (saved["snapshots"][0]["tensors"]["model0..weight"] == 5).all()
    assert ring.rewind()[0] == 9 and (model.weight == 9).all()


# the ring

Turn = tuple[str, int]
turns = st.lists(
    st.tuples(st.sampled_from(["step", "step", "step", "take", "take", "doubt", "rewind"]), st.integers(0, 2)),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(turns=turns, keep=st.integers(1, 3), healthy=st.integers(0, 4))
def test_a_ring_keeps_its_laws(turns: list[Turn], keep: int, healthy: int) -> None:
    model = nn.Linear(1, 1)
    ring = Ring(Subject(model, torch.optim.SGD(model.parameters(), lr=0.1)), keep, healthy)
    step, last = 0, -1
    trial: int | None = None
    good: list[int] = []
    for turn, back in turns:
        if turn == "step":
            step += 1
            ring.confirm(step)
            if trial is not None and trial <= step - healthy:
                good, trial = [*good, trial][-keep:], None
        elif turn == "take" and step > last:
            with torch.no_grad():
                model.weight.fill_(step)
            assert ring.take(step, {"step": step}) == (trial is None)
            trial = step if trial is None else trial
        elif turn == "doubt":
            ring.doubt()
            trial = None
        elif turn == "rewind" and back < len(good):
            to = good[-1 - back]
            assert ring.rewind(back) == (to, {"step": to})
            assert model.weight.item() == to
            good, trial, step = good[: len(good) - back], None, to
        elif turn == "rewind":
            with pytest.raises(OptionError, match="no good snapshot"):
                ring.rewind(back)
        last = max([*good, -1 if trial is None else trial, -1])
        assert ring.good == tuple(good) and ring.on_trial == trial and len(good) <= keep


def small(folder: Path | None = None, **options: Any) -> tuple[nn.Linear, Ring]:
    model = nn.Linear(10, 10)  # 440 bytes
    return model, Ring(Subject(model, torch.optim.SGD(model.parameters(), lr=0.1)), healthy=0, folder=folder, **options)


def turn(ring: Ring, *steps: int) -> None:
    for step in steps:
        ring.take(step)
        ring.confirm(step)


def test_the_limit_keeps_fewer_or_refuses() -> None:
    _, ring = small(keep=5, limit_bytes=440 * 3)
    turn(ring, 0, 1, 2, 3)
    assert ring.keep == 2 and ring.good == (2, 3)
    _, ring = small(limit_bytes=879)
    with pytest.raises(OptionError, match=r"limit_bytes=879.* 880 bytes") as caught:
        ring.take(0)
    assert "folder=" in caught.value.next_move
    # What grows later must not stop a run.
    model = nn.Linear(10, 10)
    optimizer = torch.optim.Adam(model.parameters())
    ring = Ring(Subject(model, optimizer), healthy=0, limit_bytes=1000)
    turn(ring, 0)
    model(torch.ones(10)).sum().backward()
    optimizer.step()
    turn(ring, 1)
    assert ring.good == (0,) and "limit_bytes=1,000" in ring.fault
    with pytest.raises(OptionError, match="keep is 0"):
        small(keep=0)


def test_files_are_removed_as_the_ring_turns_but_for_those_that_a_checkpoint_names(tmp_path: Path) -> None:
    _, ring = small(tmp_path)
    turn(ring, 0, 1, 2)
    ring.wait()
    assert all(s.state is None for s in ring._snapshots)
    assert len(list(tmp_path.iterdir())) == 4
    saved = ring.state_dict()
    assert json.loads(json.dumps(saved)) == saved
    turn(ring, 3, 4, 5)
    ring.wait()
    assert len(list(tmp_path.iterdir())) == 8
    _, other = small(tmp_path)
    other.load_state_dict(saved)
    assert other.good == (1, 2)
    ring.state_dict()
    assert len(list(tmp_path.iterdir())) == 4
    with pytest.raises(RecordError, match="cannot read the snapshot"):
        other.rewind()
    _, third = small(tmp_path)
    third.load_state_dict(saved)
    assert third.good == () and "step 2 is lost" in third.fault


@pytest.mark.parametrize("gone", ["snapshot-*.json", "snapshot-*.safetensors", "frozen-*"])
def test_snapshots_whose_files_are_gone_do_not_count(gone: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    ring = Ring(Subject(model, torch.optim.SGD(model[1].parameters(), lr=0.1)), healthy=0, folder=tmp_path)
    turn(ring, 0, 1)
    ring.wait()
    ring.look()
    assert ring.good == (0, 1) and not ring.fault
    for file in tmp_path.glob(gone):
        file.unlink()
    ring.look()
    assert ring.good == () and f"its files in {tmp_path} are gone" in ring.fault
    turn(ring, 2)  # writes what is shared anew
    ring.wait()
    assert ring.good == (2,) and ring.rewind() == (2, {})


def test_at_the_end_files_go_that_no_checkpoint_names(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[0].requires_grad_(False)
    subject = Subject(model, torch.optim.SGD(model[1].parameters(), lr=0.1))
    for saves in (False, True):
        ring = Ring(subject, healthy=0, folder=tmp_path)
        turn(ring, 0, 1)
        saved = ring.state_dict() if saves else {}
        turn(ring, 2)
        ring.close()
        assert len(list(tmp_path.iterdir())) == 5 * saves  # two snapshots, and what they share
    assert ring.good == (1,) and [s["step"] for s in ring.state_dict()["snapshots"]] == [1]
    other = Ring(subject, healthy=0, folder=tmp_path)
    other.load_state_dict({**saved, "snapshots": saved["snapshots"][1:]})
    assert other.rewind() == (1, {})


def test_what_cannot_be_written_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, ring = small(tmp_path)
    turn(ring, 0)
    ring.wait()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(filing, "save_file", full)
        turn(ring, 1)
        ring.wait()
    assert ring.good == (0,) and "step 1 is lost" in ring.fault and "No space left" in ring.fault
    assert len(list(tmp_path.iterdir())) == 2
    assert ring.rewind() == (0, {})
    turn(ring, 2)
    ring.wait()
    assert ring.good == (0, 2)
    _, ring = small(tmp_path / "a file" / "within")
    (tmp_path / "a file").touch()
    turn(ring, 0)
    ring.wait()
    assert ring.good == () and "is a file, not a folder" in ring.fault


@pytest.mark.parametrize("of", ["memory", "disk"])
@pytest.mark.parametrize("into", ["memory", "disk"])
def test_a_saved_ring_goes_on_in_another_process(of: str, into: str, tmp_path: Path) -> None:
    folders = {"memory": None, "disk": tmp_path}
    model = net()
    optimizer = made("prodigy", model)
    model[3].requires_grad_(False)
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:4]
    ring = Ring(Subject(model, optimizer), healthy=2, folder=folders[of])
    train(model, optimizer, batches(3))
    ring.take(3, {"factor": 0.5})
    ring.confirm(5)
    then = everything(model, optimizer)
    train(model, optimizer, batches(3))
    ring.take(6)
    checkpoint = io.BytesIO()
    torch.save((ring.state_dict(), model.state_dict(), optimizer.state_dict()), checkpoint)
    assert ring.state_dict(tensors=False)["snapshots"] == ([] if of == "memory" else ring.state_dict()["snapshots"])
    ring.state_dict()
    checkpoint.seek(0)
    saved, of_model, of_optimizer = torch.load(checkpoint, weights_only=True)

    model = net(seed=1)
    model[3].requires_grad_(False)
    optimizer = made("prodigy", model)
    optimizer.param_groups[0]["params"] = optimizer.param_groups[0]["params"][:4]
    model.load_state_dict(of_model)
    optimizer.load_state_dict(of_optimizer)
    ring = Ring(Subject(model, optimizer), healthy=2, folder=folders[into])
    ring.load_state_dict(saved)
    assert ring.good == (3,) and ring.on_trial == 6 and not ring.fault
    before = copy.deepcopy(saved)
    assert ring.rewind() == (3, {"factor": 0.5})
    assert everything(model, optimizer) == then
    assert bits(before) == bits(saved)
    ring.take(7)
    ring.confirm(9)
    assert ring.good == (3, 7)
    with pytest.raises(RecordError, match=r"reads 'etascope.ring/1'"):
        ring.load_state_dict({})
