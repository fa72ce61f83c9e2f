"""`eta.watch` in loops with a real `Accelerator`, on the CPU."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import etascope as eta

from .digits import batches, net, told

accelerate = pytest.importorskip("accelerate", reason="needs etascope[all]")

STEPS = 60


@pytest.fixture(autouse=True)
def _shared_states() -> Any:
    """What all accelerators of a process share is this test's alone."""
    from accelerate.state import AcceleratorState, GradientState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Run:
    """A loop with an accelerator; `bad` are the numbers of batches."""

    def __init__(self, options: dict[str, Any] | None, bad: Any = (40,), accumulate: int = 1) -> None:
        self.accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.8)
        self.model, self.optimizer, self.scheduler = self.accelerator.prepare(model, optimizer, scheduler)
        self.batches, self.lrs = batches(STEPS * accumulate, bad, 8), []
        self.watch: Any = None
        if options is not None:
            self.watch = eta.integrations.accelerate.watch(self.accelerator, self.model, self.optimizer, **options)

    def train(self, start: int = 0, save: tuple[int, Path] | None = None) -> Run:
        for i, (x, y) in enumerate(self.batches[start:], start):
            if save is not None and i == save[0]:
                self.accelerator.save_state(str(save[1]))
            with self.accelerator.accumulate(self.model):
                loss = F.cross_entropy(self.model(x), y)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
                    self.lrs.append(self.optimizer.param_groups[0]["lr"])
                if self.watch is not None:
                    self.watch.observe(loss)
                self.optimizer.step()
                self.scheduler.step()
                self.optimizer.zero_grad()
            if self.watch is not None and self.accelerator.sync_gradients and len(self.lrs) % 20 == 0:
                self.watch.validate(1.0)
        return self

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.model.parameters()])


def test_without_act_it_is_the_same_to_the_bit() -> None:
    plain, watched = Run(None).train(), Run({"log": None}).train()
    assert torch.equal(plain.weights().nan_to_num(), watched.weights().nan_to_num()) and plain.lrs == watched.lrs
    (decision, *_) = watched.watch.decisions
    assert (decision.step, decision.code, decision.taken) == (40, "ETA001", False)


def test_decisions_are_taken_logged_and_resumed(tmp_path: Path) -> None:
    options = {"act": True, "policies": (eta.rewind(), eta.plateau(patience=0, factor=0.5)), "horizon": STEPS}
    run = Run({**options, "log": tmp_path / "run.jsonl"}).train(save=(30, tmp_path / "state"))
    run.watch.close()
    log = eta.read_log(tmp_path / "run.jsonl")
    assert [(d.step, d.code, d.action, d.taken) for d in log.decisions if d.code] == [(40, "ETA001", "skip", True)]
    assert torch.isfinite(run.weights()).all() and run.watch.step == STEPS - 1
    assert [line["scale"] for line in log.of("factors")] == [0.5]
    lr = list(log.observations())[-1].lr
    assert lr == run.lrs[-1] * 0.5 and run.lrs[-1] == pytest.approx(0.01 * 0.8**5)

    again = Run({**options, "log": tmp_path / "again.jsonl"})
    again.accelerator.load_state(str(tmp_path / "state"))
    again.lrs = run.lrs[:30]
    again.train(start=30).watch.close()
    assert torch.equal(run.weights(), again.weights()) and again.lrs == run.lrs
    assert told(eta.read_log(tmp_path / "again.jsonl")) == told(log, since=30)


def test_an_update_of_two_batches_is_one_observation() -> None:
    run = Run({"log": None, "act": True}, bad=(41,), accumulate=2).train()
    seen = list(run.watch.log.observations())
    assert len(seen) == STEPS and run.watch.step == STEPS - 1
    assert [(d.step, d.action) for d in run.watch.decisions] == [(20, "skip")]
    x, y = (torch.cat(both) for both in zip(*run.batches[:2], strict=True))
    assert seen[0].loss == pytest.approx(F.cross_entropy(net()(x), y).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "seen"),
    [
        ((0.25, 0.75), [0.5]),
        ((torch.tensor([0.25]), torch.tensor(0.75)), [0.5]),
        ((None, None), []),
        ((torch.ones(2), torch.ones(3)), []),
        ((0.5, "0.5"), []),
    ],
    ids=repr,
)
def test_what_is_no_tensor_is_left_to_the_watch(losses: tuple[Any, Any], seen: list[float]) -> None:
    passive = Run({"log": None}, accumulate=2)
    for loss in losses:
        with passive.accelerator.accumulate(passive.model), warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert passive.watch.observe(loss) is None
    assert [o.loss for o in passive.watch.log.observations()] == seen
    assert seen or "takes no note" in str(told[0].message)


def test_a_state_that_is_loaded_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """`accelerator.load_state` loads all there is, to begin an epoch again, say: a passive watch is not in the way."""
    run = Run({"log": None}, bad=())
    run.train(save=(20, tmp_path))
    with pytest.warns(UserWarning, match="has begun already") as told:
        run.accelerator.load_state(str(tmp_path))
        run.accelerator.load_state(str(tmp_path))
    assert [str(w.message) for w in told if "has begun" in str(w.message)] == [str(told[0].message)]
    run.train(start=20)
    assert len(list(run.watch.log.observations())) == STEPS + 40
    run.watch.close()
    acting = Run({"log": None, "act": True}, bad=())
    acting.train(save=(20, tmp_path))
    with pytest.raises(eta.OptionError, match="has begun already"):
        acting.accelerator.load_state(str(tmp_path))


@pytest.mark.filterwarnings("ignore:There is no gradient")
@pytest.mark.parametrize(("act", "seen"), [(False, 1.5), (True, 1.0)])
def test_one_place_takes_the_mean_over_processes(act: bool, seen: float) -> None:
    """The adapter, or the watch itself where it acts (and here there is but one process)."""

    class Two:
        num_processes, sync_gradients = 2, True

        def reduce(self, loss: torch.Tensor, how: str) -> torch.Tensor:
            assert how == "mean"
            return (loss + 2.0) / 2

    run = Run({"log": None, "act": act})
    run.watch._accelerator = Two()
    run.watch.observe(torch.tensor(1.0))
    assert [o.loss for o in run.watch.log.observations()] == [seen]


def test_a_sharded_run_is_refused() -> None:
    class Sharded:
        distributed_type = "DistributedType.FSDP"

    with pytest.raises(eta.OptionError, match="FSDP"):
        eta.integrations.accelerate.watch(Sharded(), torch.nn.Linear(1, 1), None)


def test_of_several_processes_one_writes() -> None:
    from etascope.integrations.updates import here

    given = {"log": "run.jsonl", "snapshots": "kept", "act": True}
    assert here(given, 0) == given
    assert here(given, 1) == {"log": None, "sinks": (), "snapshots": Path("kept/rank_1"), "act": True}
