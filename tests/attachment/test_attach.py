"""What is written where, and what is refused."""

from __future__ import annotations

import copy
import gc
import math
import pickle
import re
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from tests.attachment.small_optimizers import lrs, run, sgd, weights

import etascope as eta
from etascope.errors import EtascopeError, OptionError
from etascope.schedules.factors import Factor, PlateauState


def test_lr_is_written_at_attach_and_after_each_update() -> None:
    optimizer = sgd(lr=0.4)
    b = (eta.warmup(3) >> eta.cosine(to=0.1)).bind(10)
    handle = eta.attach(b.schedule, optimizer, horizon=10)
    #                  step 0 1 … 9, and past the end
    assert run(optimizer, 14) == [[0.4 * b(t)] for t in range(14)]
    assert handle.step == 14 and handle.lrs == lrs(optimizer) == [0.4 * b(14)] and handle.peaks == [0.4]


def test_long_runs_cross_blocks() -> None:
    optimizer = sgd(lr=0.3)
    s = eta.cosine()
    eta.attach(s, optimizer, horizon=2500)
    assert [row[0] for row in run(optimizer, 2600)] == (0.3 * s.bind(2500)(np.arange(2600))).tolist()


def test_any_key_multiplied_or_absolute() -> None:
    optimizer = torch.optim.AdamW(weights(), lr=0.01, weight_decay=0.2, betas=(0.8, 0.99))
    group = optimizer.param_groups[0]
    up = eta.linear(start=0.5, to=1)
    handle = eta.attach(
        {"lr": eta.linear(), "weight_decay": up, "beta1": eta.absolute(up), "beta2": eta.constant(value=0.5)},
        optimizer,
        horizon=4,
    )
    optimizer.step()
    assert handle.step == 1
    assert (group["lr"], group["weight_decay"], group["betas"]) == (0.01 * 0.75, 0.2 * 0.625, (0.625, 0.99 * 0.5))


def test_groups_override_and_add() -> None:
    optimizer = sgd(4, momentum=0.9)
    s, w = eta.linear(), eta.constant(value=0.5)
    eta.attach(
        {"lr": s, "momentum": w},
        optimizer,
        horizon=4,
        groups={
            1: 10 * s,
            2: {"momentum": eta.absolute(eta.constant(value=0.3))},
            3: {"lr": None, "dampening": eta.absolute(w)},
        },
    )
    optimizer.step()
    assert lrs(optimizer) == [0.1 * 0.75, 0.1 * 7.5, 0.1 * 0.75, 0.1]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.45, 0.45, 0.3, 0.45]


def test_explicit_peaks_and_lr_scale() -> None:
    optimizer = sgd(2)
    optimizer.param_groups[1]["lr_scale"] = 0.25
    handle = eta.attach(eta.constant(), optimizer, lr=2.0, horizon=10)
    assert lrs(optimizer) == handle.peaks == [2.0, 0.5]
    handle.detach()
    eta.attach(eta.constant(), optimizer, lr=[3.0, 1.0], horizon=10)
    assert lrs(optimizer) == [3.0, 0.25]


def test_functions_are_asked_for_the_present_step_alone() -> None:
    asked = []
    optimizer = sgd(3)
    eta.attach(lambda t: asked.append(t) or 0.5**t, optimizer, horizon=100)
    assert run(optimizer, 3)[2] == 3 * [0.1 * 0.25]
    assert sorted(set(asked)) == [0, 1, 2, 3]


def test_horizon_of_the_schedule_itself() -> None:
    assert eta.attach(eta.cosine().bind(7), sgd()).state_dict()["given"]["schedules"]["lr"]["bound"]["horizon"] == 7
    assert eta.attach(eta.warmup(3) >> eta.cosine(4), sgd()).lrs == [0.1 * 0.25]
    handle = eta.attach({"lr": eta.cosine().bind(7), "momentum": eta.linear()}, sgd(momentum=0.5))
    assert handle.state_dict()["given"]["schedules"]["momentum"]["bound"]["horizon"] == 7


