"""Synthetic records: curves with noise, as real trainings leave them."""

import math

import numpy as np
import pytest

from etascope.records import Curve, Engine, Finding, Predicted, Rung, Sweep, Unanswered

INIT, FLOOR, HORIZON, EDGE = 2.31, 0.14, 2000, 0.19


def metric(loss):
    """A negated accuracy that goes with a loss."""
    return -max(0.0, 1 - 0.9 * loss / INIT)


def final(lr, steps, best=8e-3):
    """A plausible final loss: too little progress below, too much noise above, `inf` from the edge on."""
    if lr >= EDGE:
        return math.inf
    progress = 1 / (1 + (lr / best) * 30 * (steps / HORIZON) ** 0.6) ** 1.15
    jitter = 0.09 * (lr / best / 2.2) ** 1.1
    return FLOOR + (INIT - FLOOR) * min(0.97, progress + jitter * 0.35)


def curve(lr, seed, steps, points=60, val=True, train=True, judge=float):
    rng = np.random.default_rng([seed, steps, round(1e6 * math.log(lr)) % 2**32])
    end = final(lr, steps) * (1 + 0.015 * rng.standard_normal())
    at = np.unique(np.linspace(1, steps, points).astype(int))
    rough = 0.05 + 0.25 * min(1.0, lr / EDGE)
    if not math.isfinite(end):
        blown = max(3, int(steps * 0.02 * (EDGE / lr) ** 0.4 * 8))
        at = at[at < blown] if (at < blown).sum() > 2 else np.arange(1, min(blown, 12))
        losses = INIT * np.exp(np.linspace(0, 5, len(at)) ** 1.3 * 0.6) * np.exp(0.1 * rng.standard_normal(len(at)))
        line = [*zip(at.tolist(), losses.tolist(), strict=True), (int(at[-1]) + 1, math.inf)]
        kept = tuple(line)
        vals = ((0, judge(INIT)), (int(at[-1]), judge(float(losses[-1]))))
        return Curve(lr, seed, steps, math.inf, blown, blown, kept if train else (), vals if val else ())
    part = at / steps
    shape = (1 - part) ** 2 * np.exp(-6 * part * min(1, lr / 2e-3)) + 0.12 * (1 - part) * min(1, lr / 2e-3)
    losses = end + (INIT - end) * shape
    noisy = losses * np.exp(rough * rng.standard_normal(len(at)) * (0.3 + 0.7 * (1 - part)))
    when = np.unique(np.linspace(0, steps, 14).astype(int))
    vals = [(int(s), judge(float(np.interp(s, [0, *at], [INIT, *losses])))) for s in when]
    vals[-1] = (steps, judge(end))
    return Curve(
        lr,
        seed,
        steps,
        judge(end),
        None,
        steps,
        tuple(zip(at.tolist(), (noisy * 0.94).tolist(), strict=True)) if train else (),
        tuple(vals) if val else (),
    )


def common(**changes):
    t = np.unique(np.linspace(0, HORIZON, 101).astype(int))
    shape = [(int(s), float(min((s + 1) / 101, 0.5 * (1 + math.cos(math.pi * max(0, s - 100) / 1900))))) for s in t]
    return {
        "task": "digits",
        "horizon": HORIZON,
        "seed": 0,
        "init_loss": INIT,
        "optimizer": "AdamW(betas=(0.9, 0.95), weight_decay=0.1)",
        "groups": 2,
        "multipliers": tuple(shape),
        "schedule": {
            "schema": 1,
            "kind": "then",
            "parts": [
                {"kind": "warmup", "length": "5%", "start": None},
                {"kind": "cosine", "length": None, "start": 1.0, "to": 0.0},
            ],
        },
        "judged": "the validation loss after the last step",
        "validation": "all 297 examples",
        "engine": Engine("lanes", 16, 2, "cpu", "1.9 times as fast as the loop in 20 trial steps"),
        "cost": 0.97,
        "eval_s": 3.1,
        "wall_s": 41.3,
        "versions": {
            "etascope": "0.1.0",
            "python": "3.11.9",
            "torch": "2.7.1",
            "numpy": "2.2.6",
            "platform": "Linux",
        },
        "paste": "optimizer = torch.optim.AdamW(model.parameters(), lr={lr}, weight_decay=0.1)",
    } | changes


def race(rungs=((63, 16, 1e-5, 10.0), (250, 7, 1e-3, 0.15), (1000, 3, 4e-3, 3e-2), (2000, 1, 1e-2, 1e-2)), **how):
    return tuple(
        Rung(steps, tuple(curve(float(lr), 0, steps, **how) for lr in np.geomspace(lo, hi, count)))
        for steps, count, lo, hi in rungs
    )


def make_finding(rungs=None, judge=float, **changes):
    grid = [float(v) for v in np.geomspace(1e-5, 10, 121)]
    loss = [final(lr, HORIZON) if lr < EDGE else INIT for lr in grid]
    wide = [0.02 + 0.12 * abs(math.log10(lr / 1e-2)) for lr in grid]
    ends = [sorted(judge(v + k * w) for k in (-1, 0, 1)) for v, w in zip(loss, wide, strict=True)]
    low, middle, high = zip(*ends, strict=True)
    predicted = Predicted(tuple(grid), middle, low, high)
    base = common() | {
        "rungs": race() if rungs is None else rungs,
        "lr": 1.1e-2,
        "interval": (7.2e-3, 1.6e-2),
        "zone": (5.4e-3, 2.3e-2),
        "edge": EDGE,
        "loss": judge(final(1.1e-2, HORIZON)),
        "budget": 1.0,
        "drift": -0.12,
        "noise": 0.011,
        "predicted": predicted,
    }
    return Finding(**(base | changes))


