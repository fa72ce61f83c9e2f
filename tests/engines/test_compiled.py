"""Compiled lanes do what replayed ones do; what cannot be compiled is replayed; only what pays is."""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_tasks import CPU, batches, cross_entropy, lanes_of, largest_gap, setting, small_task
from tests.rules.lions import Lion
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop

import etascope as eta
from etascope.engines import Prepared
from etascope.engines.choose import Chosen, choose, rebuild_engine
from etascope.engines.compiled import Kernels
from etascope.engines.lanes import Lanes
from etascope.engines.randomness import undisturbed
from etascope.engines.replay import Drifted
from etascope.engines.stack import Stack, quiet
from etascope.engines.trials import TIMES, Compiled, try_compiled
from etascope.engines.update import compiled_update
from etascope.records import Curve
from etascope.records import Engine as Ran
from etascope.rules import SGD as SGDRule
from etascope.rules import State, Update, read
from etascope.task import Task

choose_module = importlib.import_module("etascope.engines.choose")  # its name is also that of the function
LRS = [0.01, 0.03, 0.1]


def trained(task: Task, compile_from: int, *, steps: int = 20, chunk: int = 3) -> tuple[list[Curve], Stack]:
    lanes = Lanes(Prepared(task, CPU), Ran("lanes", chunk, 1, "cpu", compile_from=compile_from))
    curves = [
        c for unit in lanes.units(lanes_of(LRS[:chunk])) for c in lanes.train(unit, steps, 0, lambda *_: None).curves
    ]
    assert lanes._stack is not None
    return curves, lanes._stack


@pytest.mark.parametrize(
    ("kind", "chunk", "changes"),
    [
        ("linear", 3, {"optimizer": partial(Adam, weight_decay=0.1), "clip_norm": 0.5}),
        ("conv-bn", 3, {}),  # which moves buffers
        ("transformer", 3, {"optimizer": AdamW, "accumulate": 2}),
        ("dropout", 3, {}),  # the same noise
        ("lstm", 1, {}),
        ("conv-bn", 1, {"clip_value": 0.1}),
    ],
)
def test_compiled_lanes_are_trained_as_replayed_ones(kind: str, chunk: int, changes: dict[str, Any]) -> None:
    task = small_task(kind, torch.float64, **changes)
    found, stack = trained(task, 1, chunk=chunk)
    truth, _ = trained(task, 0, chunk=chunk)
    assert stack.replay is not None
    assert not stack.replay.not_compiled
    assert any(known.recording is not None and known.recording.is_compiled for known in stack.replay.known)
    assert largest_gap(found, truth) <= 1e-9
    assert all(f.loss == t.loss or abs(f.loss - t.loss) <= 1e-9 * t.loss for f, t in zip(found, truth, strict=True))


UPDATES: dict[str, Any] = {
    "adadelta": Adadelta,
    "adagrad": partial(Adagrad, lr_decay=0.1),
    "adam amsgrad": partial(Adam, amsgrad=True, weight_decay=0.1),
    "adamax": Adamax,
    "adamw": AdamW,
    "lion": Lion,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": partial(RMSprop, momentum=0.5, centered=True),
    "sgd": SGD,
    "sgd nesterov": partial(SGD, momentum=0.9, nesterov=True),
}