def test_scale_is_on_the_lr_alone() -> None:
    optimizer = sgd(momentum=0.5)
    handle = eta.attach({"lr": eta.cosine(), "momentum": eta.constant()}, optimizer, horizon=10)
    handle.scale = 0.3
    assert lrs(optimizer) == [(0.1 * 0.3) * 1.0] and optimizer.param_groups[0]["momentum"] == 0.5
    optimizer.step()
    assert lrs(optimizer) == handle.lrs == [(0.1 * 0.3) * eta.cosine().bind(10)(1)]
    for wrong in (-1, math.nan, math.inf, "2", None):
        with pytest.raises(EtascopeError, match=r"handle\.scale"):
            handle.scale = wrong  # type: ignore[assignment]
    assert handle.scale == 0.3


def test_factors_change_the_scale() -> None:
    optimizer = sgd()
    handle = eta.attach(
        eta.cosine(), optimizer, horizon=10, factors=[eta.plateau(factor=0.5, patience=0), eta.plateau(patience=1)]
    )
    assert [handle.observe(m) for m in (1.0, 1.0, torch.tensor(1.0))] == [1.0, 0.5, 0.5 * 0.5 * 0.1]
    assert lrs(optimizer) == [0.1 * (0.5 * 0.5 * 0.1)]
    with pytest.raises(OptionError, match="No factor") as error:
        eta.attach(eta.cosine(), sgd(), horizon=10).observe(1.0)
    assert "plateau" in error.value.next_move


def test_repr_says_what_is_driven() -> None:
    optimizer = sgd(2)
    handle = eta.attach({"lr": eta.cosine()}, optimizer, horizon=10, groups={1: eta.linear()}, factors=[eta.plateau()])
    assert repr(handle) == (
        "<Handle on SGD, step 0 of 10, lr 0.1, scale 1, lr: cosine().bind(10); lr of group 1: linear().bind(10); "
        "plateau()>"
    )


def test_the_step_can_be_set() -> None:
    optimizer = sgd()
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    handle.step = 5
    assert lrs(optimizer) == [0.05]
    optimizer.step()
    assert handle.step == 6 and lrs(optimizer) == [0.1 * 0.4]
    with pytest.raises(EtascopeError, match=r"handle\.step"):
        handle.step = -1


def test_detach_leaves_the_values_and_takes_off_all_hooks() -> None:
    optimizer = sgd()
    before = {key: dict(value) for key, value in vars(optimizer).items() if key.endswith("_hooks")}
    names = set(vars(optimizer))
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    optimizer.step()
    handle.detach()
    assert {key: dict(value) for key, value in vars(optimizer).items() if key.endswith("_hooks")} == before
    assert set(vars(optimizer)) == names
    optimizer.step()
    assert handle.step == 1 and lrs(optimizer) == handle.lrs == [0.1 * 0.9] and "detached" in repr(handle)
    for use in (
        lambda: handle.observe(1),
        lambda: handle.extend(20),
        lambda: setattr(handle, "scale", 1),
        lambda: handle.load_state_dict(handle.state_dict()),
    ):
        with pytest.raises(OptionError, match="detached"):
            use()
    eta.attach(eta.linear(), optimizer, lr=0.1, horizon=10)


def test_the_optimizer_keeps_the_handle_and_is_not_kept_by_it() -> None:
    optimizer = sgd()
    eta.attach(eta.linear(), optimizer, horizon=10)  # the handle is thrown away
    optimizer.step()
    assert lrs(optimizer) == [0.1 * 0.9]
    kept = eta.attach(eta.linear(), other := sgd(), horizon=10)
    gone = weakref.ref(optimizer), weakref.ref(optimizer.param_groups[0]["params"][0]), weakref.ref(other)
    gc.disable()
    del optimizer, other
    assert [ref() for ref in gone] == [None, None, None]
    gc.enable()
    assert kept.state_dict()["step"] == 0 and "detached" in repr(kept)


def test_a_copied_optimizer_has_no_handle() -> None:
    optimizer = sgd()
    handle = eta.attach(eta.linear(), optimizer, horizon=10)
    twin = copy.deepcopy(optimizer)
    twin.step()
    assert handle.step == 0
    eta.attach(eta.linear(), twin, lr=0.1, horizon=10)
    with pytest.raises(OptionError, match="pickled or copied"):
        copy.deepcopy(handle)


