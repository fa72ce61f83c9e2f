"""`eta.watch` on a real training: untouched without `act`, saved with it, replayed and resumed to the bit."""

from __future__ import annotations

import gc
import math
import random
import shutil
import signal
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import etascope as eta
from etascope.errors import OptionError, RecordError
from etascope.records import run
from etascope.watcher import LogWriter, controller, replay
from etascope.watcher.policies import Alarm
from etascope.watcher.run import LayerProbe, Probe

from .training import HORIZON, Batches, Training


def ignored(said: str) -> Any:
    return pytest.mark.filterwarnings(f"ignore:{said}")


@pytest.fixture(scope="module")
def clean() -> float:
    """What a run without faults ends with."""
    training = Training()
    training.run(training.watch(act=False), Batches())
    return training.final()


class TestUntouched:
    @pytest.mark.parametrize("scaled", [False, True])
    @pytest.mark.parametrize("lag", [0, 3])
    def test_without_act_the_run_is_the_same_to_the_bit(self, scaled: bool, lag: int, tmp_path: Path) -> None:
        ends = []
        for watched in (False, True):
            random.seed(1), np.random.seed(1)
            training, batches = Training(norm=True, scaled=scaled), iter(Batches(bad={100, 101, 102, 103}))
            if watched:
                w = training.watch(log=tmp_path / "run.jsonl", grad_every=1, probe_every=20, lag=lag)
                with w:
                    for i in range(200):
                        training.step(*next(batches), w)
                        if i % 50 == 0:
                            w.validate(1.0)
                assert w.decisions and not any(d.taken for d in w.decisions)
            else:
                for _ in range(200):
                    training.step(*next(batches), None)
            ends.append((training.state(), torch.get_rng_state(), random.random(), np.random.random()))
        (a, *one), (b, *other) = ends
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert torch.equal(one[0], other[0]) and one[1:] == other[1:]

    def test_the_handle_and_the_hooks_are_as_they_were(self) -> None:
        training = Training()
        before = training.optimizer._optimizer_step_pre_hooks.copy(), training.handle.state_dict()
        with training.watch():
            pass
        assert before == (training.optimizer._optimizer_step_pre_hooks, training.handle.state_dict())


class TestSaved:
    def check(self, training: Training, clean: float, start: float = 2.3) -> None:
        assert training.final() < clean + 0.02 * (start - clean)

    @pytest.mark.parametrize("bad", [{150}, {150, 151, 152, 153}])
    def test_corrupt_batches(self, bad: set[int], clean: float) -> None:
        training = Training()
        w = training.watch(act=True)
        training.run(w, Batches(bad=bad))
        assert training.handle.step == HORIZON and w.log.lines[-1]["why"] == "over"
        self.check(training, clean)

    def test_shuffled_labels_for_long(self, clean: float) -> None:
        training = Training()
        w = training.watch(act=True)
        losses = training.run(w, Batches(shuffled=range(150, 300)))
        assert len(losses) == HORIZON + 150  # each was left out, and made up for
        assert training.handle.scale == 1.0
        self.check(training, clean)

    def test_nan_in_a_gradient(self, clean: float) -> None:
        def spoil(training: Training, number: int) -> None:
            if number == 150:
                training.model[0].weight.grad[0, 0] = math.nan

        training = Training()
        w = training.watch(act=True)
        training.run(w, Batches(), spoil)
        assert [(d.code, d.action) for d in w.decisions] == [("ETA001", "skip")]
        self.check(training, clean)

    def test_a_scaler_that_explodes(self, clean: float) -> None:
        def spoil(training: Training, number: int) -> None:
            if number == 150:
                training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": math.inf})

        training = Training(scaled=True)
        w = training.watch(act=True)
        training.run(w, Batches(), spoil)
        assert "rewind" in [d.action for d in w.decisions]
        assert 0 < training.scaler.get_scale() < math.inf and training.handle.step == HORIZON
        self.check(training, clean)

    def test_a_bug_in_the_schedule(self, clean: float) -> None:
        good = (eta.warmup("5%") >> eta.cosine(to=0.05)).bind(horizon=HORIZON)
        training = Training(schedule=lambda step: good(step) * (100 if step >= 150 else 1))
        w = training.watch(act=True)
        training.run(w, Batches())
        assert any(d.action == "rewind" and d.numbers["leap"] == pytest.approx(100, rel=0.1) for d in w.decisions)
        assert training.handle.scale == pytest.approx(0.01, rel=0.1)
        self.check(training, clean)

    @ignored("Something else writes")
    def test_somebody_elses_lr(self, clean: float) -> None:
        def spoil(training: Training, number: int) -> None:
            if number >= 150:
                training.optimizer.param_groups[0]["lr"] = 1e-6

        training = Training()
        w = training.watch(act=True)
        training.run(w, Batches(), spoil)
        assert [(d.code, d.action) for d in w.decisions] == [("ETA013", "restore")]
        assert training.final() == clean

    def test_running_statistics_are_put_back_with_a_batch_that_is_left_out(self) -> None:
        training = Training(norm=True)
        w = training.watch(act=True)
        training.run(w, Batches(bad={150}))
        other = Training(norm=True)
        other.run(other.watch(act=True), Batches())
        then, now = (t.model[1].running_var for t in (other, training))
        assert w.decisions and float((now / then).max()) < 3  # and not 10,000 times as large