def lane_tensors(width: int, seed: int) -> Tensor:
    return torch.randn(3, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("rule", UPDATES)
def test_compiled_updates_are_the_rules(rule: str) -> None:
    """At steps far from the one that they were compiled at."""
    w = nn.Parameter(torch.zeros(100, dtype=torch.float64))
    update = read([UPDATES[rule]([w], lr=lr) for lr in LRS], LRS)
    lr_L1 = torch.tensor(LRS, dtype=torch.float64)[:, None]
    params, state = lane_tensors(100, 0), update.init(lane_tensors(100, 0))
    for t in range(3):
        params, state = update(params, lane_tensors(100, t), state, lr_L1, t)
    compiled = compiled_update(update, params, lane_tensors(100, 9), state, lr_L1, 3)
    assert compiled is not update
    ours, own = params.clone(), {name: tensor.clone() for name, tensor in state.items()}
    for t in range(3, 40):
        grads = lane_tensors(100, t)
        params, state = update(params, grads.clone(), state, lr_L1 / (t + 1), t)
        ours, own = compiled(ours, grads, own, lr_L1 / (t + 1), t)
        assert torch.equal(grads, lane_tensors(100, t))
    assert ours.sub(params).abs().max() <= 1e-12 * params.abs().max()
    assert own.keys() == state.keys()


def test_param_groups_are_compiled_each_by_itself() -> None:
    a, b = (nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (20_000, 30_000))
    groups = [[{"params": [a], "lr": lr}, {"params": [b], "lr": lr / 10, "weight_decay": 0.5}] for lr in LRS]
    update = read([AdamW(of_lane, lr=lr) for of_lane, lr in zip(groups, LRS, strict=True)], LRS)
    lr_L1, params = torch.tensor(LRS, dtype=torch.float64)[:, None], lane_tensors(50_000, 0)
    ours, state, own = params.clone(), update.init(params), update.init(params)
    compiled = compiled_update(update, params, params, state, lr_L1, 3)
    assert compiled is not update
    for t in range(3, 6):
        params, state = update(params, lane_tensors(50_000, t), state, lr_L1, t)
        ours, own = compiled(ours, lane_tensors(50_000, t), own, lr_L1, t)
    assert ours.sub(params).abs().max() <= 1e-12 * params.abs().max()


class Turning(SGDRule):
    """Asks what step it is."""

    def update(self, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
        return super().update(params_LP, grads_LP, state, lr if t < 10 else -lr, t)


def test_a_rule_that_changes_its_mind_is_followed() -> None:
    update, params = Update(Turning(momentum=0.9)), lane_tensors(100, 0)
    ours, state, own = params.clone(), update.init(params), update.init(params)
    lr_L1 = torch.tensor(LRS, dtype=torch.float64)[:, None]
    compiled = compiled_update(update, params, params, state, lr_L1, 3)
    assert compiled is not update
    for t in range(3, 20):
        params, state = update(params, lane_tensors(100, t), state, lr_L1, t)
        ours, own = compiled(ours, lane_tensors(100, t), own, lr_L1, t)
    assert ours.sub(params).abs().max() <= 1e-12 * params.abs().max()


def raising(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no C++ compiler is at hand\nand more of it")


@pytest.mark.parametrize("fault", ["no compiler", "wrong kernels", "kernels that raise"])
def test_what_cannot_be_compiled_is_replayed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, _ = trained(small_task(), 0)
    if fault == "no compiler":
        monkeypatch.setattr("torch._inductor.compile", raising)
    elif fault == "kernels that raise":
        monkeypatch.setattr(Kernels, "__call__", raising)
    else:
        truly = Kernels.__call__
        monkeypatch.setattr(Kernels, "__call__", lambda self, given: tuple(t + 1 for t in truly(self, given)))
    found, stack = trained(small_task(), 1)
    assert stack.replay is not None
    assert stack.replay.not_compiled
    assert stack.replay.is_whole
    assert found == truth  # to the bit
    if fault == "no compiler":
        assert stack.replay.not_compiled.endswith("no C++ compiler is at hand)")


def test_kernels_that_begin_to_fail_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a training, which goes on by the operations themselves."""
    truly, calls = Kernels.__call__, []

    def failing(self: Kernels, given: Any) -> Any:
        calls.append(1)
        if len(calls) > 10:
            raise AssertionError("wrong strides")
        return truly(self, given)

    truth, _ = trained(small_task(dtype=torch.float64), 0)
    monkeypatch.setattr(Kernels, "__call__", failing)
    found, stack = trained(small_task(dtype=torch.float64), 1)
    assert stack.replay is not None
    assert stack.replay.not_compiled == "wrong strides"
    assert stack.replay.is_whole
    assert largest_gap(found, truth) <= 1e-9


def test_a_model_that_drifts_is_found_out_by_what_its_kernels_were_made_of() -> None:
    state = {"scale": 1.0}

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return cross_entropy(model, batch) * state["scale"]

    task = small_task(loss=loss, train=batches("linear", rows=20))
    stack = Stack(Prepared(task, CPU), lanes_of(LRS))
    stack.compile()
    batch = next(stack.batches(0))
    for t in range(15):
        stack.step([batch], 1.0, t)
    state["scale"] = 2.0
    with pytest.raises(Drifted):
        stack.step([batch], 1.0, 15, is_last=True)


def test_compiling_leaves_the_world_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    before = dict(os.environ), sys.getrecursionlimit(), torch.get_num_threads(), torch.get_rng_state()
    with undisturbed():
        _, stack = trained(small_task("dropout"), 1)
    assert stack.replay is not None
    assert not stack.replay.not_compiled
    assert (dict(os.environ), sys.getrecursionlimit(), torch.get_num_threads()) == before[:3]
    assert torch.equal(torch.get_rng_state(), before[3])
    assert not multiprocessing.active_children()


def test_a_model_that_asks_for_values_is_replayed() -> None:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        value = cross_entropy(model, batch)
        return value if batch[0].sum() > -1e9 else value * 2

    task = small_task(loss=loss, train=batches("linear", rows=20))
    found, stack = trained(task, 1, chunk=1)
    assert stack.replay is not None
    assert stack.replay.not_compiled == "the model asks tensors for their values"
    assert largest_gap(found, trained(task, 0, chunk=1)[0]) <= 1e-5  # its update is compiled


def test_another_kind_of_batch_is_not_compiled() -> None:
    task = small_task(train=batches("linear", n=4))  # of which the last is smaller
    _, stack = trained(task, 1, steps=24)
    assert stack.replay is not None
    assert [known.recording.is_compiled for known in stack.replay.known if known.recording] == [True, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_training_is_the_same_whatever_was_trained_before(dtype: torch.dtype) -> None:
    """To the bit, or a sweep that goes on would not give what one without a break gives."""
    task, unit = small_task(dtype=dtype, train=batches("linear", n=4, rows=13, dtype=dtype)), lanes_of(LRS)

    def engine() -> Lanes:
        return Lanes(Prepared(task, CPU), Ran("lanes", 3, 1, "cpu", compile_from=3 * 20))

    def curves(lanes: Lanes, steps: int) -> Any:
        return lanes.train(unit, steps, 0, lambda *_: None).curves

    used = engine()
    short, long, short_again, long_again = (curves(used, steps) for steps in (19, 40, 19, 40))
    assert used._stack is not None
    assert used._stack.replay is not None
    assert used._stack.replay.known[0].recording.is_compiled
    assert short == short_again == curves(engine(), 19)
    assert long == long_again == curves(engine(), 40)


def test_a_compiled_sweep_goes_on_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal says from which length on stacks are compiled, and nothing is chosen again."""
    ran, calls = Ran("lanes", 2, 1, "cpu", "asked for", compile_from=2 * 30), list[int]()
    monkeypatch.setattr("etascope.finder.opening.choose", lambda p, *_, **__: Chosen(rebuild_engine(p, ran), 0, 0.0))

    def swept(out: Path | None) -> eta.Sweep:
        return eta.sweep(small_task(horizon=30), lrs=[1e-3, 1e-2, 3e-2, 1e-1], out=out, progress=False)

    def once(self: Lanes, *args: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return truly(self, *args)

    truly, truth = Lanes.train, swept(None)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(Lanes, "train", once)
        with pytest.raises(KeyboardInterrupt):
            swept(tmp_path)
    monkeypatch.setattr("etascope.finder.opening.choose", raising)
    found = swept(tmp_path)
    assert found.engine == ran
    assert found.rungs == truth.rungs


def test_a_second_unit_has_its_own_options() -> None:
    """The kernels of an update hold its numbers."""
    task, units = small_task(dtype=torch.float64), [[setting(lr, momentum=m) for lr in LRS] for m in (0.9, 0.5)]
    found, truth = [
        [curve for unit in units for curve in lanes.train(unit, 12, 0, lambda *_: None).curves]
        for lanes in (Lanes(Prepared(task, CPU), Ran("lanes", 3, 1, "cpu", compile_from=c)) for c in (1, 0))
    ]
    assert largest_gap(found, truth) <= 1e-9


def tried(monkeypatch: pytest.MonkeyPatch, found: Compiled) -> tuple[Ran, list[float], int]:
    """What is chosen for a long sweep if a trial of compiling finds this, and how long that may have taken."""
    asked: list[float] = []

    def trial(prepared: Prepared, unit: Any, most_s: float) -> Compiled:
        asked.append(most_s)
        return found

    monkeypatch.setattr(choose_module, "cores", lambda: 1)
    monkeypatch.setattr(choose_module, "try_compiled", trial)
    task = small_task(horizon=10**6)
    chosen = choose(Prepared(task, CPU), "auto", 0, 32e6, settings=lanes_of([0.001 * 1.1**i for i in range(32)]))
    return chosen.engine.ran, asked, chosen.trial_steps


def test_long_sweeps_are_compiled_where_a_trial_shows_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, (most_s,), spent = tried(monkeypatch, Compiled(6.0, 30e-6, 20e-6, spent=400))
    assert ran.engine == "lanes"
    assert ran.name == "compiled lanes"
    assert 1_799_999 < ran.compile_from <= 1_800_001  # lane-steps: three times what 6 s are, at 10 µs each
    assert ran.why.endswith("; compiled 1.5× as recorded")
    assert most_s > 1
    assert spent > 400


@pytest.mark.parametrize(
    "found",
    [
        Compiled(6.0, 20e-6, 20e-6),
        Compiled(6.0, 30e-6, 20e-6, failure="it would take too long"),
        Compiled(1e3, 30e-6, 29e-6),
    ],
    ids=["no faster", "none", "does not pay"],
)
def test_else_they_are_not(found: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, _, _ = tried(monkeypatch, found)
    assert (ran.engine, ran.name, ran.compile_from) == ("lanes", "lanes", 0)


@pytest.mark.parametrize("why", ["bf16", "seconds"])
def test_nor_are_they_tried_in_vain(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_module, "cores", lambda: 1)
    monkeypatch.setattr(choose_module, "try_compiled", raising)
    task = small_task(horizon=10**6, precision="bf16" if why == "bf16" else "fp32")
    within_s = 60.0 if why == "seconds" else math.inf
    settings = lanes_of([0.001 * 1.1**i for i in range(32)])
    assert not choose(
        Prepared(task, CPU), "auto", 0, 32e6, settings=settings, within_s=within_s
    ).engine.ran.compile_from


def test_a_trial_that_raises_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stack, "step", raising)
    assert try_compiled(Prepared(small_task(), CPU), lanes_of(LRS), 1e3).failure.startswith("a trial of it failed: ")


def test_short_sweeps_have_no_such_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose_module, "try_compiled", raising)
    monkeypatch.setattr(choose_module, "cores", lambda: 1)
    assert choose(Prepared(small_task(), CPU), "auto", 0, 1e4).engine.ran.compile_from == 0


def test_a_trial_compiles_and_times() -> None:
    prepared, unit = Prepared(small_task(), CPU), lanes_of(LRS)
    with quiet():
        found = try_compiled(prepared, unit, 1e3)
        assert try_compiled(prepared, unit, 0.1).failure == "it would take too long"
    assert not found.failure
    assert found.spent == 3 * (2 * TIMES + 1)
    assert found.compile_s > 1 > 10 * found.replayed_s > 0
    assert 0 < found.compiled_s < 10 * found.replayed_s