def make_sweep(lrs=25, seeds=(0, 1, 2), lo=1e-4, hi=1.0, how=None, **changes):
    rung = Rung(
        HORIZON,
        tuple(curve(float(lr), s, HORIZON, **(how or {})) for lr in np.geomspace(lo, hi, lrs) for s in seeds),
    )
    return Sweep(**(common(cost=float(len(rung.curves)), wall_s=4021.0) | {"rungs": (rung,)} | changes))


def make_unanswered(rungs=None, **changes):
    if rungs is None:
        rungs = race(((63, 12, 0.2, 100.0),))
    base = common(cost=0.03) | {
        "rungs": rungs,
        "reason": "every learning rate diverges, down to 0.2",
        "budget": 1.0,
    }
    return Unanswered(**(base | changes))


@pytest.fixture
def make():
    """The makers, by name: make.finding(), make.sweep(), make.unanswered(), make.curve(), make.race()."""

    class Make:
        finding = staticmethod(make_finding)
        sweep = staticmethod(make_sweep)
        unanswered = staticmethod(make_unanswered)
        curve = staticmethod(curve)
        race = staticmethod(race)

    return Make


def odd_records():
    """Records at the borders of what can happen, by name."""
    one = make_finding().rungs[0].curves[5]
    small = {"lr": 1e-9, "zone": (5e-10, 2e-9), "interval": (8e-10, 1.5e-9), "edge": None}
    tiny = Predicted((1e-10, 1e-9, 1e-8), (1.0, 0.5, 1.0), (0.9, 0.4, 0.9), (1.1, 0.6, 1.1))
    return {
        "plain": make_finding(),
        "interrupted": make_finding(complete=False, notes=("Interrupted in rung 3 of 4.",)),
        "mine low": (f := make_finding()).__class__(**(vars(f) | {"mine": f.judge(1e-3)})),
        "mine diverges": f.__class__(**(vars(f) | {"mine": f.judge(3.0)})),
        "mine off the map": f.__class__(**(vars(f) | {"mine": f.judge(1e-9)})),
        "no edge": make_finding(race(((63, 12, 1e-5, 0.1), (250, 5, 1e-3, 0.1), (1000, 3, 4e-3, 3e-2))), edge=None),
        "no val": make_finding(race(val=False)),
        "no curves": make_finding(
            race(val=False, train=False),
            engine=Engine("callable", 1, 2, "cpu"),
            init_loss=None,
            multipliers=(),
        ),
        "its own engine": make_finding(engine=Engine("callable", 1, 0, "its own", "a training function")),
        "one rung": make_finding(race(((63, 9, 1e-4, 1.0),))),
        "one lr": make_finding(race(((2000, 1, 1e-2, 1e-2),)), edge=None),
        "no rungs": make_finding(()),
        "no init": make_finding(init_loss=None),
        "nan init": make_finding(init_loss=math.nan),
        "metric": make_finding(race(judge=metric), metric, init_loss=metric(INIT), goal="max"),
        "tiny lr": make_finding(
            (
                Rung(
                    10,
                    tuple(Curve(v, 0, 10, x, None, 10) for v, x in ((1e-10, 1.0), (1e-9, 0.5), (1e-8, 1.0))),
                ),
            ),
            loss=0.5,
            predicted=tiny,
            **small,
        ),
        "huge lr": make_finding(
            (
                Rung(
                    10,
                    tuple(Curve(v, 0, 10, x, None, 10) for v, x in ((1e4, 1.0), (1e6, 0.5), (1e8, math.inf))),
                ),
            ),
            lr=1e6,
            zone=(5e5, 2e6),
            interval=(6e5, 1.5e6),
            edge=1e8,
            predicted=Predicted((1e4, 1e6, 1e8), (1.0, 0.5, 1.0), (0.9, 0.4, math.nan), (1.1, 0.6, math.inf)),
        ),
        "nan in curves": make_finding(
            (
                Rung(
                    63,
                    (
                        Curve(
                            1e-2,
                            0,
                            63,
                            0.5,
                            None,
                            63,
                            ((1, math.nan), (9, 1.0), (63, math.inf)),
                            ((0, math.nan),),
                        ),
                        one,
                    ),
                ),
            )
        ),
        "all equal": make_finding((Rung(9, tuple(Curve(v, 0, 9, 1.0, None, 9) for v in (1e-3, 1e-2))),), init_loss=1.0),
        "sweep": make_sweep(),
        "sweep of one": make_sweep(1, (0,), 1e-2, 1e-2),
        "sweep without edge": make_sweep(7, (0, 1), 1e-4, 1e-1),
        "sweep all diverged": make_sweep(5, (0, 1), 1.0, 10.0),
        "sweep of a metric": make_sweep(9, (0, 1), how={"judge": metric}, goal="max", init_loss=metric(INIT)),
        "sweep no init": make_sweep(9, (0, 1), init_loss=None),
        "200 settings": make_sweep(200, (0,), 1e-5, 10.0),
        "unanswered": make_unanswered(),
        "unanswered flat": make_unanswered(
            (
                Rung(
                    63,
                    tuple(Curve(v, 0, 63, 2.3, None, 63, ((1, 2.3), (63, 2.3))) for v in (1e-3, 1e-2, 0.1)),
                ),
            ),
            reason="the loss is flat within its noise.",
        ),
        "unanswered at once": make_unanswered((), reason="the loss is not finite at the start", init_loss=None),
    }


@pytest.fixture(scope="session")
def odd():
    """Records at the borders of what can happen, by name."""
    return odd_records()