def test_a_second_detach_leaves_a_new_handle_alone() -> None:
    optimizer = sgd()
    old = eta.attach(eta.linear(), optimizer, horizon=10)
    old.detach()
    new = eta.attach(eta.linear(), optimizer, horizon=10)
    old.detach()
    optimizer.step()
    assert new.step == 1
    with pytest.raises(OptionError, match="already has a handle"):
        eta.attach(eta.linear(), optimizer, horizon=10)


class TestPeak:
    """What was written into an optimizer is no peak: "peak_lr" in its groups tells."""

    @staticmethod
    def decayed() -> tuple[torch.optim.Optimizer, eta.Handle]:
        optimizer = sgd(2, lr=0.4)
        handle = eta.attach(eta.linear(), optimizer, horizon=10)
        run(optimizer, 10)
        assert lrs(optimizer) == [0.0, 0.0]
        return optimizer, handle

    def test_after_detach_it_is_what_it_was(self) -> None:
        optimizer, handle = self.decayed()
        handle.detach()
        assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.4, 0.4]

    def test_after_detach_an_lr_set_by_hand_is_the_peak(self) -> None:
        optimizer, handle = self.decayed()
        handle.detach()
        optimizer.param_groups[1]["lr"] = 0.7
        assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.4, 0.7]

    def test_one_set_by_hand_before_detach_too(self) -> None:
        optimizer, handle = self.decayed()
        optimizer.param_groups[1]["lr"] = 0.7
        handle.detach()
        assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.4, 0.7]

    @pytest.mark.parametrize("steps", [4, 10])
    def test_of_a_copy_and_of_a_loaded_state(self, steps: int) -> None:
        optimizer = sgd(2, lr=0.4)
        handle = eta.attach(eta.linear(), optimizer, horizon=10)
        run(optimizer, steps)
        loaded = sgd(2, lr=0.9)
        loaded.load_state_dict(optimizer.state_dict())
        for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer)), loaded):
            assert eta.attach(eta.linear(), other, horizon=10).peaks == [0.4, 0.4]
        handle.detach()
        optimizer.load_state_dict(optimizer.state_dict())
        assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.4, 0.4]

    def test_an_absolute_schedule_leaves_none(self) -> None:
        optimizer = sgd(lr=0.4)
        eta.attach(eta.absolute(eta.constant(value=0.2)), optimizer, horizon=10).detach()
        assert "peak_lr" not in optimizer.param_groups[0]
        assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.2]

    def test_zero_has_no_multiples(self) -> None:
        with pytest.raises(OptionError, match="'lr' of every param group is 0") as error:
            eta.attach(eta.linear(), sgd(2, lr=0.0), horizon=10)
        assert "lr=1e-3" in error.value.next_move
        assert eta.attach(eta.linear(), o := sgd(2, lr=0.0), lr=0.1, horizon=10).peaks == [0.1, 0.1] and o
        both = {"lr": eta.linear(), "weight_decay": eta.linear()}
        with pytest.raises(OptionError, match="'weight_decay' of every param group is 0") as error:
            eta.attach(both, sgd(2), horizon=10)
        assert '"weight_decay": absolute(schedule)' in error.value.next_move
        with pytest.raises(OptionError, match="'momentum' of param group 1 is 0"):
            eta.attach(eta.linear(), sgd(2), horizon=10, groups={1: {"momentum": eta.linear()}})

    def test_zero_in_one_group_leaves_it_out(self) -> None:
        optimizer = sgd(2, weight_decay=0.1)
        optimizer.param_groups[1]["weight_decay"] = 0.0  # as for biases
        eta.attach({"lr": eta.linear(), "weight_decay": eta.linear()}, optimizer, horizon=10)
        optimizer.step()
        assert [g["weight_decay"] for g in optimizer.param_groups] == [0.1 * 0.9, 0.0]


