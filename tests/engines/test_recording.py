"""Recordings do what the function does, to the bit; what they cannot say is refused; what they miss is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import CPU, KINDS, cross_entropy, lanes_of, small_task
from torch import Tensor, nn
from torch.nn import functional as F

from etascope.engines import Prepared, Setting
from etascope.engines.lanes import Lanes
from etascope.engines.loop import Loop
from etascope.engines.recording import NotRecorded, record
from etascope.engines.replay import Drifted, Memory, Replay
from etascope.engines.stack import Stack
from etascope.errors import TaskError
from etascope.records import Engine as Ran

Program = list[tuple[str, int, int]]
SIDE = 3  # all tensors of random programs are of this many rows and columns


def square(seed: int) -> Tensor:
    return torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda a, b: a + b,
    "twice": lambda a, b: torch.add(a, b, alpha=2),
    "mul": lambda a, b: a * b,
    "sub": lambda a, b: a - b,
    "by one": lambda a, b: a * 1,
    "square": lambda a, b: a * a,
    "tanh": lambda a, b: a.tanh(),
    "relu": lambda a, b: a.relu(),
    "relu's gradient": lambda a, b: torch.ops.aten.threshold_backward(a, b, 0),
    "transpose": lambda a, b: a.t(),
    "same view": lambda a, b: a.view(SIDE, SIDE),
    "clone": lambda a, b: a.clone(),
    "contiguous": lambda a, b: a.contiguous(),
    "matmul": lambda a, b: a @ b,
    "row": lambda a, b: a[:1] + b,
    "expand": lambda a, b: a[:1].expand(SIDE, SIDE),
    "halves": lambda a, b: torch.cat(torch.split(a, 2)) + b,
    "write": lambda a, b: a.add_(b) if not _overlaps(a) else a,
    "write a row": lambda a, b: (a if _overlaps(a) else a[:1].mul_(2), a)[1],
    "noise": lambda a, b: a + torch.rand(SIDE, SIDE),
    "dropout": lambda a, b: F.dropout(a, 0.5),
}


def _overlaps(a: Tensor) -> bool:
    return 0 in a.stride()


CAPTURED = square(99)  # had from elsewhere


def run(program: Program, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
    pool = [*stable, *fresh, CAPTURED]
    for name, i, j in program:
        pool.append(OPERATIONS[name](pool[i % len(pool)], pool[j % len(pool)]))
    return [torch.stack(pool).sum(0), pool[-1].clone()]


def inputs(seed: int) -> tuple[list[Tensor], list[Tensor]]:
    return [square(seed), square(seed + 1)], [square(seed + 2)]


STEP = st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 40), st.integers(0, 40))


@settings(max_examples=300)
@given(program=st.lists(STEP, min_size=1, max_size=12))
def test_any_program_is_replayed_to_the_bit_with_what_it_writes(program: Program) -> None:
    stable, fresh = inputs(0)
    CAPTURED.copy_(square(99))
    torch.manual_seed(0)
    first, recording = record(lambda s, f: run(program, s, f), stable, fresh)
    for seed in (0, 10, 20):
        (ours, ours_fresh), (truly, truly_fresh) = inputs(seed), inputs(seed)
        CAPTURED.copy_(square(99))
        for _ in range(2):  # the second time with stable tensors that it knows
            torch.manual_seed(seed)
            before = CAPTURED.clone()
            results = recording(ours, ours_fresh)
            written = CAPTURED.clone()
            CAPTURED.copy_(before)
            noise = torch.get_rng_state()
            torch.manual_seed(seed)
            truth = run(program, truly, truly_fresh)
            assert torch.equal(noise, torch.get_rng_state())
            assert torch.equal(written.nan_to_num(7.0), CAPTURED.nan_to_num(7.0))
            for a, b in zip([*results, *ours, *ours_fresh], [*truth, *truly, *truly_fresh], strict=True):
                assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
    for a, b in zip(first, run_anew(program), strict=True):
        assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))


def run_anew(program: Program) -> list[Tensor]:
    CAPTURED.copy_(square(99))
    torch.manual_seed(0)
    return run(program, *inputs(0))


def test_copies_dead_results_and_views_of_what_is_stable_are_left_out() -> None:
    def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        _ = stable[0].exp()  # nobody reads it
        return [(fresh[0].clone() @ stable[0].t().view(SIDE, SIDE) * 1).relu()]

    _, recording = record(function, [square(0)], [square(1)])
    assert recording.operations == 2  # the product, and relu over it
    assert torch.equal(recording([square(2)], [square(3)])[0], function([square(2)], [square(3)])[0])


class Wrapped(Tensor):
    pass


def packed(x: Tensor) -> Tensor:
    lengths = torch.tensor([3, 2, 1])
    sequence = nn.utils.rnn.pack_padded_sequence(x[:, :, None], lengths, batch_first=True)
    out: Tensor = nn.LSTM(1, 2)(sequence)[0].data
    return out


def test_a_lookup_by_numbers_is_recorded() -> None:
    numbers = torch.arange(SIDE)
    _, recording = record(lambda stable, fresh: [fresh[0][numbers, numbers]], [], [square(0)])
    assert torch.equal(recording([], [square(1)])[0], square(1).diagonal())


def test_what_is_given_twice_need_not_be_the_same_another_time() -> None:
    x, y = square(0), square(1)
    _, recording = record(lambda stable, fresh: [fresh[0] - fresh[1]], [], [x, x])
    assert torch.equal(recording([], [x, y])[0], x - y)


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a value": (lambda x: x * x.sum().item(), "_local_scalar_dense"),
    "a choice": (lambda x: x if x.sum() > 0 else -x, "_local_scalar_dense"),
    "a shape from values": (lambda x: x[x > 0].sum(), "depends on values"),
    "Python's randomness": (lambda x: x * random.random(), "Python's or NumPy's"),
    "NumPy's randomness": (lambda x: x * float(np.random.rand()), "Python's or NumPy's"),
    "a list": (lambda x: x * x[0].tolist()[0], r"tolist\(\)"),
    "an array": (lambda x: x * float(x.numpy()[0, 0]), r"numpy\(\)"),
    "a shape changed in place": (lambda x: x.clone().t_(), "shape in place"),
    "packed sequences": (packed, "depends on values|packed"),
    "a tensor of another kind": (lambda x: x.to_sparse().to_dense(), "layout"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_list_of_operations_can_say_is_refused(what: str) -> None:
    function, words = REFUSED[what]
    with pytest.raises(NotRecorded, match=words):
        record(lambda stable, fresh: [function(fresh[0])], [], [square(0)])


# -------------------------------------------------------------------------------------- in training


def curves(task: Any, *, replays: bool = True, steps: int = 60) -> Any:
    lanes = Lanes(Prepared(task, CPU), Ran("lanes", 3, 1, "cpu"))
    lanes._replays = replays
    return lanes.train(lanes_of([0.01, 0.03, 0.1]), steps, 0, lambda *_: None).curves


@pytest.mark.parametrize("kind", [*KINDS, "dropout"])
def test_replayed_training_is_the_same_to_the_bit(kind: str) -> None:
    assert curves(small_task(kind)) == curves(small_task(kind), replays=False)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "dropout"])
def test_steps_are_replayed_without_the_users_python(kind: str, alone: bool) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return cross_entropy(model, batch)

    lrs = [0.01] if alone else [0.01, 0.02]
    stack = Stack(Prepared(small_task(kind, loss=loss), CPU), lanes_of(lrs), alone=alone)
    batch = next(stack.batches(0))
    calls.clear()
    for t in range(30):
        stack.step([batch], 1.0, t)
    assert len(calls) == 4  # recorded, and compared at uses 1, 4, 16


def test_what_changes_outside_of_tensors_is_found_and_trained_again_without_recordings() -> None:
    def task() -> Any:
        calls = [0]

        def loss(model: nn.Module, batch: Any) -> Tensor:
            calls[0] += 1
            return cross_entropy(model, batch) * (1 + calls[0] % 2)

        return small_task("linear", loss=loss, val=None)

    prepared, told = Prepared(task(), CPU), list[int]()
    lanes = Lanes(prepared, Ran("lanes", 3, 1, "cpu"))
    found = lanes.train(lanes_of([0.01, 0.03, 0.1]), 30, 0, lambda *new: told.append(new[0])).curves
    assert not lanes._replays
    assert sum(told) == sum(c.trained for c in found) == 90
    values = [v for _, v in found[0].train]
    assert max(a / b for a, b in zip(values[1:], values, strict=False)) > 1.5  # the factor still alternates


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls, self.seen = nn.Linear(5, 3), 0, list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(self.calls)
        out: Tensor = self.net(x)
        return out


def test_a_module_that_counts_is_not_recorded_and_counts_each_step_once() -> None:
    stack = Stack(Prepared(small_task(model=Counts), CPU), lanes_of([0.01, 0.02]))
    batch, model = next(stack.batches(0)), stack.objective.model
    assert isinstance(model, Counts)
    for t in range(5):
        stack.step([batch], 1.0, t)
    assert model.calls == 5
    assert model.seen == [1, 2, 3, 4, 5]


def test_memory_is_put_back() -> None:
    model = Counts()
    before = Memory([model])
    assert not before.has_changed()
    model(torch.zeros(1, 5))
    model.note = "new"  # type: ignore[assignment]
    assert before.has_changed()
    before.restore()
    assert not before.has_changed()
    assert (model.calls, model.seen, hasattr(model, "note")) == (0, [], False)


def test_a_batch_that_raises_names_the_users_line_though_replayed() -> None:
    good, bad = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 99])
    data = [(good, torch.zeros(3).long())] * 5 + [(bad, torch.zeros(3).long())]
    task = small_task(model=lambda: nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)), train=data, val=None)
    with pytest.raises(TaskError, match=r"IndexError: index out of range.*\n.* at .*\.py"):
        curves(task, steps=10)


def test_each_shape_of_a_batch_has_its_recording_up_to_a_few() -> None:
    data = [(torch.randn(n, 5), torch.zeros(n).long()) for n in range(2, 9)]
    task = small_task("linear", train=data, val=None)
    stack = Stack(Prepared(task, CPU), lanes_of([0.01, 0.02]))
    stream = stack.batches(0)
    for t in range(14):
        stack.step([next(stream)], 1.0, t)
    assert stack.replay is not None
    assert len(stack.replay.known) == 4
    assert curves(task, steps=14) == curves(task, steps=14, replays=False)


class Factor:
    """A function that Python changes its mind about, and its replay."""

    def __init__(self) -> None:
        self.factor, self.calls = 1.0, 0
        self.replay = Replay(list, list, list, lambda saved: None)

    def __call__(self, x: Tensor, *, is_last: bool = False) -> float:
        def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
            self.calls += 1
            return [fresh[0] * self.factor]

        return float(self.replay(function, x, [], [x], is_last=is_last)[0][0])


def test_a_recording_is_compared_at_its_uses_1_4_16_and_so_on() -> None:
    f, x, called = Factor(), torch.ones(2), list[int]()
    for use in range(70):
        before = f.calls
        assert f(x) == 1.0
        called += [use] * (f.calls - before)
    assert called == [0, 1, 4, 16, 64]  # recorded, then compared
    f.factor = 1.001
    assert f(x) == 1.0
    with pytest.raises(Drifted):
        f(x, is_last=True)


def test_in_the_last_step_recordings_of_other_batches_are_compared_too() -> None:
    f, x, other = Factor(), torch.ones(2), torch.ones(3)
    for batch in (x, x, x, other, other):
        f(batch)
    f.factor = 2.0
    f.replay.known[1].recording = None  # the batch of the last step has none
    with pytest.raises(Drifted):
        f(other, is_last=True)


def test_what_cannot_be_replayed_is_called_from_then_on() -> None:
    f, x = Factor(), torch.ones(2)
    f(x)
    f.replay.known[0].recording = lambda stable, fresh: 1 / 0  # type: ignore[assignment, return-value]
    assert [f(x) for _ in range(3)] == [1.0] * 3
    assert f.replay.known[0].recording is None


@pytest.mark.parametrize("kind", [*KINDS, "dropout"])
def test_one_lane_at_a_time_is_the_loop(kind: str) -> None:
    task = small_task(kind, torch.float64)
    settings = [Setting(0, lr) for lr in (0.01, 0.1)]
    alone = Lanes(Prepared(task, CPU), Ran("lanes", 1, 1, "cpu"))
    loop = Loop(Prepared(task, CPU), Ran("loop", 1, 1, "cpu"))
    for s in settings:
        ours, theirs = (e.train([s], 50, 0, lambda *_: None).curves[0] for e in (alone, loop))
        for (_, a), (_, b) in zip(ours.train + ours.val, theirs.train + theirs.val, strict=True):
            assert a == pytest.approx(b, rel=1e-9)
