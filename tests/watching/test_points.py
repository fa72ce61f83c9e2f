"""What a watch owes to runs that are not quite the usual one: accumulation, schedules of one's own, several logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import etascope as eta
from etascope.errors import OptionError, RecordError

from .training import HORIZON, Batches, Training


def net(lr: Any = 0.1, groups: int = 1) -> tuple[nn.Linear, torch.optim.SGD]:
    """A model of two parameters, in as many groups as there are to be, and SGD."""
    model = nn.Linear(2, 1)
    parts = [model.parameters()] if groups == 1 else [[model.weight], [model.bias]]
    return model, torch.optim.SGD([{"params": part, "lr": lr} for part in parts])


def steps(w: Any, model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    """So many updates; the lrs that they were made with."""
    lrs = []
    for _ in range(count):
        loss = (model(torch.ones(4, 2)) - 1).square().mean()
        loss.backward()
        w.observe(loss)
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        optimizer.zero_grad()
    return lrs


def test_batches_last_through_gradient_accumulation() -> None:
    model, sgd = net()
    handle, drawn = eta.attach(eta.cosine(), sgd, horizon=700), 0
    with eta.watch(model, sgd, schedule=handle, log=None) as w:
        for batch in w.batches([torch.ones(4, 2)]):
            drawn += 1
            loss = (model(batch) - 1).square().mean()
            loss.backward()
            if drawn % 8 == 0:
                w.observe(loss)
                sgd.step()
                sgd.zero_grad()
    assert (handle.step, drawn) == (700, 5600)


def test_a_log_whose_place_another_took_is_still_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (first, one), (second, two) = net(0.1), net(0.5)
    w, v = eta.watch(first, one, log="run.jsonl"), eta.watch(second, two, log="run.jsonl")
    steps(w, first, one, 5)
    steps(v, second, two, 5)
    monkeypatch.chdir("/")
    assert (w.why(3).lr, v.why(3).lr) == (0.1, 0.5)
    monkeypatch.chdir(tmp_path)
    state = w.state_dict()
    w.close()
    v.close()
    third, three = net(0.1)
    with eta.watch(third, three, log="run.jsonl") as u:
        u.load_state_dict(state)
        steps(u, third, three, 5)
        assert [o.step for o in u.log.observations()] == list(range(10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.1.jsonl", "run.jsonl"]


def test_a_function_of_the_users_is_asked_for_the_present_step_alone() -> None:
    asked: list[int] = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 1.0 / (1 + step)

    model, sgd = net()
    handle = eta.attach(schedule, sgd, horizon=100)
    before = len(asked)
    with eta.watch(model, sgd, schedule=handle, log=None, act=True) as w:
        assert len(asked) == before
        steps(w, model, sgd, 3)
    assert max(asked) <= 3


def test_a_handle_that_leaves_an_lr_alone_cannot_cut_it() -> None:
    model, sgd = net()
    sgd.param_groups[0]["weight_decay"] = 0.1
    handle = eta.attach({"weight_decay": eta.linear()}, sgd, horizon=100)
    with pytest.raises(OptionError, match="does not drive the lr of param group 0") as caught:
        eta.watch(model, sgd, schedule=handle, log=None, act=True)
    assert "eta.constant()" in caught.value.next_move
    with eta.watch(model, sgd, schedule=handle, log=None) as w:  # who only looks cuts nothing
        steps(w, model, sgd, 3)


def test_an_absolute_schedule_drives_the_lr_too() -> None:
    model, sgd = net()
    handle = eta.attach({"lr": eta.absolute(eta.linear())}, sgd, horizon=50)
    with eta.watch(model, sgd, schedule=handle, log=None) as w:
        assert sum(1 for _ in zip(w.batches([0]), range(3), strict=False)) == 3  # the horizon is known
        steps(w, model, sgd, 20)
        assert w.why(10).exact and w.why(10).peak == 1.0 and w.why(10).schedule == 0.8
        sgd.param_groups[0]["lr"] = 0.3
        steps(w, model, sgd, 1)
        assert "ETA013" in {said.code for said in [*w.notes, *w.decisions]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_tensor_lr_is_explained(dtype: torch.dtype) -> None:
    model, sgd = net(torch.tensor(3e-3, dtype=dtype), groups=2)
    handle = eta.attach(eta.cosine(), sgd, horizon=50)
    with eta.watch(model, sgd, schedule=handle, log=None) as w:
        steps(w, model, sgd, 40)
        whys = [w.why(step) for step in range(40)]
    assert all(why.exact for why in whys)
    assert whys[20].lr == pytest.approx(3e-3 * eta.cosine().bind(50)(20))


def test_a_resumed_run_may_be_longer_and_no_looser() -> None:
    model, sgd = net()
    w = eta.watch(model, sgd, horizon=20, log=None)
    steps(w, model, sgd, 10)
    state = w.state_dict()
    w.close()
    again, other = net()
    with eta.watch(again, other, horizon=50, log=None) as v:
        v.load_state_dict(state)
        assert sum(len(steps(v, again, other, 1)) for _ in v.batches([0])) == 40
    for name, value in (("bounds", (0.1, 2.0)), ("interventions", 5), ("keep", 1), ("healthy", 3)):
        third, three = net()
        u = eta.watch(third, three, horizon=20, log=None, **{name: value})
        with u, pytest.raises(OptionError, match=f"has {name}="):
            u.load_state_dict(state)


def test_frozen_layers_are_no_fault() -> None:
    training = Training()
    for p in training.model[0].parameters():
        p.requires_grad_(False)
    with training.watch(probe_every=20) as w:
        for x, y in w.batches(Batches()):
            training.step(x, y, w)
            if w.step == HORIZON // 2:
                for p in training.model[0].parameters():
                    p.requires_grad_(True)
    assert "ETA012" not in {note.code for note in w.notes}
    layers = [set(line["layers"]) for line in w.log.of("probe")]
    assert layers[0] == {"3"} and layers[-1] == {"0", "3"}


def test_a_log_that_is_gone_is_not_mistaken_for_another(tmp_path: Path) -> None:
    (first, one), (second, two) = net(0.1), net(0.5)
    w, v = eta.watch(first, one, log=tmp_path / "run.jsonl"), eta.watch(second, two, log=tmp_path / "run.jsonl")
    steps(w, first, one, 5)
    steps(v, second, two, 5)
    (tmp_path / "run.1.jsonl").unlink()
    with pytest.raises(RecordError, match="no longer at"):
        w.why(3)
    assert v.why(3).lr == 0.5
    w.close()
    v.close()


def test_an_lr_that_somebody_wrote_is_logged_as_it_is() -> None:
    model, sgd = net()
    handle = eta.attach(eta.cosine(), sgd, horizon=50)
    with eta.watch(model, sgd, schedule=handle, log=None) as w:
        steps(w, model, sgd, 5)
        sgd.param_groups[0]["lr"] = 1
        steps(w, model, sgd, 1)
        assert w.why(5).lr == 1.0 and not w.why(5).exact
    model, sgd = net(torch.tensor(0.1))
    handle = eta.attach(eta.cosine(), sgd, horizon=50)
    with eta.watch(model, sgd, schedule=handle, log=None) as w:
        steps(w, model, sgd, 5)
        handle.detach()
        sgd.param_groups[0]["lr"].fill_(0.75)
        steps(w, model, sgd, 1)
        assert [o.lr for o in w.log.observations()][-1] == 0.75


def test_bounds_may_be_a_list_and_resume() -> None:
    model, sgd = net()
    with eta.watch(model, sgd, horizon=20, bounds=[0.1, 2], log=None) as w:
        steps(w, model, sgd, 3)
        state = w.state_dict()
    with eta.watch(model, sgd, horizon=20, bounds=[0.1, 2], log=None) as w:
        w.load_state_dict(state)


def test_a_limit_that_the_optimizers_state_outgrows_is_no_end_of_the_training() -> None:
    training = Training()
    parameters = sum(p.numel() * p.element_size() for p in training.model.parameters())
    w = training.watch(act=True, limit_bytes=3 * parameters, every=25)
    with w, pytest.warns(UserWarning, match="snapshots that are left"):
        for number, (x, y) in enumerate(w.batches(Batches())):
            training.step(x, y, w)
            if number % 40 == 0:
                w.validate(1.0)
    assert training.handle.step == HORIZON and len(list(w.log.of("lost"))) <= HORIZON // 25
