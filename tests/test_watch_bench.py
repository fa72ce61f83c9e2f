"""The scoring and the faults of the guard's benchmark, on a toy; no real data."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = ("arms", "faults", "runs", "scores", "workloads")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules, as the script beside them imports them."""
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: import_module(f"watching.{name}") for name in NAMES})
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and str(BENCHMARKS) in str(sys.modules[name].__file__):
                del sys.modules[name]


@pytest.fixture(scope="module")
def toy(bench: SimpleNamespace) -> Any:
    """A linear classifier of made-up points, 40 updates."""
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    data = [x, (x[:, 0] > 0).long()]
    model = lambda: torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))  # noqa: E731
    work = bench.workloads.Workload(
        "toy", model, lambda: (data, data), bench.workloads.MOMENTUM, 0.1, 40, 8, "10%", 2, "0"
    )
    bench.workloads.WORKLOADS["toy"] = work
    return work


def record(kind: str, final: float | str, alarms: list[int] | None = None, start: int | None = 10) -> dict[str, Any]:
    """A run of 40 batches; the clean run goes from 3 to 1."""
    alarms = alarms or []
    after = [n for n in alarms if start is not None and n >= start]
    return {
        "workload": "toy", "kind": kind, "seed": 0, "start": start, "init": 3.0, "final": final, "ended": "horizon",
        "batches": 40, "updates": 40, "n_alarms": len(alarms), "n_after": len(after), "recovery": None,
        "first_after": after[0] if after else None, "alarms": [[n, "ETA000", "skip", True] for n in alarms],
        "seconds": 1.0,
    }  # fmt: skip


def test_scores(bench: SimpleNamespace, toy: Any) -> None:
    # kind                 unguarded        guarded
    # NaN in a gradient    nan: changed     1.03, 1.5% off: saved; an alarm at 8 is before the fault, one at 12 after
    # 1 corrupt batch      1.05: changed    1.05, no alarm
    # 5 corrupt batches    0.5: better      1.5: harmed, one alarm
    cells = {kind: ("toy", kind, 0) for kind in ("clean", "NaN in a gradient", "1 corrupt batch", "5 corrupt batches")}
    plain = dict(zip(cells.values(), [
        record("clean", 1.0, start=None), record("NaN in a gradient", "nan"), record("1 corrupt batch", 1.05),
        record("5 corrupt batches", 0.5),
    ], strict=True))  # fmt: skip
    guarded = dict(zip(cells.values(), [
        record("clean", 1.01, [3], start=None), record("NaN in a gradient", 1.03, [8, 12]),
        record("1 corrupt batch", 1.05), record("5 corrupt batches", 1.5, [11]),
    ], strict=True))  # fmt: skip
    scored = bench.scores.scores({"nothing": plain, "guarded": guarded})["arms"]["guarded"]
    faulty = scored["faulty"]
    expected = {"runs": 3, "changed": 2, "recalled": 1, "recalled_of_all": 2, "saved": 1, "harmed": 1, "delay": 1.5}
    assert {key: faulty[key] for key in expected} == expected
    assert faulty["alarms_before"] == 1
    assert faulty["off"] == pytest.approx(0.02)
    assert scored["clean"]["per_10k"] == 1e4 / 40
    assert scored["clean"]["worst_off"] == pytest.approx(0.005)
    assert bench.scores.off(plain[cells["NaN in a gradient"]], plain[cells["clean"]]) == math.inf


def test_recovery(bench: SimpleNamespace, toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    course = np.linspace(3.0, 1.0, 100)
    was = {"init": 3.0, "final": 1.0}
    monkeypatch.setattr(bench.runs, "clean", lambda name, seed: (was, course, course))

    def after(added: np.ndarray, updates: range | list[int] = range(1, 101)) -> int | None:
        found: int | None = bench.runs.recovery({"workload": "toy", "seed": 0, "start": 20}, course + added, updates)
        return found

    batches = np.arange(100)
    assert after(np.zeros(100)) == 0
    # Ten losses' median falls when four of the ten are low: 20 ... 39 are off, so it does at 45.
    assert after(np.where((batches >= 20) & (batches < 40), 1.0, 0.0)) == 25
    assert after(np.where(batches >= 20, 1.0, 0.0)) is None
    assert after(np.where(batches >= 20, np.nan, 0.0)) is None
    assert after(np.zeros(100), [*range(1, 31), *[30] * 70]) is None


def test_a_scaler_at_inf_never_trains_again(bench: SimpleNamespace, toy: Any) -> None:
    found, losses, updates = bench.runs.train(toy, 0, "exploding scaler", "nothing")
    assert found["batches"] == len(losses) == 40
    assert updates[-1] == found["start"]


@pytest.mark.filterwarnings("ignore:Something else writes")
def test_every_fault_starts_in_the_middle_half_and_changes_nothing_before(bench: SimpleNamespace, toy: Any) -> None:
    clean = bench.runs.train(toy, 0, "clean", "nothing")[1]
    for kind in bench.faults.FAULTS:
        found, losses, _ = bench.runs.train(toy, 0, kind, "nothing")
        assert losses[: found["start"]] == pytest.approx(clean[: found["start"]], rel=1e-5), kind
        assert kind == "lr left at warmup" or 10 <= found["start"] < 30
        assert losses[found["start"] :] != clean[found["start"] :], kind


def test_what_holds_the_lr_multiplies_it_once_an_update(bench: SimpleNamespace, toy: Any) -> None:
    fault = bench.faults.Outside10(toy, 0)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    lrs = []
    for written in (0.1, None, 0.05):  # the second update is not made, and nobody writes after it
        if written:
            optimizer.param_groups[0]["lr"] = written
        fault.before_step(fault.start, optimizer)
        lrs.append(optimizer.param_groups[0]["lr"])
    assert lrs == pytest.approx([1.0, 1.0, 0.5])
