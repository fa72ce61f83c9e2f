"""Sinks of `eta.watch`: a run's log shown in TensorBoard, MLflow or Weights & Biases, through their own libraries.

    eta.watch(model, optimizer, sinks=[TensorBoard("runs/1")])

Scalars are `watch/loss`, `watch/lr`, `watch/grad_norm`, `watch/val_loss`, `watch/scale`, `watch/factor/<name>` and what
probes find, by the number of the update; notes and decisions are texts. They come in the log's blocks of up to 64
updates. A sink is of one run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..errors import OptionError
from ..records.run import Decision, Note

__all__ = ["MLflow", "Scalar", "TensorBoard", "Wandb", "scalars", "text"]

INSTALL = 'pip install "etascope[watch]"'


class Scalar(NamedTuple):
    """A number of a run, by the update."""

    step: int
    name: str
    value: float


def scalars(line: Mapping[str, Any]) -> Iterator[Scalar]:
    """The numbers in a line of the log.

    >>> line = {"kind": "steps", "seen": 0, "step": 7, "loss": [0.5, "nan"], "lr": [0.1, 0.1], "grad": [[1, 2.0]]}
    >>> for scalar in scalars(line):
    ...     print(*scalar)
    7 watch/loss 0.5
    7 watch/lr 0.1
    8 watch/loss nan
    8 watch/lr 0.1
    8 watch/grad_norm 2.0
    """
    kind, step = line["kind"], line.get("step", 0)
    if kind == "steps":
        grads, others = dict(line.get("grad", ())), line.get("lrs", ())
        for i, (loss, lr) in enumerate(zip(line["loss"], line["lr"], strict=True)):
            yield Scalar(step + i, "watch/loss", float(loss))
            yield Scalar(step + i, "watch/lr", float(lr))
            for group, other in enumerate(others[i] if others else (), 1):
                yield Scalar(step + i, f"watch/lr/group_{group}", float(other))
            if i in grads:
                yield Scalar(step + i, "watch/grad_norm", float(grads[i]))
    elif kind == "val":
        yield Scalar(step, "watch/val_loss", float(line["loss"]))
    elif kind == "factors":
        yield Scalar(step, "watch/scale", float(line["scale"]))
        for name, value in line["factors"].items():
            yield Scalar(step, f"watch/factor/{name}", float(value))
    elif kind == "probe":
        for layer, found in (line.get("layers") or {}).items():
            for name, value in found.items():
                yield Scalar(step, f"watch/{name}/{layer}", float(value))
        for name in ("noise_scale", "alignment", "sharpness", "bound"):
            if line.get(name) is not None:
                yield Scalar(step, f"watch/{name}", float(line[name]))


def text(line: Mapping[str, Any]) -> str:
    """What a line of the log says in words; empty where it says nothing."""
    if line["kind"] in ("decision", "note"):
        kind = Decision if line["kind"] == "decision" else Note
        return str(kind.from_json({name: value for name, value in line.items() if name != "kind"}))
    if line["kind"] == "complaint":
        return f"step {line['step']:,}: {line['said']}"
    if line["kind"] in ("resumed", "end"):
        return f"step {line['step']:,}: {line.get('why', 'the run goes on from a checkpoint')}"
    return ""


class _Sink:
    """What all have in common: factors that went back to 1 are said to be 1."""

    def __init__(self) -> None:
        self._factors: set[str] = set()

    def _scalars(self, line: Mapping[str, Any]) -> list[Scalar]:
        found = list(scalars(line))
        if line["kind"] == "factors":
            gone = self._factors - set(line["factors"])
            found += [Scalar(line["step"], f"watch/factor/{name}", 1.0) for name in sorted(gone)]
            self._factors |= set(line["factors"])
        return found


class TensorBoard(_Sink):
    """Into event files, through `torch.utils.tensorboard`.

    Of a run that goes on from a checkpoint, what was written later is hidden, as it is cut off in the log.

    Args:
        folder: where they lie, one run each.

    Raises:
        OptionError: the package tensorboard is not installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__()
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OptionError(f"TensorBoard cannot be written ({error}).", INSTALL) from None
        self.folder, self._kind = os.fspath(folder), SummaryWriter
        self._writer: Any = None
        self._header: dict[str, Any] = {}

    def __call__(self, line: dict[str, Any]) -> None:
        """Show a line of the log."""
        kind = line["kind"]
        if kind == "header":
            self._header = line
            return
        # A validation after the last update that was seen has the number of the next one, and stays.
        writer = self._open(line["step"] + 2 if kind == "resumed" else None)
        for scalar in self._scalars(line):
            writer.add_scalar(scalar.name, scalar.value, scalar.step)
        if said := text(line):
            writer.add_text("watch/notes" if kind == "note" else "watch/decisions", said, line["step"])
            writer.flush()  # it is rare, and somebody may wait for it
        if kind == "end":
            writer.close()
            self._writer = None

    def _open(self, purge: int | None) -> Any:
        if self._writer is None:
            self._writer = self._kind(self.folder, purge_step=purge)
            if self._header:
                about = {name: own for name, own in self._header.items() if name != "controller"}
                self._writer.add_text("watch/run", f"```\n{json.dumps(about, indent=1)}\n```", 0)
                self._header = {}
        return self._writer


