"""The race from end to end, on tasks small enough to run many times."""

import json
import math
import shutil
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta
from etascope.finder.progress import Silent
from etascope.workloads import get


def quadratic(lr, steps, seed):
    """Gradient descent on x²: useless below 1e-4, best near 0.5, divergent from 1 on."""
    x = 1.0 + 0.01 * np.random.default_rng(seed).standard_normal()
    for step in range(steps):
        x -= lr * 2 * x
        yield step, x * x
    return x * x


def without_times(record):
    return {k: v for k, v in record.to_json().items() if k not in ("wall_s", "eval_s")}


@pytest.fixture(scope="module")
def digits():
    return eta.find(get("digits"), seed=3, engine="lanes", name="digits")


def test_answer_of_a_training_function_is_inside_its_basin():
    found = eta.find(quadratic, horizon=200)
    assert 0.01 < found.lr < 1.0
    assert abs(math.log10(found.edge)) < 0.15  # |1 − 2 lr| > 1 from 1 on
    assert found.cost <= 1.0
    assert found.judge(2.0).verdict == "diverges"
    assert found.judge(1e-5).verdict == "too low"


@pytest.mark.parametrize("budget", [0.05, 0.1, 0.3, 1.0, 2.5])
def test_budget_is_never_exceeded(budget):
    found = eta.find(get("breast-cancer"), budget=budget, seed=1, engine="lanes")
    assert found.cost <= budget + 1e-9
    assert found.interval[0] <= found.lr <= found.interval[1]
    assert found.zone[0] <= found.lr <= found.zone[1]


def test_same_seed_same_answer(digits):
    again = eta.find(get("digits"), seed=3, engine="lanes", name="digits")
    assert without_times(again) == without_times(digits)


def test_finding_on_digits_lies_in_the_zone_of_its_sweep(digits):
    sweep = eta.sweep(get("digits"), lrs=[1e-3, 3e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2], seeds=(0, 1), engine="lanes")
    assert sweep.losses.shape == (7, 2)
    assert sweep.regret(digits.lr) < 0.02


def test_strict_json_has_the_keys_of_the_contract(digits, tmp_path):
    digits.save(tmp_path / "finding.json")
    data = json.loads((tmp_path / "finding.json").read_text(), parse_constant=pytest.fail)
    keys = [
        "schema",
        "task",
        "lr",
        "interval",
        "zone",
        "edge",
        "loss",
        "cost",
        "eval_s",
        "wall_s",
        "horizon",
        "seed",
        "engine",
        "mine",
        "rungs",
        "versions",
    ]
    assert set(keys) <= set(data)
    assert {"engine", "chunk", "threads"} <= set(data["engine"])
    assert {"steps", "lrs", "seeds", "losses", "curves"} <= set(data["rungs"][0])
    assert eta.load(tmp_path / "finding.json").to_json() == data


@pytest.mark.parametrize("engine", ["loop", "lanes"])
def test_a_cut_journal_continues_to_the_same_finding(tmp_path, engine):
    find = partial(eta.find, get("breast-cancer"), seed=2, engine=engine, budget=0.5)
    whole = find(out=tmp_path / "whole")
    kept = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for lines in (1, 2, 3, 5):
        cut = shutil.copytree(tmp_path / "whole", tmp_path / f"{lines}")
        cut.joinpath("journal.jsonl").write_bytes(b"".join(kept[:lines]) + kept[lines][:40])  # as a kill leaves it
        assert without_times(find(out=cut)) == without_times(whole)


