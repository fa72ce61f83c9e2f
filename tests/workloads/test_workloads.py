"""Each built-in task can be trained, and starts the same from the same seed."""

import math
import subprocess
import sys

import pytest
import torch

from etascope.errors import OptionError
from etascope.task import Task
from etascope.workloads import TASKS, get

NAMES = ["digits", "digits-cnn", "gpt-chars", "lstm-chars", "diabetes", "breast-cancer", "wine-rmsprop"]


def started(name, seed=0):
    """The task, its model and its optimizer, as a plain user would make them."""
    task = get(name)
    torch.manual_seed(seed)
    model = task.model()
    params = model.parameters() if task.params is None else task.params(model)
    return task, model, task.optimizer(params, lr=1e-3)


def test_the_registry_has_the_seven_tasks():
    assert list(TASKS) == NAMES
    for name, entry in TASKS.items():
        assert entry.name == name
        assert 0 < len(entry.summary) <= 90 and "\n" not in entry.summary


def test_the_registry_loads_no_torch():
    code = "import sys, etascope.workloads; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["digit", "Digits", "digits_cnn", "gpt"])
def test_an_unknown_name_gets_the_nearest(name):
    nearest = {"digit": "digits", "Digits": "digits", "digits_cnn": "digits-cnn", "gpt": "gpt-chars"}[name]
    with pytest.raises(OptionError, match=f"'{name}'") as caught:
        get(name)
    assert repr(nearest) in caught.value.next_move
    assert "etascope tasks" in caught.value.next_move


def test_an_unknown_name_like_none_gets_the_list():
    with pytest.raises(OptionError) as caught:
        get("mnist-xl-9000")
    assert caught.value.next_move.startswith("`etascope tasks`")


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_loss_is_a_finite_scalar_at_the_start(self, name):
        task, model, _ = started(name)
        for loader in (task.train, task.val):
            loss = task.loss(model, next(iter(loader)))
            assert loss.shape == ()
            assert math.isfinite(loss.item())

    def test_ten_steps_lower_the_loss_on_their_batch(self, name):
        task, model, optimizer = started(name)
        model.eval()  # without dropout, so that the two losses compare
        batch = next(iter(task.train))
        before = task.loss(model, batch).item()
        for _ in range(10):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
        assert task.loss(model, batch).item() < before

    def test_every_parameter_is_trained_once(self, name):
        _, model, optimizer = started(name)
        trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(trained) == sorted(id(p) for p in model.parameters())

    def test_same_seed_same_start(self, name):
        first, same, other = (started(name, seed)[1].state_dict() for seed in (3, 3, 4))
        assert all(torch.equal(first[key], same[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)

    def test_train_and_val_are_fixed_and_apart(self, name):
        def inputs(loader):
            batches = [loader] if isinstance(loader, list) else [torch.utils.data.DataLoader(loader.dataset)]
            return [tuple(batch[0].flatten().tolist()) for batch in batches[0]]

        first, second = get(name), get(name)
        assert inputs(first.train) == inputs(second.train)
        assert inputs(first.val) == inputs(second.val)
        shared = set(inputs(first.train)) & set(inputs(first.val))
        assert len(shared) <= 0.01 * len(inputs(first.val))  # a sentence may stand twice in a text

    def test_it_is_a_task_with_a_horizon_of_its_own(self, name):
        task = get(name)
        assert isinstance(task, Task)
        assert task.name == name
        assert 200 <= task.horizon <= 1500


def test_gpt_decays_matrices_of_linear_layers_only():
    _, model, optimizer = started("gpt-chars")
    decayed, rest = optimizer.param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)
    names = {id(p): name for name, p in model.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} >= {"head.weight", "blocks.0.qkv.weight"}
    for p in rest["params"]:
        name = names[id(p)]
        assert name.endswith("bias") or "norm" in name or name in ("characters.weight", "positions.weight")


def test_gpt_sees_no_later_character():
    task, model, _ = started("gpt-chars")
    characters = next(iter(task.train))[0][:1].clone()
    before = model(characters)
    characters[0, 40:] = 0
    after = model(characters)
    torch.testing.assert_close(before[:, :40], after[:, :40])
    assert not torch.allclose(before[:, 40:], after[:, 40:])