class TestOthersWrite:
    def test_a_scheduler_built_after_attach_is_warned_of_once(self) -> None:
        optimizer = sgd(lr=0.1)
        handle = eta.attach(eta.linear(), optimizer, horizon=10)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        with pytest.warns(UserWarning, match="Something else writes 'lr' of param group 0") as seen:
            for _ in range(8):
                optimizer.step()
                scheduler.step()
            handle.state_dict()
        assert len(seen) == 1 and "handle.detach()" in str(seen[0].message)

    def test_at_a_saved_state_and_at_the_border_of_a_block(self) -> None:
        for look in (lambda o, h: h.state_dict(), lambda o, h: run(o, 1100)):
            optimizer = sgd(lr=0.1)
            handle = eta.attach(eta.linear(), optimizer, horizon=3000)
            run(optimizer, 1023 if look.__code__.co_names[0] == "run" else 9)
            optimizer.param_groups[0]["lr"] = 3.0
            assert handle.lrs == [3.0]  # what is there
            with pytest.warns(UserWarning, match=r"it is 3\.0, and the handle wrote 0\.0"):
                look(optimizer, handle)

    def test_what_the_handle_itself_does_is_not_taken_for_it(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer = sgd(2, lr=0.1)
            handle = eta.attach(eta.cosine(), optimizer, horizon=3000, groups={1: lambda t: 0.5}, added="follow")
            for t in range(2500):
                optimizer.step()
                if t % 50 == 7:
                    handle.scale *= 0.9
                    optimizer.load_state_dict(optimizer.state_dict())
                    handle.load_state_dict(handle.state_dict())
                if t % 501 == 500:
                    optimizer.add_param_group({"params": weights()})
                if t == 1023:
                    handle.extend(5000)
                    handle.step = 2047
            optimizer.param_groups = [dict(g) for g in optimizer.param_groups]
            run(optimizer, 3)


def test_a_function_that_raises_leaves_all_in_step() -> None:
    optimizer, broken = sgd(2, lr=0.1), [True]

    def fn(t: int) -> float:
        if t == 3 and broken[0]:
            raise KeyError("no such step")
        return 1 / (t + 1)

    handle = eta.attach(eta.linear(), optimizer, horizon=10, groups={1: fn})
    run(optimizer, 2)
    with pytest.raises(EtascopeError, match="raised KeyError at step 3"):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The update took place, with the values of step 2, which stay.
        assert handle.step == 3 and handle.lrs == lrs(optimizer) == [0.1 * 0.8, 0.1 * (1 / 3)]
        assert handle.state_dict()["step"] == 3
        with pytest.raises(EtascopeError, match="raised KeyError"):
            handle.scale = 0.5
        assert handle.scale == 1.0 and handle.peaks == [0.1, 0.1]
        broken[0] = False
        optimizer.step()
        assert handle.step == 4 and lrs(optimizer) == [0.1 * 0.6, 0.1 * (1 / 5)]


@dataclass(frozen=True, repr=False)
class odd(Factor[PlateauState]):
    """Says what it is shown."""

    State = PlateauState

    def init(self) -> PlateauState:
        return self.State()

    def observe(self, state: Any, metric: Any) -> Any:
        return self.State(bad=state.bad + 1), metric


def test_a_factor_that_is_no_number_changes_nothing() -> None:
    handle = eta.attach(eta.linear(), optimizer := sgd(), horizon=10, factors=[eta.plateau(patience=0), odd()])
    handle.observe(1.0)
    before = handle.state_dict()
    for wrong in (math.nan, math.inf, -1.0):
        with pytest.raises(OptionError, match=r"odd\(\) returned the factor"):
            handle.observe(wrong)
        assert handle.state_dict() == before
    assert handle.observe(2.0) == 0.1 * 2.0 and optimizer


def test_factors_need_an_lr() -> None:
    with pytest.raises(OptionError, match="no schedule drives it") as error:
        eta.attach({"momentum": eta.linear()}, sgd(momentum=0.9), horizon=10, factors=[eta.plateau()])
    assert '{"lr": constant(), ...}' in error.value.next_move


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, int])
def test_a_function_is_asked_once_whatever_number_it_returns(kind: Any) -> None:
    asked = []
    optimizer = sgd()
    eta.attach(lambda t: asked.append(t) or kind(2), optimizer, horizon=10)
    asked.clear()
    run(optimizer, 3)
    assert asked == [1, 2, 3] and lrs(optimizer) == [0.2] and type(optimizer.param_groups[0]["lr"]) is float


