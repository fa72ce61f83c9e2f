"""Real situations: one param group's lr, a start from a checkpoint, pretrained weights."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import etascope as eta

X, Y = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
X, Y = X.float() / 16, Y.long()
BATCHES = list(zip(X[:1400].split(70), Y[:1400].split(70), strict=True))
VAL = [(X[1400:], Y[1400:])]


def classify(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.body(x).relu())


def groups(body_lr):
    return lambda model: [
        {"name": "body", "params": model.body.parameters(), **body_lr},
        {"name": "head", "params": model.head.parameters()},
    ]


def task(**changes):
    usual = {
        "model": Net, "loss": classify, "optimizer": torch.optim.Adam, "train": BATCHES, "val": VAL, "horizon": 120,
    }  # fmt: skip
    return eta.Task(**(usual | changes))


@pytest.mark.parametrize("engine", ["lanes", "loop"])
def test_a_group_is_found_while_the_others_keep_their_lr(engine):
    """The same as a model whose body is trained by hand at that lr: sweep two lrs of the head."""
    together = eta.sweep(task(params=groups({"lr": 1e-3})), lrs=[1e-3, 1e-2], group="head", engine=engine).losses
    (same,) = eta.sweep(task(), lrs=[1e-3], engine=engine).losses
    (ratio,) = eta.sweep(task(params=groups({"lr_scale": 0.1})), lrs=[1e-2], engine=engine).losses
    assert together == pytest.approx(np.stack([same, ratio]), rel=1e-4)


def test_find_takes_a_group_by_name():
    found = eta.find(task(params=groups({"lr": 1e-6})), group="head", progress=False)
    assert any("'head'" in note for note in found.notes)
    both = eta.find(task(), progress=False)
    assert found.lr > both.lr  # the head alone, on features that hardly move, takes more


@pytest.mark.parametrize(
    ("changes", "group", "said"),
    [
        ({"params": groups({"lr": 1e-3})}, "neck", "no param group has the name 'neck'"),
        ({}, "head", "no param group has the name 'head'"),
        ({"params": groups({})}, "head", "has no lr of its own"),
        ({"params": groups({"lr": 1e-3})}, None, "absolute lr"),
        ({"params": groups({"lr": -1.0})}, "head", "lr=-1.0"),
    ],
)
def test_groups_that_cannot_be_told_apart_are_refused(changes, group, said):
    with pytest.raises(eta.TaskError, match=said):
        eta.find(task(**changes), group=group, progress=False)


def test_a_journal_of_one_groups_lr_is_not_continued_for_another(tmp_path):
    def params(model):
        return [{"name": n, "params": p.parameters(), "lr_scale": 1.0} for n, p in model.named_children()]

    eta.find(task(params=params), group="head", budget=0.5, out=tmp_path, progress=False)
    with pytest.raises(eta.RecordError, match="group"):
        eta.find(task(params=params), group="body", budget=0.5, out=tmp_path, progress=False)


def test_a_training_function_has_no_groups():
    with pytest.raises(eta.OptionError, match="no param groups"):
        eta.find(lambda lr, steps, seed: 1.0, horizon=100, group="head")


def checkpoint(steps):
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for x, y in (BATCHES * steps)[:steps]:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net, optimizer


def test_a_resumed_training_goes_on_from_the_moments():
    """Against torch alone: 60 steps, then 20 more at another lr."""
    net, optimizer = checkpoint(60)
    state, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(net.state_dict())
    given = task(
        model=net, optimizer=eta.resumed(torch.optim.Adam, optimizer.state_dict()), horizon=20, train=BATCHES[:20]
    )
    (rung,) = eta.sweep(given, lrs=[1e-3]).rungs
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in weights.items())
    for mine, theirs in zip(state["state"].values(), optimizer.state_dict()["state"].values(), strict=True):
        assert torch.equal(mine["exp_avg"], theirs["exp_avg"])
    optimizer.param_groups[0]["lr"] = 1e-3
    for x, y in BATCHES[:20]:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        assert rung.curves[0].val[-1] == (20, pytest.approx(classify(net, VAL[0]).item(), rel=1e-5))


def test_a_resumed_task_is_found_a_lower_lr_than_a_fresh_one():
    net, optimizer = checkpoint(100)
    given = task(model=net, optimizer=eta.resumed(torch.optim.Adam, optimizer.state_dict()), horizon=500)
    found = eta.find(given, progress=False)
    assert found.engine.engine == "loop"
    assert found.init_loss < 1.0
    assert found.lr < eta.find(task(horizon=500), progress=False).lr
