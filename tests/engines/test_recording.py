"""Recordings do what the function does, to the bit; what they cannot say is refused; what they miss is found."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tasks import CPU, KINDS, cross_entropy, lanes_of, setting, small_task
from torch import Tensor, nn
from torch.nn import functional as F

from etascope.engines import Prepared, Setting
from etascope.engines.lanes import Lanes
from etascope.engines.loop import Loop
from etascope.engines.recording import NotRecorded, record
from etascope.engines.replay import Drifted, Memory, Replay
from etascope.engines.stack import Stack
from etascope.engines.tape import Otherwise
from etascope.errors import TaskError
from etascope.records import Engine as Ran
from etascope.schedules import cosine

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
    "positions": lambda a, b: torch.arange(SIDE * SIDE, dtype=torch.float32).view(SIDE, SIDE),
    "zeros": lambda a, b: torch.zeros(SIDE, SIDE),
    "like": lambda a, b: torch.ones_like(a),
    "mean of pictures": lambda a, b: F.adaptive_avg_pool2d(pictures(a), 1)[0, 0, 0] + b,
    "transposed in place": lambda a, b: (a + b).t_(),
    "squeezed": lambda a, b: (a * 2).unsqueeze_(1).transpose_(0, 2).squeeze_(1),
    "restrided": lambda a, b: a.clone().as_strided_((SIDE, SIDE), (1, SIDE)),
    "choice": lambda a, b: a / 2 if a.sum() > 1 else a + 1,
}


def pictures(a: Tensor) -> Tensor:
    return a[None, None].expand(1, 2, SIDE, SIDE).contiguous(memory_format=torch.channels_last)


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


@settings(max_examples=500)
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
            try:
                results = recording(ours, ours_fresh)
            except Otherwise:
                assert any(name == "choice" for name, _, _ in program)
                CAPTURED.copy_(before)
                continue
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


def test_what_follows_from_nothing_may_be_asked_for_its_value_and_is_made_once() -> None:
    def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        seen = torch.arange(SIDE)[:, None] >= torch.arange(SIDE)
        assert seen.any(), "a branch on it"
        return [fresh[0].masked_fill(~seen[:, : int(seen.sum(1).max())], 0.0)]

    _, recording = record(function, [], [square(0)])
    assert recording.operations == 1
    for _ in range(2):
        assert torch.equal(recording([], [square(1)])[0], square(1).tril())


def test_a_tensor_of_its_own_that_changes_its_shape_in_place_is_recorded_as_a_view() -> None:
    def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        double = fresh[0] * 2
        row = double[0]
        double.as_strided_((SIDE,), (SIDE + 1,))  # the diagonal
        double += 1
        square = (fresh[0] + 1).t_()
        square[0] *= 3
        return [double.clone(), row, square.unsqueeze_(1).transpose_(0, 2).contiguous()]

    _, recording = record(function, [], [square(0)])
    for ours, truth in zip(recording([], [square(1)]), function([], [square(1)]), strict=True):
        assert torch.equal(ours, truth)
    with pytest.raises(NotRecorded, match="shape in place"):
        record(lambda stable, fresh: [fresh[0].as_strided_((1,), (1,))], [], [square(0)])


def test_a_stride_with_an_offset_is_taken_from_where_the_tensor_begins() -> None:
    def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        return [fresh[0][1].clone().as_strided_((2,), (1,), 0) * 2]

    _, recording = record(function, [], [square(0)])
    assert torch.equal(recording([], [square(1)])[0], function([], [square(1)])[0])


def test_a_result_that_follows_from_nothing_is_made_anew() -> None:
    _, recording = record(lambda stable, fresh: [torch.ones(2)], [], [])
    recording([], [])[0].mul_(3)
    assert torch.equal(recording([], [])[0], torch.ones(2))


def test_what_is_given_twice_need_not_be_the_same_another_time() -> None:
    x, y = square(0), square(1)
    _, recording = record(lambda stable, fresh: [fresh[0] - fresh[1]], [], [x, x])
    assert torch.equal(recording([], [x, y])[0], x - y)


def zeros_with(x: Tensor) -> Tensor:
    zeros = torch.zeros(SIDE, SIDE)
    zeros[0].copy_(x[0])
    return zeros


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a shape from values": (lambda x: x[x > 0].sum(), "depends on values"),
    "Python's randomness": (lambda x: x * random.random(), "Python's or NumPy's"),
    "NumPy's randomness": (lambda x: x * float(np.random.rand()), "Python's or NumPy's"),
    "a list": (lambda x: x * x[0].tolist()[0], r"tolist\(\)"),
    "an array": (lambda x: x * float(x.numpy()[0, 0]), r"numpy\(\)"),
    "a shape changed in place": (lambda x: x.clone().resize_(SIDE), "shape in place"),
    "a generator of its own": (lambda x: x + square(0), "generator"),
    "other data": (lambda x: with_data_of(x).sum() * x, "other data"),
    "a part of a memory": (lambda x: x.as_strided((1,), (1,), 2) * x, "begins"),
    "packed sequences": (packed, "depends on values|packed"),
    "a tensor of another kind": (lambda x: x.to_sparse().to_dense(), "layout"),
}


def with_data_of(x: Tensor) -> Tensor:
    zeros = torch.zeros(SIDE, SIDE)
    zeros.data = x.clone()
    return zeros


FIRST = square(0)
ASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "a value": lambda x: x * x.sum().item(),
    "a choice": lambda x: x if (x == FIRST).all() else -x,
    "what it wrote into zeros": lambda x: x * zeros_with(x).sum().item(),
    "noise": lambda x: x * torch.rand(1).item(),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_replay_looks_at_the_values_that_the_function_asks_for(what: str) -> None:
    torch.manual_seed(0)
    (truth,), recording = record(lambda stable, fresh: [ASKS[what](fresh[0])], [], [square(0)])
    torch.manual_seed(0)
    assert torch.equal(recording([], [square(0)])[0], truth)
    torch.manual_seed(1)
    with pytest.raises(Otherwise):
        recording([], [square(1)])


def test_nan_is_no_other_value_than_nan() -> None:
    nan = torch.full((SIDE,), torch.nan)
    _, recording = record(lambda stable, fresh: [fresh[0] * fresh[0][0].item()], [], [nan])
    assert recording([], [nan])[0].isnan().all()
    with pytest.raises(Otherwise):
        recording([], [torch.ones(SIDE)])


def test_where_a_value_is_another_the_function_is_called_and_the_recording_stays_unless_it_mostly_is() -> None:
    called = []

    def function(stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        called.append(1)
        noise = torch.rand(SIDE, SIDE)
        return [fresh[0] + noise if fresh[0].isfinite().all() else noise]

    def saved() -> list[Tensor]:
        return [torch.get_rng_state()]

    replay = Replay(list, list, saved, lambda before: torch.set_rng_state(before[0]), compared=frozenset())
    odd = torch.full((SIDE, SIDE), torch.inf)

    def calls_of(x: Tensor) -> int:
        called.clear()
        torch.manual_seed(0)
        found = replay(function, None, [], [x], is_last=False)
        count = len(called)
        torch.manual_seed(0)
        assert torch.equal(found[0], function([], [x])[0])
        return count

    assert [calls_of(x) for x in (square(0), square(1), odd, square(2))] == [1, 0, 1, 0]
    assert [calls_of(x) for x in (odd, odd, square(3))] == [1, 1, 1]  # more often another: it is let go


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


SECOND: dict[str, tuple[dict[str, Any], bool]] = {  # what the second unit has; whether recordings serve it
    "another lr": ({}, True),
    "the optimizer's options": ({"weight_decay": 0.1, "momentum": 0.5}, True),
    "a schedule": ({"schedule": cosine()}, True),
    "another seed": ({"seed": 1}, False),
    "a rate of dropout": ({"dropout": 0.2}, False),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("what", SECOND)
@pytest.mark.parametrize("kind", ["conv-bn", "dropout"])
def test_a_second_unit_is_trained_as_if_it_were_the_first(kind: str, what: str, count: int) -> None:
    calls = []

    def loss(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        return cross_entropy(model, batch)

    given, served = SECOND[what]
    options = dict(given)
    seed = options.pop("seed", 0)
    task = small_task(kind, loss=loss, val=None, train=small_task(kind).train[:1])  # one kind of batch
    ran = Ran("lanes", count, 1, "cpu")
    second = [setting(lr, seed, **options) for lr in (0.02, 0.05, 0.2)[:count]]
    used, fresh = (Lanes(Prepared(task, CPU), ran) for _ in range(2))
    used.train(lanes_of([0.01, 0.03, 0.1][:count]), 40, 0, lambda *_: None)
    calls.clear()
    ours = used.train(second, 40, 0, lambda *_: None).curves
    assert len(calls) == 1 if served else len(calls) > 2, len(calls)  # the last step is compared
    assert ours == fresh.train(second, 40, 0, lambda *_: None).curves


class Changes(nn.Linear):
    """A model that a rare batch, or an evaluation, changes in ways that are no lane's own."""

    def __init__(self, how: str) -> None:
        super().__init__(5, 3)
        self.how, self.scale = how, 1.0
        self.register_buffer("shift", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "evaluation" and not self.training:
            self.scale *= 1.1
        if self.how in ("attribute", "buffer") and x.max() > 50:
            if self.how == "attribute":
                self.scale *= 0.5
            else:
                self.shift.copy_(x.clamp(max=1)[0, :3])
        if self.how == "fifth shape" and len(x) == 9:
            self.scale *= 0.5
        return super().forward(x.clamp(max=3)) * self.scale + self.shift


def with_outliers(at: Sequence[int]) -> list[Any]:
    g = torch.Generator().manual_seed(0)
    sizes = [5 + i % 5 if i >= 35 else 8 for i in range(40)]
    data = [(torch.randn(n, 5, generator=g), torch.randint(3, (n,), generator=g)) for n in sizes]
    for i in at:
        data[i][0][0, 0] = 100.0
    return data


@pytest.mark.parametrize("how", ["attribute", "buffer", "evaluation", "fifth shape"])
def test_what_a_rare_batch_or_an_evaluation_changes_is_as_on_the_loop_and_in_the_unit_after(how: str) -> None:
    data = with_outliers([20, 39] if how in ("attribute", "buffer") else [])
    val = data[:2] if how == "evaluation" else None
    task = small_task("linear", model=lambda: Changes(how), train=data, val=val, horizon=40)
    lanes = Lanes(Prepared(task, CPU), Ran("lanes", 1, 1, "cpu"))
    loop = Loop(Prepared(task, CPU), Ran("loop", 1, 1, "cpu"))
    for lr in (0.01, 0.1):
        ours, theirs = (e.train([Setting(0, lr)], 40, 0, lambda *_: None).curves[0] for e in (lanes, loop))
        for (_, a), (_, b) in zip(ours.train + ours.val, theirs.train + theirs.val, strict=True):
            assert a == pytest.approx(b, rel=1e-4)


def test_a_divergence_of_a_recordings_own_is_none() -> None:
    factor = [1.0]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, batch) / factor[0]

    def curve(engine: Any, lr: float, of: float) -> Any:
        factor[0] = of
        return engine.train([Setting(0, lr)], 64, 0, lambda *_: None).curves[0]

    task = small_task("linear", loss=loss, val=None, horizon=64)
    lanes = Lanes(Prepared(task, CPU), Ran("lanes", 1, 1, "cpu"))
    loop = Loop(Prepared(task, CPU), Ran("loop", 1, 1, "cpu"))
    assert curve(lanes, 1e-33, 1e-30).diverged_at is None
    assert curve(lanes, 0.1, 1.0).loss == pytest.approx(curve(loop, 0.1, 1.0).loss, rel=1e-5)


