"""Made-up runs: columns without a training behind them."""

import json
import math

import numpy as np

from etascope.diagnosis import Probe, RunLog, Series
from etascope.records.run import SCHEMA, exact


def run(kind="fine", n=400, seed=0, optimizer="SGD(momentum=0.9)", lr=0.05):
    """A run's log with every column; `kind` is "fine", "low", "high" or "diverges"."""
    rng, at = np.random.default_rng(seed), np.linspace(0, 1, n)
    noise = rng.normal(size=n)
    loss = {
        "fine": 0.4 + 1.9 * np.exp(-at * 25) + 0.06 * noise - 0.1 * at,
        "low": 2.3 - 0.04 * at + 0.01 * noise,
        "high": 2.1 + 0.3 * np.sin(at * 60) + 0.4 * np.abs(noise) - 0.3 * (at > 0.9),
        "diverges": 2.3 * np.exp(np.minimum(at * 40, 60)) + 0.01 * noise,
    }[kind]
    if kind == "diverges":
        loss[n // 4 :] = math.nan
    size = {"fine": 3e-3, "low": 1e-5, "high": 0.3, "diverges": 3.0}[kind]
    sign = {"fine": 0.75, "low": 0.98, "high": 0.2, "diverges": -0.3}[kind]
    lr = {"fine": lr, "low": lr / 300, "high": lr * 30, "diverges": lr * 300}[kind]
    steps, probes = np.arange(float(n)), np.arange(float(n))[5 :: max(1, n // 50)]
    layers = {
        name: {"update_ratio": size * w, "effective_lr": 3 * lr, "sign": sign} for name, w in (("a", 1.0), ("b", 2.0))
    }
    ends = n // 4 if kind == "diverges" else n
    return RunLog(
        loss=Series(steps, loss),
        lr=Series(steps, np.full(n, lr)),
        val=Series(steps[:: n // 10], loss[:: n // 10] + 0.02),
        grad=Series(steps[::4], np.abs(1 + 0.1 * noise[::4])),
        probes=tuple(Probe(float(s), layers, noise_scale=5.0) for s in probes if s < ends),
        optimizer=optimizer,
        horizon=float(n),
        columns={"loss": "loss", "lr": "lr", "val": "val"},
        source="a run",
    )


def watch_lines(log, block=50):
    """The log of a watched run that is read as `log`, as text."""
    lines = [
        {"kind": "header", "schema": SCHEMA, "optimizer": log.optimizer, "peaks": [0.1], "horizon": int(log.horizon)}
    ]
    norms = dict(zip(log.grad.steps, log.grad.values, strict=True))
    for start in range(0, len(log.loss), block):
        part = slice(start, start + block)
        steps = log.loss.steps[part]
        lines.append(
            {"kind": "steps", "seen": start, "step": start, "loss": log.loss.values[part].tolist(),
             "lr": log.lr.values[part].tolist(),
             "grad": [[i, float(norms[s])] for i, s in enumerate(steps) if s in norms]}
        )  # fmt: skip
    lines += [{"kind": "val", "seen": int(s), "step": int(s), "loss": float(v)} for s, v in zip(*log.val, strict=True)]
    lines += [
        {"kind": "probe", "seen": int(p.step), "step": int(p.step), "layers": p.layers, "noise_scale": p.noise_scale}
        for p in log.probes
    ]
    return "".join(json.dumps(exact(line), allow_nan=False) + "\n" for line in lines)