class MLflow(_Sink):
    """Into a run of MLflow: metrics, the texts as the artifact `watch/decisions.txt`, the last of them as a tag.

    Args:
        run: the id of a run; default None: the active run, or else a new one, which ends with the watch.
        tracking_uri: where runs are kept; default None: as MLflow has it.
        experiment: of a new run; default "etascope".

    Raises:
        OptionError: the package mlflow, or mlflow-skinny, is not installed.
    """

    def __init__(self, run: str | None = None, tracking_uri: str | None = None, experiment: str = "etascope") -> None:
        super().__init__()
        try:
            import mlflow
            from mlflow.entities import Metric
        except ImportError as error:
            raise OptionError(f"MLflow cannot be written ({error}).", INSTALL) from None
        self._client, self._metric = mlflow.MlflowClient(tracking_uri), Metric
        active = mlflow.active_run() if run is None and tracking_uri is None else None
        self.run: str | None = run if active is None else active.info.run_id
        self._experiment, self._own = experiment, self.run is None
        self._texts: list[str] = []
        self._file = "watch/decisions.txt"

    def __call__(self, line: dict[str, Any]) -> None:
        """Show a line of the log."""
        run, kind = self.run or self._begin(), line["kind"]
        if kind == "header":
            for name in ("optimizer", "horizon", "act", "peak"):
                self._client.set_tag(run, f"watch.{name}", str(line.get(name)))
            self._client.set_tag(run, "watch.policies", ", ".join(line.get("policies", ())))
        if kind == "resumed":  # what stands in the run already stays
            self._file = f"watch/decisions_from_{line['step']}.txt"
        now = int(time.time() * 1000)
        metrics = [self._metric(s.name, s.value, now, s.step) for s in self._scalars(line)]
        for i in range(0, len(metrics), 1000):  # MLflow takes no more at once
            self._client.log_batch(run, metrics=metrics[i : i + 1000])
        if said := text(line):
            self._texts.append(said)
            self._client.log_text(run, "\n".join(self._texts) + "\n", self._file)
            if kind in ("decision", "note"):
                self._client.set_tag(run, f"watch.last_{kind}", said[:5000])
        if kind == "end" and self._own:
            self._client.set_terminated(run, "FINISHED" if line["why"] in ("over", "stopped") else "FAILED")

    def _begin(self) -> str:
        known = self._client.get_experiment_by_name(self._experiment)
        own = self._client.create_experiment(self._experiment) if known is None else known.experiment_id
        self.run = str(self._client.create_run(own).info.run_id)
        return self.run


class Wandb(_Sink):
    """Into a run of Weights & Biases: by an axis of its own, `watch/step`; what is said is in the summary.

    The run is not finished by it. Each row moves the run's own step on, 64 rows at once, and W&B drops what is logged
    with a `step=` below that. So log your own metrics without `step=`, by an axis of their own:

        run.define_metric("step")
        run.define_metric("train/*", step_metric="step")
        run.log({"step": i, "train/loss": loss})

    or give the watch a run of its own: `Wandb(wandb.init(group="mine", reinit="create_new"))`.

    Args:
        run: what `wandb.init` returned; default None: the one that is active.

    Raises:
        OptionError: the package wandb is not installed, or there is no run.
    """

    def __init__(self, run: Any = None) -> None:
        super().__init__()
        try:
            import wandb
        except ImportError as error:
            raise OptionError(f"Weights & Biases cannot be written ({error}).", INSTALL) from None
        self.run: Any = wandb.run if run is None else run
        if self.run is None:
            raise OptionError("No run of Weights & Biases is active.", "Begin one first: Wandb(wandb.init(...)).")
        self.run.define_metric("watch/step")
        self.run.define_metric("watch/*", step_metric="watch/step")
        self._texts: list[str] = []

    def __call__(self, line: dict[str, Any]) -> None:
        """Show a line of the log."""
        if line["kind"] == "header":
            about = {name: own for name, own in line.items() if name not in ("controller", "layers", "kind")}
            self.run.config.update({"watch": about}, allow_val_change=True)
        rows: dict[int, dict[str, Any]] = {}
        for scalar in self._scalars(line):
            rows.setdefault(scalar.step, {"watch/step": scalar.step})[scalar.name] = scalar.value
        for row in rows.values():
            self.run.log(row)
        if said := text(line):
            self._texts.append(said)
            self.run.summary["watch/said"] = list(self._texts)
            if line["kind"] in ("decision", "note"):
                self.run.log({"watch/step": line["step"], f"watch/{line['kind']}": said})