class TestDecisions:
    def test_an_update_that_is_left_out_is_no_update(self) -> None:
        training = Training()
        batches = iter(Batches(bad={60}))
        with training.watch(act=True) as w:
            for _ in range(60):
                training.step(*next(batches), w)
            before, step = training.state(), training.handle.step
            training.step(*next(batches), w)
            assert w.decisions[-1].action == "skip"
            assert training.handle.step == step == 60
            assert all(torch.equal(a, b) for a, b in zip(before, training.state(), strict=True))
            training.step(*next(batches), w)
            assert training.handle.step == 61

    def test_a_rewind_goes_back_to_the_bit_but_not_the_clock(self) -> None:
        training = Training()
        batches = iter(Batches(bad={160, 161, 162}))
        kept = {}
        with training.watch(act=True, every=20, healthy=10) as w:
            for _number in range(163):
                kept[training.handle.step] = training.state()
                training.step(*next(batches), w)
            rewound = w.decisions[-1]
            assert rewound.action == "rewind" and rewound.to_step < 160
            assert all(torch.equal(a, b) for a, b in zip(kept[rewound.to_step], training.state(), strict=True))
            assert training.handle.step == 160
            training.step(*next(batches), w)
            assert training.handle.scale == pytest.approx(0.05)  # half, to be warmed up again
        assert training.handle.step == 161

    def test_it_stops_where_nothing_helps(self) -> None:
        training = Training()
        w = training.watch(act=True, policies=eta.rewind(attempts=1, hold=20))

        def spoil(training: Training, number: int) -> None:
            if number >= 100:
                training.model[0].weight.grad[0, 0] = math.nan

        training.run(w, Batches(), spoil)
        assert w.should_stop and w.log.lines[-1]["why"] == "stopped"
        assert all(torch.isfinite(p).all() for p in training.model.parameters())

    def test_without_a_handle_the_scheduler_goes_on_as_it_would(self) -> None:
        training = Training(handle=False)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(training.optimizer, 0.99)
        used: list[float] = []
        batches = iter(Batches(bad={100, 101, 102}))
        with training.watch(act=True) as w:
            training.optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
            for _ in range(150):
                training.step(*next(batches), w)
                scheduler.step()
        assert used[99] == pytest.approx(1e-2 * 0.99**99) and used[149] == pytest.approx(0.5e-2 * 0.99**149)
        assert training.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * 0.99**150)
        assert w.decisions[2].action == "rewind" and w.step == 147
        assert any(w.log.of("factors")) and w.why(140).factors == {"rewind": 0.5}

    def test_several_processes_decide_alike(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def all_reduce(mean: torch.Tensor) -> None:
            mean += 2.0  # the loss of the other process

        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
        monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
        training = Training()
        with training.watch(act=True) as w:
            training.model[0].weight.grad = torch.ones(48, 64)
            loss = torch.tensor(1.0)
            w.observe(loss)
            w.observe(1.0)
        assert loss == 1.0 and [o.loss for o in w.log.observations()] == [1.5, 1.5]

    def test_decisions_may_come_late(self, clean: float) -> None:
        training = Training()
        w = training.watch(act=True, lag=4)
        training.run(w, Batches(bad={150}))
        assert [(d.action, d.step) for d in w.decisions] == [("rewind", 150)]
        assert training.final() < clean + 0.05

    def test_sharpness_is_probed_where_a_closure_is_given(self) -> None:
        training = Training()
        batches = iter(Batches())
        with training.watch(probe_every=20) as w:
            for _ in range(60):
                x, y = next(batches)
                loss = torch.nn.functional.cross_entropy(training.model(x), y)
                loss.backward()
                w.observe(loss, closure=lambda: torch.nn.functional.cross_entropy(training.model(x), y))  # noqa: B023
                training.optimizer.step()
                training.optimizer.zero_grad()
        probes = list(w.log.of("probe"))
        assert probes and all(p["sharpness"] > 0 and p["bound"] == pytest.approx(38) for p in probes)
        assert set(probes[0]["layers"]) == {"0", "3"}


class TestOddSteps:
    """What users' loops, optimizers and scalers do beside the plain recipe."""

    @pytest.mark.parametrize("unscale", ["never", "before", "after"])
    def test_a_scaler_goes_on_as_if_nothing_had_been_left_out(self, unscale: str) -> None:
        training = Training(scaled=True)
        batches = iter(Batches(bad={60}))
        scales = []
        with training.watch(act=True) as w:
            for _ in range(63):
                x, y = next(batches)
                loss = torch.nn.functional.cross_entropy(training.model(x), y)
                training.scaler.scale(loss).backward()
                if unscale == "before":
                    training.scaler.unscale_(training.optimizer)
                w.observe(loss)
                if unscale == "after":
                    training.scaler.unscale_(training.optimizer)
                    torch.nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
                training.scaler.step(training.optimizer)
                training.scaler.update()
                training.optimizer.zero_grad()
                scales.append(training.scaler.state_dict())
        assert [d.action for d in w.decisions] == ["skip"] and training.handle.step == 62
        assert all(torch.isfinite(p).all() for p in training.model.parameters())
        assert scales[60] == scales[59] and "update" not in vars(training.scaler)
        assert scales[61]["_growth_tracker"] == scales[60]["_growth_tracker"] + 1

    def test_a_scale_that_has_to_fall_far_does(self) -> None:
        training = Training()
        training.scaler = scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
        batches = iter(Batches())
        with training.watch(act=True) as w:
            for _ in range(60):
                x, y = next(batches)
                loss = 2.0**12 * torch.nn.functional.cross_entropy(training.model(x), y)
                scaler.scale(loss).backward()
                w.observe(loss)
                scaler.step(training.optimizer)
                scaler.update()
                training.optimizer.zero_grad()
        assert not w.decisions and training.handle.step > 20 and scaler.get_scale() < 2.0**120

    def test_steps_within_steps_and_steps_that_raise(self) -> None:
        class Nested(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                return super().step(closure)

        torch.optim.SGD([torch.zeros(1)], lr=1.0)
        training = Training(handle=False)
        training.optimizer = Nested(training.model.parameters(), lr=1.0)
        used: list[float] = []
        with training.watch(act=True, policies=eta.plateau(factor=0.5, patience=0)) as w:
            training.optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
            training.model[0].weight.grad = torch.zeros(48, 64)
            for _ in range(2):
                w.validate(1.0)
            for _ in range(3):
                w.observe(1.0)
                training.optimizer.step()
            broken = training.optimizer.register_step_pre_hook(lambda *_: 1 / 0)
            w.observe(1.0)
            with pytest.raises(ZeroDivisionError):
                training.optimizer.step()
            broken.remove()
            w.observe(1.0)
            training.optimizer.step()
        assert set(used) == {0.5} and training.optimizer.param_groups[0]["lr"] == 1.0

    def test_groups_that_share_a_tensor(self) -> None:
        training = Training(handle=False)
        groups = [{"params": [p]} for p in training.model.parameters()]
        training.optimizer = torch.optim.AdamW(groups, lr=torch.tensor(1.0))
        used: list[float] = []
        with training.watch(act=True, policies=eta.plateau(factor=0.5, patience=0)) as w:
            training.optimizer.register_step_pre_hook(lambda o, *_: used.append(float(o.param_groups[-1]["lr"])))
            training.model[0].weight.grad = torch.zeros(48, 64)
            for _ in range(2):
                w.validate(1.0)
            for _ in range(3):
                w.observe(1.0)
                training.optimizer.step()
        assert used == [0.5] * 3 and [o.lr for o in w.log.observations()] == [0.5] * 3
        assert float(training.optimizer.param_groups[0]["lr"]) == 1.0

    def test_groups_added_later(self) -> None:
        training = Training(norm=True)
        batches = iter(Batches(bad={90, 120, 121, 122}))
        extra = torch.nn.Parameter(torch.zeros(3))
        with training.watch(act=True) as w:
            for number in range(130):
                if number == 80:
                    training.optimizer.add_param_group({"params": [extra]})
                training.step(*next(batches), w)
        assert [d.action for d in w.decisions] == ["skip", "skip", "skip", "rewind"]
        assert w.decisions[-1].to_step >= 80

    def test_snapshots_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        training = Training()
        batches = iter(Batches(bad={60, 61, 62}))
        with (
            training.watch(act=True, snapshots=tmp_path / "file" / "folder") as w,
            pytest.warns(UserWarning, match="snapshots that are left") as told,
        ):
            for _ in range(60):
                training.step(*next(batches), w)
            assert len(list(w.log.of("complaint"))) == 1  # before there is any need of them
            for _ in range(3):
                training.step(*next(batches), w)
        assert [d.action for d in w.decisions] == ["skip", "skip", "skip"] and w.decisions[-1].to_step is None
        assert "no state left to go back to" in str(w.decisions[-1]) and not w.should_stop
        assert w.faults and len(told) == 1

    @pytest.mark.parametrize("lag", [0, 2])
    @pytest.mark.parametrize("wrong", ["losses", "gradients", "weights"])
    @ignored("A rewind can only go back")
    def test_snapshots_whose_files_are_gone(self, wrong: str, lag: int, tmp_path: Path) -> None:
        def spoil(training: Training) -> None:
            for parameter in training.model.parameters():
                parameter.grad.fill_(math.nan)

        training = Training()
        batches = iter(Batches(bad=range(110, 113) if wrong == "losses" else ()))
        with training.watch(act=True, lag=lag, snapshots=tmp_path / "kept") as w:
            for number in range(140):
                if number == 110:
                    w._ring.wait()
                    shutil.rmtree(tmp_path / "kept")
                    if wrong == "weights":
                        with torch.no_grad():
                            training.model[0].weight.mul_(-1)
                before = spoil if wrong == "gradients" and 110 <= number < 113 else None
                if not w.should_stop:
                    training.step(*next(batches), w, before)
        assert w.decisions and {d.to_step for d in w.decisions} == {None} and list(w.log.of("lost"))

    def test_a_state_whose_snapshots_are_gone(self, tmp_path: Path) -> None:
        training, batches = Training(), iter(Batches())
        with training.watch(act=True, snapshots=tmp_path / "kept") as w:
            for _ in range(60):
                training.step(*next(batches), w)
            state = w.state_dict()
        assert list((tmp_path / "kept").iterdir())  # a checkpoint may name them
        shutil.rmtree(tmp_path / "kept")
        with training.watch(act=True, snapshots=tmp_path / "kept") as w:
            with pytest.warns(UserWarning, match="snapshots that are left"):
                w.load_state_dict(state)
            assert not w._controller.steps_kept
            training.step(*next(batches), w)
            assert w._controller.steps_kept == (60,)
        assert not list((tmp_path / "kept").iterdir())  # no state was saved

    @pytest.mark.parametrize("lag", [0, 2])
    def test_what_is_trained_from_later_on_is_probed(self, lag: int) -> None:
        training, batches = Training(handle=False), iter(Batches())
        training.optimizer = torch.optim.AdamW(training.model[0].parameters(), lr=1e-2)
        with training.watch(probe_every=20, lag=lag) as w:
            for number in range(60):
                if number == 25:
                    training.optimizer.add_param_group({"params": list(training.model[3].parameters())})
                training.step(*next(batches), w)
        first, *_, last = w.log.of("probe")
        assert set(first["layers"]) == {"0"} and set(last["layers"]) == {"0", "3"}

    @pytest.mark.parametrize("lag", [0, 2])
    @pytest.mark.parametrize("act", [False, True])
    def test_an_alarm_of_a_probe_is_returned_and_carried_out(
        self, act: bool, lag: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Beyond:
            code = "ETA005"

            def alarm(self, view: Any, loss: float, grad: float | None) -> Alarm | None:
                return Alarm("ETA005", "too high", {}, loss, of="weights") if view.probes else None

        monkeypatch.setattr(controller, "ON_PROBE", Beyond())
        training, batches = Training(), iter(Batches())
        kept: list[list[torch.Tensor]] = []
        decision = None
        with training.watch(act=act, lag=lag, probe_every=30) as w:
            while decision is None:
                x, y = next(batches)
                loss = torch.nn.functional.cross_entropy(training.model(x), y)
                loss.backward()
                kept.append([p.detach().clone() for p in training.model.parameters()])
                decision = w.observe(loss)
                training.optimizer.step()
                training.optimizer.zero_grad()
        assert w.decisions == [decision] and decision.step == 17 and decision.taken is act
        # Back where the first snapshot was taken, and this update left out.
        assert act == all(map(torch.equal, kept[lag], training.model.parameters()))
        on_their_way = lag + 1 if act and lag else 0  # of weights that are gone
        assert len(list(w.log.observations())) == 18 - on_their_way

    def test_a_watch_that_is_thrown_away_lets_go(self) -> None:
        training = Training(handle=False)
        w = training.watch(act=True)
        del w
        gc.collect()
        assert not training.optimizer._optimizer_step_pre_hooks
        training.watch()

    def test_decisions_between_two_updates_leave_the_next_one_alone(self) -> None:
        training = Training(scaled=True)
        batches = iter(Batches(bad={60}))
        with training.watch(act=True, lag=4) as w:
            for _ in range(62):
                training.step(*next(batches), w)
            w.validate(1.0)  # what is on its way is looked at now
            assert w.decisions[-1].action == "rewind"
            step = training.handle.step
            training.step(*next(batches), w)
            assert training.handle.step == step + 1

    def test_a_rewind_leaves_what_else_the_handle_drives_to_the_schedule(self) -> None:
        training = Training(schedule={"lr": eta.cosine(), "weight_decay": eta.linear()})
        batches = iter(Batches(bad={160, 161, 162}))
        with training.watch(act=True) as w:
            for _ in range(163):
                training.step(*next(batches), w)
            assert w.decisions[-1].action == "rewind"
            decay = training.optimizer.param_groups[0]["weight_decay"]
        assert decay == pytest.approx(0.01 * (1 - 160 / HORIZON))

    def test_a_run_that_makes_no_updates_any_more_ends(self) -> None:
        training = Training(scaled=True)
        training.scaler = torch.amp.GradScaler("cpu", init_scale=math.inf)
        w, count = training.watch(horizon=20), 0
        with w, pytest.warns(UserWarning, match="only 0 of 20 updates"):
            for x, y in w.batches(Batches()):
                training.step(x, y, w)
                count += 1
        assert count == 1040 and training.handle.step == 0

    def test_a_longer_run_is_watched_to_its_end(self) -> None:
        training = Training()
        w = training.watch()
        count = 0
        with w:
            for x, y in w.batches(Batches()):
                count += 1
                if count == 100:
                    training.handle.extend(HORIZON + 50)
                training.step(x, y, w)
        assert count == training.handle.step == HORIZON + 50
        assert "ETA011" not in [note.code for note in w.notes]

    @ignored("The watch failed")
    def test_the_error_of_the_loop_is_the_one_that_is_seen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        training = Training()
        w = training.watch()
        monkeypatch.setattr(w, "_drain", lambda *_: 1 / 0)
        with pytest.raises(KeyError), w:
            training.step(*next(iter(Batches())), w)
            raise KeyError
        training.watch()


class TestReplay:
    @pytest.mark.parametrize("act", [False, True])
    def test_the_log_gives_the_same_again_to_the_bit(self, act: bool, tmp_path: Path) -> None:
        training = Training()
        w = training.watch(
            act=act,
            log=tmp_path / "run.jsonl",
            policies=(eta.rewind(), eta.pearce_hall(), eta.hypergradient(), eta.plateau(patience=0)),
        )
        batches = Batches(bad={100, 180}, shuffled=range(140, 160))
        with w:
            for i, (x, y) in enumerate(w.batches(batches)):
                training.step(x, y, w)
                if i % 40 == 0:
                    w.validate(1.0 - 0.001 * (i % 80))
        log = eta.read_log(tmp_path / "run.jsonl")
        said = list(replay(log))
        assert [s.to_json() for s in said] == [
            line_of(line) for line in log.lines if line["kind"] in ("note", "decision")
        ]
        assert len(w.decisions) > 10 and all(d.taken is act for d in w.decisions)

    def test_every_lr_is_explained_to_the_bit(self) -> None:
        training = Training()
        w = training.watch(act=True, policies=(eta.rewind(), eta.pearce_hall()))
        batches = iter(Batches(bad={100, 101, 102}))
        used: dict[int, float] = {}
        training.optimizer.register_step_pre_hook(
            lambda o, *_: used.__setitem__(training.handle.step, o.param_groups[0]["lr"])
        )
        with w:
            for i in range(200):
                if i == 50:
                    training.handle.scale = 0.7  # somebody may
                if i == 60:
                    training.handle.extend(400)
                training.step(*next(batches), w)
        for step in range(197):
            why = w.why(step)
            assert why.lr == used[step] and why.exact
            assert (why.peak * why.scale) * why.schedule == why.lr
        assert "rewind 0.5" in str(w.why(150)) and "rewound to step" in str(w.why(150))

    def test_the_format_is_described(self) -> None:
        described = run.__doc__ or ""
        with Training().watch() as w:
            header = w.log.header
        names = [*header, *(f.name for f in fields(Probe)), *(f.name for f in fields(LayerProbe))]
        assert [name for name in names if f'"{name}"' not in described] == ["kind"]  # which all lines have

    def test_a_killed_run_goes_on_as_if_nothing_had_happened(self, tmp_path: Path) -> None:
        script = [sys.executable, str(Path(__file__).with_name("training.py"))]

        def go(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
            folder.mkdir(exist_ok=True)
            return subprocess.run([*script, str(folder), *arguments], capture_output=True, text=True, timeout=300)

        whole = go(tmp_path / "whole", "-1", "anew")
        assert whole.returncode == 0, whole.stderr
        assert go(tmp_path / "killed", "190", "anew").returncode == -signal.SIGKILL
        resumed = go(tmp_path / "killed", "-1", "resume")
        assert resumed.returncode == 0, resumed.stderr
        assert resumed.stdout == whole.stdout
        logs = [eta.read_log(tmp_path / name / "run.jsonl") for name in ("whole", "killed")]
        one, other = (list(log.observations()) for log in logs)
        assert one == other
        assert [d.to_json() for d in logs[0].decisions] == [d.to_json() for d in logs[1].decisions]
        assert {"skip", "rewind"} <= {d.action for d in logs[0].decisions if d.step > 150}


def line_of(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "kind"}


class TestBadInput:
    @pytest.mark.parametrize("loss", ["0.5", [0.5], None, True, torch.ones(2), torch.ones((), device="meta")], ids=repr)
    def test_a_loss_that_is_none(self, loss: Any) -> None:
        training = Training()
        with training.watch() as w:
            with pytest.warns(UserWarning, match="takes no note"):
                assert w.observe(loss) is None
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                w.observe(loss)  # said once
            assert not list(w.log.observations())
        with training.watch(act=True) as w, pytest.raises(OptionError, match="loss"):
            w.observe(loss)

    @pytest.mark.parametrize("lag", [0, 2])
    def test_a_number_will_do(self, lag: int) -> None:
        training = Training()
        training.model[0].weight.grad = torch.ones(48, 64)
        with training.watch(lag=lag, act=True) as w:
            for loss in (0.5, np.float32(0.5), np.array([0.5]), torch.tensor([0.5])):
                w.observe(loss)
        assert [o.loss for o in w.log.observations()] == [0.5] * 4

    def test_before_backward_there_is_no_gradient_and_no_alarm(self) -> None:
        with Training().watch() as w, pytest.warns(UserWarning, match="after loss.backward"):
            w.observe(0.5)
        assert not w.decisions

    def test_two_watches_on_one_optimizer(self) -> None:
        training = Training()
        with training.watch(), pytest.raises(OptionError, match="watched already"):
            training.watch()
        training.watch()

    def test_a_step_that_goes_back(self) -> None:
        training = Training()
        batches = iter(Batches())
        with training.watch() as w:
            for _ in range(30):
                training.step(*next(batches), w)
            training.handle.step = 3
            with pytest.warns(UserWarning, match="went back"):
                training.step(*next(batches), w)
        training = Training()
        with training.watch(act=True) as w:
            training.handle.step = 30
            training.step(*next(batches), w)
            training.handle.step = 3
            with pytest.raises(OptionError, match="went back"):
                training.step(*next(batches), w)

    def test_a_full_disk_leaves_the_training_alone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        training = Training()
        batches = iter(Batches())
        with training.watch(log=tmp_path / "run.jsonl", act=True) as w:
            training.step(*next(batches), w)

            class Full:
                def write(self, *_: Any) -> None:
                    raise OSError(28, "No space left on device")

                def flush(self) -> None: ...
                def close(self) -> None: ...

            assert isinstance(w._log, LogWriter)
            w._log._file = Full()  # type: ignore[assignment]
            for _ in range(100):
                training.step(*next(batches), w)
            assert "No space left" in w.faults[0]
            assert len(list(w.log.observations())) == 101 - 0  # kept in memory from there on

    def test_a_log_that_cannot_be_written_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        path = tmp_path / "file" / "run.jsonl"
        training = Training()
        batches = iter(Batches())
        with training.watch(log=path) as w, pytest.warns(UserWarning, match="in memory"):
            training.step(*next(batches), w)
        with training.watch(log=path, act=True) as w, pytest.raises(RecordError, match="file"):
            training.step(*next(batches), w)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"schedule": eta.cosine()}, "handle"),
            ({"horizon": 0}, "horizon"),
            ({"every": True}, "every"),
            ({"bounds": (2.0, 3.0)}, "bounds"),
            ({"bounds": None}, "bounds"),
            ({"healthy": -1}, "healthy"),
            ({"interventions": "x"}, "interventions"),
            ({"scaler": object()}, "scaler"),
            ({"sinks": print}, "sinks"),
            ({"schedule": Training().handle}, "not of this optimizer"),
            ({"policies": eta.rewind}, "brackets"),
            ({"limit_bytes": "1GB"}, "limit_bytes is '1GB'"),
            ({"limit_bytes": 0, "act": True}, "limit_bytes is 0"),
        ],
    )
    def test_options_that_cannot_be_used(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(OptionError, match=says):
            Training().watch(**options)

    @pytest.mark.parametrize("model", [None, [], [torch.nn.Linear(1, 1), "head"]], ids=repr)
    def test_a_model_that_is_none(self, model: Any) -> None:
        with pytest.raises(OptionError, match="model is"):
            eta.watch(model, Training().optimizer, log=None)

    def test_an_optimizer_whose_step_computes_gradients_anew_is_only_looked_at(self) -> None:
        training = Training(handle=False)
        training.optimizer = torch.optim.LBFGS(training.model.parameters())
        with pytest.raises(OptionError, match="LBFGS computes gradients anew"):
            training.watch(act=True)
        training.watch().close()

    def test_batches_need_a_horizon_and_batches(self) -> None:
        training = Training(handle=False)
        with training.watch(horizon=None) as w, pytest.raises(OptionError, match="horizon"):
            next(w.batches([1]))
        with training.watch() as w, pytest.raises(OptionError, match="no batch"):
            next(w.batches([]))

    def test_a_passive_watch_that_fails_is_not_in_the_way(self) -> None:
        class Bad(eta.plateau):
            def observe(self, state: Any, metric: Any) -> Any:
                raise ZeroDivisionError

        training = Training()
        with training.watch(policies=Bad()) as w:
            with pytest.warns(UserWarning, match="looks no further"):
                w.validate(1.0)
            training.step(*next(iter(Batches())), w)
        with training.watch(policies=Bad(), act=True) as w, pytest.raises(ZeroDivisionError):
            w.validate(1.0)

    def test_what_a_passive_watch_that_fails_returns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def failed(ask: str) -> Any:
            training = Training()
            w = training.watch()
            training.step(*next(iter(Batches())), w)
            with monkeypatch.context() as patch, pytest.warns(UserWarning, match="looks no further"):
                patch.setattr(w._controller, "observe", lambda *_: 1 / 0)
                said = w.log if ask == "log" else getattr(w, ask)()
            w.close()
            return said

        assert failed("checks") == {} and failed("close") is None and failed("log").header["optimizer"] == "AdamW"
        state = failed("state_dict")
        with Training().watch() as w, pytest.warns(UserWarning, match="saved watch had failed"):
            w.load_state_dict(state)
        with Training().watch(act=True) as w, pytest.raises(OptionError, match="saved watch had failed"):
            w.load_state_dict(state)
        with Training().watch(act=True) as w, monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr(w, "_drain", lambda *_: 1 / 0)
            w.state_dict()

    @pytest.mark.parametrize("act", [False, True])
    def test_after_the_end(self, act: bool) -> None:
        training = Training()
        w = training.watch(act=act)
        w.close()
        with pytest.warns(UserWarning, match="The watch is closed") as told:
            w.validate(0.5)
            w.validate("x")
        assert len(told) == 1

    def test_a_state_of_a_watch_that_acts_differently(self) -> None:
        training = Training()
        with training.watch(act=True) as w:
            state = w.state_dict()
        with training.watch() as w, pytest.raises(OptionError, match="act="):
            w.load_state_dict(state)

    def test_a_state_of_something_else(self) -> None:
        training = Training()
        with training.watch(act=True, policies=eta.rewind(skips=5)) as w:
            state = w.state_dict()
        with training.watch() as w:
            with pytest.raises(RecordError, match="state"):
                w.load_state_dict({})
            with pytest.raises(OptionError, match="policies"):
                w.load_state_dict(state)

    def test_an_exception_is_in_the_log(self) -> None:
        training = Training()
        w = training.watch()
        with pytest.raises(ZeroDivisionError), w:
            training.step(*next(iter(Batches())), w)
            raise ZeroDivisionError
        assert w.log.lines[-1]["why"] == "ZeroDivisionError"