def test_a_numpy_lr_is_a_number() -> None:
    optimizer = sgd(lr=np.float32(0.5))  # type: ignore[arg-type]
    assert eta.attach(eta.linear(), optimizer, horizon=10).peaks == [0.5]


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "cause", "move"),
        [
            (lambda o: eta.attach(eta.cosine(), o), "depends on the horizon", "horizon=20_000"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=0), "horizon is 0", "at least 1"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=2.5), "horizon is 2.5", "whole"),
            (lambda o: eta.attach(eta.warmup("2ep"), o, horizon=10), "how long an epoch", "steps_per_epoch"),
            (lambda o: eta.attach(eta.cosine().bind(5), o, horizon=10), "already bound", "rescale"),
            (lambda o: eta.attach({}, o, horizon=10), "empty mapping", "cosine"),
            (lambda o: eta.attach({3: eta.cosine()}, o, horizon=10), "3 as a key", '"lr"'),
            (lambda o: eta.attach({"params": eta.cosine()}, o, horizon=10), "'params' as a key", '"lr"'),
            (lambda o: eta.attach({"momentun": eta.cosine()}, o, horizon=10), "not there", "lr, momentum, dampening"),
            (lambda o: eta.attach({"nesterov": eta.cosine()}, o, horizon=10), "no number", "momentum"),
            (lambda o: eta.attach({"beta1": eta.cosine()}, o, horizon=10), "not there", "momentum"),
            (lambda o: eta.attach(3, o, horizon=10), "not a schedule", "warmup"),
            (lambda o: eta.attach(eta.cosine, o, horizon=10), "is a class", "cosine"),
            (lambda o: eta.attach(lambda t: math.nan, o, horizon=10), "nan", "finite"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, groups={2: eta.cosine()}), "groups 0 to 1", "Name"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, groups={-1: eta.cosine()}), "has -1", "Name"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, groups=[eta.cosine()]), "groups is", "mapping"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, groups={1: {}}), "group 1 is an empty", "schedule"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, groups={1: {"eps": None}}), "not there", "lr"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, lr=-1), "lr is -1", "finite"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, lr="0.1x"), "0.1x", "finite"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, lr=[0.1]), "1 values", "each group"),
            (lambda o: eta.attach(eta.absolute(eta.cosine()), o, horizon=10, lr=1), "no schedule multiplies", "Leave"),
            (lambda o: eta.attach({"momentum": None}, o, horizon=10, lr=1), "no schedule multiplies", "Leave"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, clock="epochs"), "clock is 'epochs'", "updates"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, added="ignore"), "added is 'ignore'", "follow"),
            (lambda o: eta.attach(eta.cosine(), o, horizon=10, factors=[eta.cosine()]), "no factor", "plateau"),
            (lambda o: eta.attach(eta.cosine(), [o], horizon=10), "list is no torch optimizer", "Optimizer"),
        ],
    )
    def test_is_refused_and_nothing_is_changed(self, call: Any, cause: str, move: str) -> None:
        optimizer = sgd(2, lr=0.1)
        before, names = [dict(g) for g in optimizer.param_groups], set(vars(optimizer))
        with pytest.raises(EtascopeError, match=cause) as error:
            call(optimizer)
        assert re.search(move, error.value.next_move)
        assert [dict(g) for g in optimizer.param_groups] == before and set(vars(optimizer)) == names
        assert not optimizer._optimizer_step_post_hooks and not optimizer._optimizer_load_state_dict_post_hooks
        eta.attach(eta.cosine(), optimizer, horizon=10)

    def test_a_second_handle(self) -> None:
        optimizer = sgd()
        handle = eta.attach(eta.cosine(), optimizer, horizon=10)
        with pytest.raises(OptionError, match="already has a handle") as error:
            eta.attach(eta.cosine(), optimizer, horizon=10)
        assert "detach" in error.value.next_move
        handle.detach()
        eta.attach(eta.cosine(), optimizer, horizon=10)

    def test_a_scheduler_that_was_there_before(self) -> None:
        optimizer = sgd(lr=0.1)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5)
        with pytest.raises(OptionError, match=r"is 0\.05, and its initial_lr 0\.1") as error:
            eta.attach(eta.cosine(), optimizer, horizon=10)
        assert "lr=0.1" in error.value.next_move
        eta.attach(eta.cosine(), optimizer, lr=0.1, horizon=10)
        assert lrs(optimizer) == [0.1]