def test_a_view_that_a_smaller_batch_cannot_take_has_the_training_begun_again() -> None:
    class Views(Pictures):
        def forward(self, x: Tensor) -> Tensor:
            self.by_view = len(x) < 5
            return super().forward(x)

    g = torch.Generator().manual_seed(0)
    data = [(torch.randn(n, 1, 4, 4, generator=g), torch.randint(3, (n,), generator=g)) for n in (5, 5, 4)]
    task = small_task("linear", model=lambda: Views(False), train=data, val=None)
    alone = Lanes(Prepared(task, CPU), Ran("lanes", 1, 1, "cpu"))
    assert alone.prepared.channels_last
    told: list[int] = []
    curve = alone.train([Setting(0, 0.05)], 20, 0, lambda steps, *_: told.append(steps)).curves[0]
    assert curve.trained == sum(told) == 20
    assert not alone.prepared.channels_last


def test_a_model_that_counts_its_steps_is_made_anew_for_each_unit() -> None:
    class Counts(nn.Linear):
        steps = 0

        def forward(self, x: Tensor) -> Tensor:
            self.steps += self.training
            return super().forward(x) / self.steps if self.steps else super().forward(x)

    task = small_task("linear", model=lambda: Counts(5, 3), val=None)
    used, fresh = (Lanes(Prepared(task, CPU), Ran("lanes", 1, 1, "cpu")) for _ in range(2))
    used.train([Setting(0, 0.01)], 20, 0, lambda *_: None)
    (ours,), (truth,) = (e.train([Setting(0, 0.1)], 20, 0, lambda *_: None).curves for e in (used, fresh))
    assert ours == truth


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