def test_a_foreign_or_damaged_journal_is_refused(tmp_path):
    eta.find(quadratic, horizon=100, out=tmp_path)
    with pytest.raises(eta.RecordError, match="seed"):
        eta.find(quadratic, horizon=100, seed=1, out=tmp_path)
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"curves": [{', b'"curves": [{"lr": "x", ', 1))
    journal.write_bytes(journal.read_bytes().replace(b'"x", "lr": ', b'"x", "was": ', 1))
    with pytest.raises(eta.RecordError, match=r"is damaged in line 2: curves\[0\]\.lr is 'x'"):
        eta.find(quadratic, horizon=100, out=tmp_path)


def test_ctrl_c_gives_the_best_so_far_and_the_same_call_goes_on(tmp_path):
    calls = []

    def run(lr, steps, seed, stop=True):
        calls.append(lr)
        if stop and len(calls) == 14:
            raise KeyboardInterrupt
        return next(iter([v for v in [1.0 / (1 + lr * steps)] if lr < 1] or [math.inf]))

    with pytest.raises(eta.Interrupted) as caught:
        eta.find(run, horizon=400, init_loss=1.0, out=tmp_path, name="f")
    assert caught.value.finding is not None
    assert not caught.value.finding.complete
    whole = eta.find(partial(run, stop=False), horizon=400, init_loss=1.0, name="f")
    assert without_times(eta.find(run, horizon=400, init_loss=1.0, out=tmp_path, name="f")) == without_times(whole)


def classifier(x, y, **options):
    return eta.Task(
        **{
            "model": partial(torch.nn.Linear, x.shape[1], 3),
            "loss": lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
            "optimizer": torch.optim.SGD,
            "train": DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True),
            "horizon": 100,
        }
        | options
    )


def test_flat_loss_is_no_answer(tmp_path):
    x = torch.zeros(64, 4)
    task = classifier(x, torch.zeros(64, dtype=torch.long))
    flat = eta.Task(
        model=task.model,
        loss=lambda model, batch: 1.0 + 0.0 * model(batch[0]).sum(),
        optimizer=torch.optim.SGD,
        train=task.train,
        horizon=100,
    )
    with pytest.raises(eta.NoAnswer, match="flat") as caught:
        eta.find(flat, out=tmp_path)
    assert caught.value.record.to_json() == eta.load(tmp_path).to_json()
    assert caught.value.exit_code == 3


def test_everything_diverging_is_no_answer():
    with pytest.raises(eta.NoAnswer, match="everything diverges"):
        eta.find(lambda lr, steps, seed: 2.0 if steps else 1.0, horizon=100)


def test_a_function_that_always_raises_is_a_task_error():
    def run(lr, steps, seed):
        raise RuntimeError("no data here")

    with pytest.raises(eta.TaskError, match="no data here") as caught:
        eta.find(run, horizon=100)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_function_that_fails_in_longer_runs_is_a_task_error(tmp_path):
    def run(lr, steps, seed, most=20):
        if steps > most:
            raise RuntimeError("the disk is full of checkpoints")
        yield from quadratic(lr, steps, seed)
        return (1 - 2 * lr) ** (2 * steps)

    find = partial(eta.find, horizon=200, init_loss=1.0, out=tmp_path, name="f")
    line = run.__code__.co_firstlineno + 2
    with pytest.raises(eta.TaskError, match=rf"the disk is full of checkpoints\n  at .*test_find\.py:{line}") as caught:
        find(run)
    assert isinstance(caught.value.__cause__, RuntimeError)
    mended = partial(run, most=1000)
    assert without_times(find(mended)) == without_times(eta.find(mended, horizon=200, init_loss=1.0, name="f"))


def test_calls_that_raise_while_others_succeed_are_noted():
    def run(lr, steps, seed):
        if lr > 0.9:
            raise FloatingPointError("overflow")
        return (1 - 2 * lr) ** (2 * steps)

    found = eta.find(run, horizon=200, init_loss=1.0)
    (note,) = [note for note in found.notes if "raised" in note]
    assert "calls of run(lr, steps, seed) raised" in note and "FloatingPointError: overflow" in note
    assert found.edge is not None


def test_a_function_that_ends_the_program_is_a_task_error():
    def run(lr, steps, seed):
        raise SystemExit(3)

    with pytest.raises(eta.TaskError, match=r"ended the program, by sys\.exit\(3\)\n  at .*test_find\.py"):
        eta.find(run, horizon=100)


@pytest.mark.parametrize("value", [None, "0.3"])
def test_a_function_that_returns_no_loss_is_a_task_error(value):
    with pytest.raises(eta.TaskError, match="not a loss"):
        eta.find(lambda lr, steps, seed: value, horizon=100, init_loss=1.0)


def test_nan_in_a_later_batch_is_named():
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    x[40, 1] = math.nan
    train = [(x[i : i + 16], torch.zeros(16, dtype=torch.long)) for i in range(0, 64, 16)]
    task = classifier(x, torch.zeros(64, dtype=torch.long))
    with pytest.raises(eta.TaskError, match="training batch 2"):
        eta.find(eta.Task(model=task.model, loss=task.loss, optimizer=torch.optim.SGD, train=train, horizon=400))


@pytest.mark.parametrize("engine", ["loop", "lanes"])
def test_one_nan_row_in_shuffled_data_is_named_whenever_a_rung_meets_it(engine):
    x = torch.randn(512, 4, generator=torch.Generator().manual_seed(0))
    x[300, 1] = math.nan
    task = classifier(x, (x[:, 0] > 0).long(), horizon=400)
    for seed in range(3):
        with pytest.raises(eta.TaskError, match=r"the data is (why|not finite): training batch"):
            eta.find(task, engine=engine, seed=seed)
    with pytest.raises(eta.TaskError, match=r"the data is why: training batch .* of seed 2"):
        eta.sweep(task, lrs=[1e-3, 1e-2], seeds=(2,), engine=engine)


def test_a_sweep_in_which_everything_diverges_is_no_answer(tmp_path):
    with pytest.raises(eta.NoAnswer, match="everything diverges") as caught:
        eta.sweep(quadratic, horizon=50, lrs=[2.0, 4.0], init_loss=1.0, out=tmp_path)
    assert isinstance(caught.value.record, eta.Sweep)
    assert eta.load(tmp_path) == caught.value.record


@pytest.mark.parametrize("verb", [eta.find, eta.sweep])
def test_a_loss_that_is_not_finite_at_the_start_leaves_a_record(tmp_path, verb):
    x = torch.randn(64, 4)
    task = classifier(x, torch.zeros(64, dtype=torch.long))
    nan = eta.Task(
        model=task.model,
        loss=lambda model, batch: model(batch[0]).sum() * math.nan,
        optimizer=torch.optim.SGD,
        train=task.train,
        horizon=100,
    )
    for _ in range(2):  # what answers nothing may be overwritten
        with pytest.raises(eta.NoAnswer, match="at the start") as caught:
            verb(nan, out=tmp_path)
    assert caught.value.record.reason in caught.value.cause
    assert caught.value.record.to_json() == eta.load(tmp_path).to_json()
    assert "at the start" in str(caught.value.record)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_min": 1.0, "lr_max": 0.1},
        {"lr_min": -1.0},
        {"lr_max": 0.0},
        {"budget": 0},
        {"budget": "soon"},
        {"budget": None},
        {"budget": "nan"},
        {"budget": True},
        {"lr_min": "1e-3"},
        {"init_loss": math.nan},
        {"horizon": 0},
        {"horizon": None},
        {"seed": -1},
        {"mine": -0.1},
        {"engine": "lanes"},
        {"budget": 0.001},
    ],
)
def test_bad_options_name_cause_and_next_move(options):
    with pytest.raises(eta.OptionError) as caught:
        eta.find(quadratic, **({"horizon": 100} | options))
    assert caught.value.next_move


@pytest.mark.parametrize(
    "options",
    [
        {"lr_min": 0},
        {"lr_max": 0},
        {"lrs": 1e-2},
        {"lrs": 1},
        {"lrs": None},
        {"lrs": []},
        {"lrs": "1e-3"},
        {"lrs": [1e-3, -1]},
        {"seeds": 3},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (0.5,)},
    ],
)
def test_bad_options_of_a_sweep_name_cause_and_next_move(options):
    with pytest.raises(eta.OptionError) as caught:
        eta.sweep(quadratic, **({"horizon": 100} | options))
    assert caught.value.next_move and next(iter(options)).split("_")[0] in caught.value.cause


