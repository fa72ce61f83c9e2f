"""Optimizers whose `step` calls another one, runs no hooks, or is called for something else than an update."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, sgd, weights

import etascope as eta
from etascope.attachment.updates import nests
from etascope.errors import OptionError


class Mine(torch.optim.Adam):
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return super().step(closure)


class Twice(Mine):
    def step(self, closure: Any = None) -> Any:
        super().step()
        return super().step(closure)


class TestSuper:
    @pytest.mark.parametrize("kind", [Mine, Twice])
    @pytest.mark.parametrize("base_comes", ["before", "after"])
    def test_it_counts_once(self, kind: Any, base_comes: str) -> None:
        if base_comes == "before":
            torch.optim.Adam(weights())
            Mine(weights())
        optimizer = kind(weights(), lr=0.1)
        handle = eta.attach(eta.linear(), optimizer, horizon=10)
        torch.optim.Adam(weights())
        Mine(weights())
        assert run(optimizer, 5) == [[0.1 * (1 - t / 10)] for t in range(5)] and handle.step == 5

    def test_a_step_that_raises_leaves_no_trace(self) -> None:
        torch.optim.Adam(weights())
        optimizer = Mine(weights(), lr=0.1)
        handle = eta.attach(eta.linear(), optimizer, horizon=10)

        def closure() -> float:
            raise RuntimeError("no")

        for _ in range(2):
            with pytest.raises(RuntimeError, match="no"):
                optimizer.step(closure)
            optimizer.step()
        assert handle.step == 2

    def test_compiled(self) -> None:
        dynamo = pytest.importorskip("torch._dynamo")
        dynamo.reset()
        torch.optim.Adam(weights())
        optimizer = Mine(weights(), lr=torch.tensor(0.1, dtype=torch.float64))
        handle = eta.attach(eta.linear(), optimizer, horizon=10)
        step = torch.compile(optimizer.step, backend="eager")
        for t in range(1, 5):
            step()
            assert handle.step == t
        dynamo.reset()

    def test_what_does_not_nest_pays_nothing(self) -> None:
        assert nests(Mine(weights())) and not nests(sgd()) and not nests(torch.optim.AdamW(weights()))


class Lookahead(torch.optim.Optimizer):
    """As timm's and others': it has dictionaries of hooks, and nobody runs them."""

    def __init__(self, base: torch.optim.Optimizer, name: str = "_base_optimizer", hooks: str = "_hooks") -> None:
        setattr(self, name, base)
        self.base, self.param_groups, self.defaults = [base], base.param_groups, base.defaults
        for key in [key for key in vars(base) if key.endswith("_hooks") and hooks in key]:
            setattr(self, key, OrderedDict())

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base[0].step(closure)


class TestNoHooks:
    def test_it_is_refused_and_can_be_counted_by_hand(self) -> None:
        inner = sgd()
        outer = Lookahead(inner)
        with pytest.raises(OptionError, match=r"Lookahead\.step runs no hooks") as error:
            eta.attach(eta.linear(), outer, horizon=10)
        assert "its ._base_optimizer" in error.value.next_move and 'clock="manual"' in error.value.next_move
        handle = eta.attach(eta.linear(), outer, horizon=10, clock="manual")
        outer.step()
        handle.advance()
        assert lrs(outer) == [0.1 * 0.9]
        handle.detach()
        handle = eta.attach(eta.linear(), inner, lr=0.1, horizon=10)
        outer.step()
        assert handle.step == 1

    @pytest.mark.parametrize("hooks", ["none", "_step_"])  # timm's has the latter
    def test_a_wrapper_under_another_name_is_named(self, hooks: str) -> None:
        with pytest.raises(OptionError, match="Lookahead is a torch optimizer without hooks") as error:
            eta.attach(eta.linear(), Lookahead(sgd(), "optim", hooks), horizon=10)
        assert "its .optim" in error.value.next_move

    def test_one_that_holds_nothing_is_named(self) -> None:
        with pytest.raises(OptionError, match="list is no torch optimizer"):
            eta.attach(eta.linear(), [sgd()], horizon=10)  # type: ignore[arg-type]


class TestDistributedCheckpoint:
    """It makes an empty optimizer's state by a step with lr 0, which is no update."""

    @staticmethod
    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 1)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    @staticmethod
    def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> list[list[float]]:
        used = []
        for _ in range(steps):
            model(torch.ones(1, 2)).square().sum().backward()
            used += run(optimizer, 1)
            optimizer.zero_grad()
        return used

    @pytest.mark.parametrize("start", [0.0, 0.25])
    @pytest.mark.parametrize("lr", [None, torch.tensor(0.1, dtype=torch.float64)])
    def test_looking_at_an_empty_optimizer_is_no_update(self, start: float, lr: Any) -> None:
        dcp = pytest.importorskip("torch.distributed.checkpoint.state_dict")
        model, optimizer = self.build()
        if lr is not None:
            optimizer.param_groups[0]["lr"] = lr
        schedule = eta.warmup(4, start=start) >> eta.linear()
        handle = eta.attach(schedule, optimizer, horizon=20)
        dcp.get_optimizer_state_dict(model, optimizer)
        assert handle.step == 0 and lrs(optimizer) == handle.lrs == [0.1 * start]
        self.train(model, optimizer, 1)
        assert handle.step == 1
        optimizer.step(closure=None)  # as this is
        assert handle.step == 2 and lrs(optimizer) == [0.1 * schedule.bind(20)(2)]

    @pytest.mark.parametrize("flatten", [False, True])
    @pytest.mark.parametrize("order", ["attach optimizer handle", "attach handle optimizer", "optimizer attach handle"])
    def test_resume(self, order: str, flatten: bool) -> None:
        dcp = pytest.importorskip("torch.distributed.checkpoint.state_dict")
        options = dcp.StateDictOptions(flatten_optimizer_state_dict=flatten)
        model, optimizer = self.build()
        schedule = eta.warmup(4, start=0.0) >> eta.cosine(to=0.1)
        handle = eta.attach(schedule, optimizer, horizon=20)
        self.train(model, optimizer, 7)
        o = copy.deepcopy(dcp.get_optimizer_state_dict(model, optimizer, options=options))
        m, h = copy.deepcopy(model.state_dict()), handle.state_dict()
        truth = self.train(model, optimizer, 6)
        twin, resumed = self.build()
        twin.load_state_dict(m)
        again = None
        for what in order.split():
            if what == "attach":
                again = eta.attach(schedule, resumed, horizon=20)
            elif what == "optimizer":
                dcp.set_optimizer_state_dict(twin, resumed, o, options=options)
            else:
                assert again is not None
                again.load_state_dict(h)
        assert again is not None and again.step == 7
        assert self.train(twin, resumed, 6) == truth
        assert torch.equal(twin.weight, model.weight)  # type: ignore[arg-type]
