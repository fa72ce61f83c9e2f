"""Made-up runs: losses as a training would show them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from etascope.records import Decision, Note
from etascope.watcher import Controller, LayerProbe, Probe, Run, rewind
from etascope.watcher.policies import follow

HORIZON = 1000


def falling(
    steps: int = HORIZON, noise: float = 0.03, start: float = 2.3, end: float = 0.3, seed: int = 0
) -> list[float]:
    """A loss that falls as trainings do."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps) / steps
    return list(map(float, end + (start - end) * np.exp(-5 * t) + noise * rng.standard_normal(steps)))


def cosine(step: int, horizon: int = HORIZON) -> float:
    """The lr of a cosine decay."""
    return 1e-2 * 0.5 * (1 + math.cos(math.pi * step / horizon))


def controller(act: bool = True, horizon: int | None = HORIZON, **options: Any) -> Controller:
    """One with the default policies."""
    policies = options.pop("policies", (rewind(), follow()))
    known = {"rule": "adamw", "peak": 1e-2, "warmup": 0, **options.pop("run", {})}
    return Controller(Run(horizon=horizon, act=act, **known), policies, **options)


def feed(
    watcher: Controller, losses: list[float], lr: Any = cosine, grad: float | None = None, first: int = 0
) -> list[Decision]:
    """Show it the losses of successive updates; what it decided. An update that is left out is not made."""
    decisions, step = [], first
    for i, loss in enumerate(losses):
        norm = 1.0 + 0.01 * (7 * i % 13) if grad is None else grad
        decision = watcher.observe(step, loss, lr(step) if callable(lr) else lr, norm)
        if decision is not None:
            decisions.append(decision)
        if decision is None or not decision.taken or decision.action not in ("skip", "rewind", "stop"):
            step += 1
    return decisions


def notes(watcher: Controller) -> list[str]:
    """The codes of what it noted."""
    return [said.code for said in watcher.news if isinstance(said, Note)]


def probe(update_ratio: float = 1e-3, effective_lr: float = 1e-2, sign: float = 0.0, **others: Any) -> Probe:
    """A look at two layers that do the same."""
    layer = LayerProbe(update_ratio, effective_lr, sign)
    return Probe({"first": layer, "last": layer}, **others)


def probed(watcher: Controller, losses: list[float], looks: dict[int, Probe], lr: Any = cosine) -> Controller:
    """Show it the losses, and a probe right before each step that `looks` names."""
    done = 0
    for step in sorted(looks):
        feed(watcher, losses[done:step], lr, first=done)
        watcher.probe(step, looks[step])
        done = step
    feed(watcher, losses[done:], lr, first=done)
    return watcher


def said(watcher: Controller, code: str) -> list[Note]:
    """Its notes under a code."""
    return [own for own in watcher.news if isinstance(own, Note) and own.code == code]