class Pictures(nn.Module):
    """A convnet that flattens by `view`, which takes no channels last, or by `flatten`, which does."""

    def __init__(self, by_view: bool, frozen: nn.Module | None = None) -> None:
        super().__init__()
        self.first = frozen or nn.Conv2d(1, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(16, 3)
        self.by_view = by_view

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        return self.head(x.view(len(x), -1) if self.by_view else x.flatten(1))


@pytest.mark.parametrize("by_view", [False, True])
def test_one_lane_has_its_convolutions_with_channels_last_where_the_model_can_take_it(by_view: bool) -> None:
    g = torch.Generator().manual_seed(0)
    data = [(torch.randn(5, 1, 4, 4, generator=g).double(), torch.randint(3, (5,), generator=g)) for _ in range(3)]
    task = small_task("linear", torch.float64, model=lambda: Pictures(by_view).double(), train=data, val=None)
    prepared = Prepared(task, CPU)
    assert len(prepared.channels_last) == (0 if by_view else 2)
    alone, loop = Lanes(prepared, Ran("lanes", 1, 1, "cpu")), Loop(prepared, Ran("loop", 1, 1, "cpu"))
    ours, theirs = (e.train([Setting(0, 0.05)], 30, 0, lambda *_: None).curves[0] for e in (alone, loop))
    assert [v for _, v in ours.train] == pytest.approx([v for _, v in theirs.train], rel=1e-9)
    stack = Stack(prepared, [Setting(0, 0.05)], alone=True)
    assert torch.equal(stack.lane(0).model.second.weight, prepared.model(0).second.weight)


@pytest.mark.parametrize("by_params", [False, True])
def test_what_is_not_optimized_keeps_its_channels_where_they_are(by_params: bool) -> None:
    frozen = nn.Conv2d(1, 3, 3, padding=1).requires_grad_(by_params)
    data = [(torch.randn(5, 1, 4, 4), torch.randint(3, (5,)))]
    task = small_task("linear", model=lambda: Pictures(False, frozen), train=data, val=None)
    task = replace(task, params=lambda model: [*model.second.parameters(), *model.head.parameters()])
    assert len(Prepared(task, CPU).channels_last) == 1
    assert frozen.weight.is_contiguous() and frozen.weight.grad is None
