"""The runs that `diagnose.py` fits and scores with: trained in plain torch, each written as the log of a watched run.

A log has no label; labels stand in runs.jsonl beside the logs, a line for each run.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import time
import warnings
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnosis_faults import KINDS, Broken, NotHere, fault

import etascope as eta
from etascope.engines.data import map_tensors
from etascope.engines.judging import final_loss
from etascope.engines.prepared import Built, Prepared
from etascope.engines.randomness import seed_all
from etascope.records.run import SCHEMA, exact

sys.path.insert(0, str(Path(__file__).parent / "finders"))

from diagnosis_variants import VARIANTS, task_of, truth_of

from workloads import BLIND, CHOOSING, FRESH, REPORTING

__all__ = ["FIT", "SCORED", "Run", "VARIANTS", "label", "make", "plan"]

FIT, SCORED = (*CHOOSING, *REPORTING, *FRESH), tuple(BLIND)
MULTIPLES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
BETWEEN = (0.017, 0.055, 0.17, 0.55, 1.0, 1.7, 5.5, 17.0, 55.0)
SEEDS = 10  # the first: those of the truth are 0, 1 and 2
PROBES, BLOCK, GRAD_EVERY, SAMPLED, AFTER_NAN, SMOOTHING = 50, 50, 4, 4096, 20, 0.9


@dataclass(frozen=True)
class Run:
    """One run to be made.

    Args:
        task: the workload.
        kind: of fault; "" for a run with its lr alone to blame.
        lr: the peak.
        multiple: of the truth's best lr.
        seed: the setting's.
    """

    task: str
    kind: str
    lr: float
    multiple: float
    seed: int

    @property
    def file(self) -> str:
        """The log's name."""
        return f"{self.task}-{self.kind or 'lr'}-{self.lr:.4g}-{self.seed}.jsonl"


def plan(name: str, round_: int, folder: Path) -> Iterator[Run]:
    """A task's runs in a round: nine lrs, and each kind of fault once. A variant's truth may have to be made first.

    Round 0 has the multiples that the issue names, and faults at the best lr; odd rounds have other seeds, and faults
    somewhere in the zone. The tasks that are fitted with have multiples in between in their odd rounds; those that were
    or are scored the same again.
    """
    dense, seed = truth_of(name, folder), SEEDS + round_
    low, high = dense.zone
    best = dense.best[0]
    multiples = MULTIPLES if name in (*FRESH, *BLIND) or round_ % 2 == 0 else BETWEEN
    for multiple in multiples:
        yield Run(name, "", float(f"{best * multiple:.4g}"), multiple, seed)
    for i, kind in enumerate(KINDS):
        place = np.random.default_rng([round_, i, zlib.crc32(name.encode())]).uniform(0.1, 0.9)
        lr = best if round_ == 0 else low * (high / low) ** place
        yield Run(name, kind, float(f"{lr:.4g}"), lr / best, seed)


def label(run: Run, dense: eta.Sweep, diverged: bool) -> str:
    """What a run is, by the dense truth."""
    low, high = dense.zone
    if run.kind:
        return "not the learning rate"
    if run.lr < low * (1 - 1e-6):
        return "too low"
    return "too high" if diverged or run.lr > high * (1 + 1e-6) else "fine"


def make(names: Sequence[str], rounds: Sequence[int], folder: Path, seconds: float) -> None:
    """Train what is not in the folder yet, until the time is over."""
    folder.mkdir(parents=True, exist_ok=True)
    book = folder / "runs.jsonl"
    known = {json.loads(line)["log"] for line in book.read_text().splitlines()} if book.exists() else set()
    end = time.monotonic() + seconds
    for round_, name in itertools.product(rounds, names):
        try:
            runs = [run for run in plan(name, round_, folder) if run.file not in known]
        except eta.EtascopeError as reason:
            print(f"{name}: {reason}", flush=True)
            continue
        for run in runs:
            if time.monotonic() > end:
                print("out of time", flush=True)
                return
            start = time.monotonic()
            try:
                made = _made(run, folder / run.file)
            except NotHere as reason:
                made = {"left_out": str(reason)}
            made["wall_s"] = round(time.monotonic() - start, 2)
            with book.open("a") as out:
                out.write(json.dumps({"log": run.file} | asdict(run) | made) + "\n")
        print(f"round {round_} {name}: {len(runs)} runs", flush=True)


def _made(run: Run, path: Path) -> dict[str, Any]:
    """Train a run and write its log; its label, or why it has none."""
    torch.set_num_threads(1)
    task, dense = task_of(run.task), truth_of(run.task, path.parent)
    sound = Prepared(task, torch.device("cpu"))
    named = type(sound.optimizer(sound.model(0), 1e-3)[0]).__name__
    broken = fault(run.kind, run.task, task, named, run.seed)
    trained = Training(run, broken, sound, dense)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        final = trained.train()
    path.write_text("".join(json.dumps(exact(line), allow_nan=False) + "\n" for line in trained.lines))
    diverged = not math.isfinite(final)
    made = {
        "label": label(run, dense, diverged),
        "final": exact(final),
        "best": dense.best[1],
        "tolerance": dense.tolerance,
    }
    # Twice the tolerance: a sound run at the zone's border may end a little above one.
    if run.kind and final <= dense.best[1] + 2 * dense.tolerance:
        made["left_out"] = "the fault did no harm"
    return made