def test_numpys_numbers_are_numbers(tmp_path):
    f = np.float32
    found = eta.find(
        quadratic, horizon=np.int64(100), budget=f(1), seed=np.int32(1), lr_min=f(1e-4), lr_max=np.float64(10),
        init_loss=f(1), mine=f(0.01), out=tmp_path / "find",
    )  # fmt: skip
    assert found.mine.verdict == found.judge(np.float32(0.01)).verdict == found.judge(np.float64(0.01)).verdict
    assert type(found.judge(np.float32(0.01)).lr) is float
    swept = eta.sweep(
        quadratic, horizon=20, lrs=np.array([1e-3, 1e-2], dtype=f), seeds=np.arange(2), out=tmp_path / "sweep"
    )
    assert swept.losses.shape == (2, 2)


def test_a_plan_checks_and_names_as_find_does():
    with pytest.raises(eta.OptionError, match="mine"):
        eta.plan(quadratic, horizon=100, mine=-1)
    drawn_up = eta.plan(quadratic, horizon=400, mine=0.1)
    assert f"about {drawn_up.rungs[0][0]} settings" in str(drawn_up).splitlines()[1]
    told = []

    class Told(Silent):
        def plan(self, line):
            told.append(line)

        def rung(self, line):
            told.append(line)

    eta.find(quadratic, horizon=400, progress=Told())
    names = [line.split(":")[0] for line in told]
    assert [row.strip().split(":")[0] for row in str(drawn_up).splitlines()] == names


def test_explicit_lanes_never_fall_back():
    task = classifier(torch.randn(64, 4), torch.zeros(64, dtype=torch.long))
    adafactor = eta.Task(
        model=task.model, loss=task.loss, optimizer=torch.optim.Adafactor, train=task.train, horizon=400
    )
    with pytest.raises(eta.EngineError, match="Adafactor"):
        eta.find(adafactor, engine="lanes")
    assert "Adafactor" in eta.find(adafactor).engine.why


def test_global_random_states_are_as_before():
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    eta.find(get("breast-cancer"), budget=0.1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
