"""What sinks wrote is read back through the libraries that it was written by."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import etascope as eta
from etascope.errors import OptionError
from etascope.integrations import sinks
from etascope.watcher.run import LayerProbe, Probe

from .digits import batches, net

STEPS, BAD = 100, 60


def train(*given: Any, state: Any = None, start: int = 0, stop: int = STEPS) -> Any:
    """A training of real data with a corrupt batch and a validation that stands still."""
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    w = eta.watch(
        model, optimizer, act=True, sinks=given, log=None, horizon=STEPS, probe_every=20,
        policies=(eta.rewind(), eta.plateau(patience=1, factor=0.5, least=0.25)),
    )  # fmt: skip
    if state is not None:
        w.load_state_dict(state)
    with w:
        for i, (x, y) in enumerate(batches(STEPS, (BAD,))[start:stop], start):
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            w.observe(loss)
            optimizer.step()
            optimizer.zero_grad()
            if i % 25 == 24:
                w.validate(1.0)
        if stop < STEPS:
            return w.state_dict()
    return w


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs etascope[watch]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    w = train(sinks.TensorBoard(tmp_path))
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    read.Reload()
    loss, lr = read.Scalars("watch/loss"), read.Scalars("watch/lr")
    seen = list(w.log.observations())
    assert [s.step for s in loss] == [o.step for o in seen] and len(seen) == STEPS
    for written, own in zip(loss, seen, strict=True):
        assert written.value == pytest.approx(own.loss, rel=1e-6, nan_ok=True)
    assert math.isnan(loss[BAD].value) and lr[-1].value == pytest.approx(seen[-1].lr)
    assert [s.step for s in read.Scalars("watch/val_loss")] == [v["step"] for v in w.log.of("val")]
    assert read.Scalars("watch/factor/plateau")[0].value == 0.5
    tags = read.Tags()
    assert any(tag.startswith("watch/update_ratio/") for tag in tags["scalars"])
    texts = [e.tensor_proto.string_val[0].decode() for e in read.Tensors("watch/decisions/text_summary")]
    assert str(w.decisions[0]) in texts[0] or any(str(d) in t for d in w.decisions for t in texts)
    assert (
        any("ETA001" in t for t in texts)
        and "adamw" in read.Tensors("watch/run/text_summary")[0].tensor_proto.string_val[0].decode()
    )


def test_tensorboard_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs etascope[watch]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    state = train(sinks.TensorBoard(tmp_path), stop=40)
    sinks.TensorBoard(tmp_path)({"kind": "val", "step": 45, "loss": 1.0})  # of the run that was cut off
    train(sinks.TensorBoard(tmp_path), state=state, start=40)
    read = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0})
    read.Reload()
    assert [s.step for s in read.Scalars("watch/loss")] == [*range(BAD + 1), *range(BAD, STEPS - 1)]
    assert [s.step for s in read.Scalars("watch/val_loss")] == [25, 50, 74, 99]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow", reason="needs etascope[watch]")
    uri = (tmp_path / "runs").as_uri()
    sink = sinks.MLflow(tracking_uri=uri)
    w = train(sink)
    client = mlflow.MlflowClient(uri)
    run = client.get_run(sink.run)
    assert run.info.status == "FINISHED" and run.data.tags["watch.optimizer"] == "AdamW"
    losses = client.get_metric_history(sink.run, "watch/loss")
    assert [m.step for m in losses] == [o.step for o in w.log.observations()]
    assert losses[0].value == next(w.log.observations()).loss and math.isnan(losses[BAD].value)
    assert client.get_metric_history(sink.run, "watch/lr")[-1].value == list(w.log.observations())[-1].lr
    text = Path(client.download_artifacts(sink.run, "watch/decisions.txt", str(tmp_path))).read_text()
    assert all(str(d) in text for d in w.decisions) and "ETA001" in text


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "offline", "SILENT": "true", "ERROR_REPORTING": "false", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb", reason="needs etascope[watch]")
    with pytest.raises(OptionError, match="No run of Weights & Biases is active"):
        sinks.Wandb()
    run = wandb.init(mode="offline", dir=str(tmp_path), project="etascope-tests")
    try:
        w = train(sinks.Wandb(run))
        seen = list(w.log.observations())
        assert run.summary["watch/loss"] == seen[-1].loss and run.summary["watch/lr"] == seen[-1].lr
        assert run.config["watch"]["optimizer"] == "AdamW"
        assert next(str(d) for d in w.decisions if "ETA001" in str(d)) in list(run.summary["watch/said"])
    finally:
        run.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 10_000 and b"watch/loss" in file.read_bytes()


def test_wandb_beside_metrics_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ways of the docstring: an axis of one's own, and a run of the watch's own."""
    for name, value in {"MODE": "offline", "SILENT": "true", "ERROR_REPORTING": "false", "CONSOLE": "off"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb = pytest.importorskip("wandb", reason="needs etascope[watch]")
    mine = wandb.init(mode="offline", dir=str(tmp_path / "mine"), project="etascope-tests")
    own = wandb.init(mode="offline", dir=str(tmp_path / "own"), project="etascope-tests", reinit="create_new")
    try:
        mine.define_metric("step")
        mine.define_metric("train/*", step_metric="step")
        shared, apart = sinks.Wandb(mine), sinks.Wandb(own)
        for i in range(0, 30, 10):
            line = {"kind": "steps", "seen": i, "step": i, "loss": [1.0] * 10, "lr": [0.1] * 10}
            before = mine.step
            apart(line)
            assert mine.step == before
            shared(line)
            assert mine.step == before + 10
            mine.log({"step": i, f"train/at_{i}": 0.5})
            mine.log({f"dropped/at_{i}": 0.5}, step=i)
        kept = set(dict(mine.summary))
    finally:
        own.finish()
        mine.finish()
    assert {name for name in kept if "/at_" in name} == {"train/at_0", "train/at_10", "train/at_20"}


def test_what_a_probe_finds() -> None:
    probe = Probe({"0": LayerProbe(0.1, 0.2, 0.3)}, 4.0, 0.5, 6.0, 7.0)
    found = {s.name: s.value for s in sinks.scalars({"kind": "probe", "seen": 3, "step": 3, **probe.to_json()})}
    assert found == {
        "watch/update_ratio/0": 0.1, "watch/effective_lr/0": 0.2, "watch/sign/0": 0.3, "watch/noise_scale": 4.0,
        "watch/alignment": 0.5, "watch/sharpness": 6.0, "watch/bound": 7.0,
    }  # fmt: skip


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, sink in (
        ("torch.utils.tensorboard", sinks.TensorBoard),
        ("mlflow", sinks.MLflow),
        ("wandb", sinks.Wandb),
    ):
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(OptionError) as refused:
            sink("here")
        assert refused.value.next_move == 'pip install "etascope[watch]"'


def test_factors_that_are_gone_are_one() -> None:
    sink = sinks._Sink()
    sink._scalars({"kind": "factors", "step": 3, "scale": 0.5, "factors": {"rewind": 0.5}})
    assert sink._scalars({"kind": "factors", "step": 9, "scale": 1.0, "factors": {}}) == [
        (9, "watch/scale", 1.0), (9, "watch/factor/rewind", 1.0),
    ]  # fmt: skip