class Training:
    """One run, and the lines of its log.

    Args:
        run: which one.
        broken: its fault.
        sound: the task without it, which says what the run is worth.
        dense: the truth of the task.
    """

    def __init__(self, run: Run, broken: Broken, sound: Prepared, dense: eta.Sweep) -> None:
        self.dense = dense
        self.run, self.broken, self.sound = run, broken, sound
        self.prepared = Prepared(broken.task, torch.device("cpu"))
        self.horizon = sound.horizon
        self.built: Built = self.prepared.build(run.seed, run.lr)
        if broken.layer is not None:
            broken.layer(self.built.objective.model)
        if broken.decay is not None:
            for group in self.built.optimizer.param_groups:
                group["weight_decay"] = broken.decay / run.lr
        self.handle = eta.attach(
            sound.schedule.schedule, self.built.optimizer, lr=run.lr, horizon=self.horizon,
            steps_per_epoch=sound.task.steps_per_epoch,
        )  # fmt: skip
        self.layers = self._layers()
        facts = sound.facts(run.seed)
        self.lines: list[dict[str, Any]] = [
            {"kind": "header", "schema": SCHEMA, "optimizer": facts.optimizer, "rule": facts.optimizer.split("(")[0],
             "schedule": facts.schedule, "peaks": [run.lr], "horizon": self.horizon, "layers": list(self.layers),
             "act": False, "policies": [], "settings": {}, "versions": {"torch": torch.__version__}}
        ]  # fmt: skip
        self.block: dict[str, Any] = {}
        self.noise = self.signal = self.weight = 0.0
        # A watch that hooks the optimizer sees gradients behind the clipping, one that hooks backward before it.
        self.clipped_seen = run.seed % 2 == 0

    def _layers(self) -> dict[str, list[torch.Tensor]]:
        owned = {id(q) for q in self.built.optimized}
        layers: dict[str, list[torch.Tensor]] = defaultdict(list)
        for name, q in self.built.objective.model.named_parameters():
            if id(q) in owned:
                layers[name.rpartition(".")[0] or "model"].append(q)
        return dict(layers)

    def train(self) -> float:
        """Train to the end, or to the first loss that is not finite; the final loss by the task's rule."""
        run, sound, horizon = self.run, self.sound, self.horizon
        judging = sound.judging(horizon)
        logged = self._logged_validation()
        init = sound.init_loss(run.seed, judging)
        batches = self.prepared.batches(run.seed, 0)
        clip = self._clip()
        seed_all("noise", run.seed, 0)
        every = max(2, round(horizon / PROBES))
        losses: list[float] = []
        judged = [] if judging is None else [(0, init)]
        if logged is not None:
            self._val(0, self._logged(logged, judging.final_batches))
        earlier: tuple[Any, Any] | None = None  # the last update and its gradients, where a probe follows
        for t in range(horizon):
            probed = t % every == every - 1 or t == 1
            looked = probed or (t + 1) % every == every - 1 or t == 0
            before = self._copy() if looked else None
            lr = float(self.built.optimizer.param_groups[0]["lr"])
            loss, norm, grads = self._step(t, batches, clip, looked)
            self._observe(t, loss, lr, norm if t % GRAD_EVERY == 0 else None)
            losses.append(loss)
            if not math.isfinite(loss):
                for after in range(t + 1, min(horizon, t + 1 + (AFTER_NAN if run.seed % 2 == 0 else 0))):
                    self._observe(after, math.nan, lr, math.nan if after % GRAD_EVERY == 0 else None)
                self._end(t + 1, "diverged")
                return math.inf
            update = None if before is None else [q.detach() - b for q, b in zip(self._flat(), before, strict=True)]
            if probed and update is not None and earlier is not None:
                self._probe(t, before, update, grads, *earlier)
            earlier = None if update is None else (update, grads)
            if judging is not None and (which := judging.batches_at.get(t + 1)) is not None:
                judged.append((t + 1, sound.evaluate(self.built.objective, which, run.seed)))
                if logged is not None:
                    self._val(t + 1, judged[-1][1] if logged is sound else self._logged(logged, which))
        self._end(horizon, "horizon")
        loss = final_loss(horizon, judging, losses, judged)
        start = init if judging is not None else max(init, losses[0])
        below_best = run.lr < self.dense.best[0] and not run.kind
        return loss if loss <= start or (below_best and math.isfinite(loss)) else math.inf

    def _step(self, t: int, batches: Iterator[Any], clip: float | None, keep: bool) -> tuple[float, float, Any]:
        built, task = self.built, self.sound.task
        if self.broken.zero:
            built.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for batch in itertools.islice(batches, task.accumulate):
            loss = built.objective(self.broken.batch(t, map_tensors(batch, torch.clone))) / task.accumulate
            loss.backward()
            total += loss.item()
        norm = float(self._norm())
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(built.optimized, clip)
        if task.clip_value is not None:
            torch.nn.utils.clip_grad_value_(built.optimized, task.clip_value)
        if self.clipped_seen and clip is not None:
            norm = float(self._norm())
        grads = [torch.zeros_like(q) if q.grad is None else q.grad.clone() for q in self._flat()] if keep else None
        built.optimizer.step()
        return total, norm, grads

    def _norm(self) -> torch.Tensor:
        return torch.stack([q.grad.norm() for q in self.built.optimized if q.grad is not None]).norm()

    def _clip(self) -> float | None:
        """The norm to clip at."""
        if self.broken.clip is None:
            return self.sound.task.clip_norm
        norms = []
        for batch in itertools.islice(self.prepared.batches(self.run.seed, -1), 4):
            self.built.optimizer.zero_grad(set_to_none=True)
            self.built.objective(batch).backward()
            norms.append(float(self._norm()))
        self.built.optimizer.zero_grad(set_to_none=True)
        return self.broken.clip * float(np.median(norms))

    # ---------------------------------------------------------------------------------- the log

    def _logged_validation(self) -> Prepared | None:
        """What the validation loss in the log is taken on; None where the task judges no loss."""
        if self.sound.task.evaluate is not None or not self.sound.validation:
            return None
        if not self.broken.val:
            return self.sound
        from dataclasses import replace

        val = [self.broken.batch(10**6 + i, batch) for i, batch in enumerate(self.sound.validation)]
        return Prepared(replace(self.sound.task, val=val), torch.device("cpu"))

    def _logged(self, prepared: Prepared, which: tuple[int, ...]) -> float:
        return prepared.evaluate(self.built.objective, which, self.run.seed)

    def _observe(self, t: int, loss: float, lr: float, norm: float | None) -> None:
        if not self.block:
            self.block = {"kind": "steps", "seen": t, "step": t, "loss": [], "lr": [], "grad": []}
        if norm is not None:
            self.block["grad"].append([len(self.block["loss"]), norm])
        self.block["loss"].append(loss)
        self.block["lr"].append(lr)
        if len(self.block["loss"]) == BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self.block:
            self.lines.append(self.block)
            self.block = {}

    def _val(self, step: int, loss: float) -> None:
        self._flush()
        self.lines.append({"kind": "val", "seen": step, "step": step, "loss": loss})

    def _end(self, step: int, why: str) -> None:
        self._flush()
        self.lines.append({"kind": "end", "seen": step, "step": step, "why": why})

    def _flat(self) -> list[torch.Tensor]:
        return [q for tensors in self.layers.values() for q in tensors]

    def _copy(self) -> list[torch.Tensor]:
        return [q.detach().clone() for q in self._flat()]

    def _probe(self, t: int, before: Any, update: Any, grads: Any, earlier: Any, earlier_grads: Any) -> None:
        """What `etascope.probes` sees of two updates in a row, by a slower way."""
        said, at = {}, 0
        for name, tensors in self.layers.items():
            part = slice(at, at := at + len(tensors))
            size, moved, grad = (_norm_of(own[part]) for own in (before, update, grads))
            turns = [_signs(a, b) for a, b in zip(update[part], earlier[part], strict=True)]
            own = {"update_ratio": moved / size} if size > 0 else {}
            own |= {"effective_lr": moved / grad} if grad > 0 else {}
            said[name] = own | {"sign": float(np.average(turns, weights=[q.numel() for q in tensors]))}
        noise = math.fsum(float((a - b).square().sum()) for a, b in zip(grads, earlier_grads, strict=True)) / 2
        signal = math.fsum(float((a * b).sum()) for a, b in zip(grads, earlier_grads, strict=True))
        if math.isfinite(noise) and math.isfinite(signal):
            self.weight = SMOOTHING * self.weight + 1.0
            self.noise += (noise - self.noise) / self.weight
            self.signal += (signal - self.signal) / self.weight
        scale = {"noise_scale": self.noise / self.signal} if self.signal > 0 else {}
        self._flush()
        self.lines.append({"kind": "probe", "seen": t + 1, "step": t + 1, "layers": said} | scale)


def _norm_of(tensors: list[torch.Tensor]) -> float:
    return math.sqrt(math.fsum(float(t.norm()) ** 2 for t in tensors))


def _signs(update: torch.Tensor, earlier: torch.Tensor) -> float:
    """How far the signs of two updates agree, -1 to 1, over at most so many coordinates, evenly spaced."""
    a, b = update.flatten(), earlier.flatten()
    step = max(1, -(-len(a) // SAMPLED))
    return float((a[::step].sign() * b[::step].sign()).mean())
