"""One run: a workload, a seed, what is injected, who watches."""

import time
import warnings
from functools import cache

import numpy as np
import torch

import etascope as eta
from etascope.records.run import exact

from .arms import ARMS
from .faults import fault_of
from .workloads import WORKLOADS, loss_of

CLEAN = ("clean", "clean, constant")
EVERY = 50  # batches between validations
AT_MOST = 2  # times the horizon: batches that a run may draw
INSIDE = 0.02  # of the clean run's drop: how far off a run may be
LAST = 10  # losses of a running median, and batches that a recovery holds
COURSE = 51  # losses of the median that is a clean run's course
FLICKER = 0.25  # share of what follows a recovery that noise may lift over the bound
TOLD = 40  # alarms that are kept of a run; all are counted


class Exhausted(Exception):
    """A run has drawn as many batches as it may."""


class Stream:
    """Fresh batches (x, y, number) drawn by a seed, which go on where they were when iterated again.

    Args:
        work: the workload.
        seed: of the run.
        fault: what is injected.
    """

    def __init__(self, work, seed, fault):
        self.work, self.fault, self.number = work, fault, 0
        self.generator = torch.Generator().manual_seed(seed)

    def __iter__(self):
        x, y = self.work.data()[0]
        while True:
            if self.number == AT_MOST * self.work.horizon:
                raise Exhausted
            rows, number = torch.randint(len(x), (self.work.batch,), generator=self.generator), self.number
            self.number += 1
            yield *self.fault.batch(number, x[rows], y[rows]), number


def train(work, seed, kind, arm):
    """A whole run.

    Args:
        work: the workload.
        seed: of weights, batches and fault.
        kind: a fault's, or one of `CLEAN`.
        arm: name of who watches.

    Returns:
        The record, and the training loss and the updates made after each batch.
    """
    began, fault = time.perf_counter(), fault_of(kind, work, seed)
    model = work.start(seed)
    optimizer = work.optimizer(model.parameters(), lr=work.lr)
    multiplier = fault.schedule(work.schedule("constant" if kind == "clean, constant" else "cosine"))
    handle = eta.attach(multiplier, optimizer, horizon=work.horizon)
    scaler = torch.amp.GradScaler("cpu") if fault.scaled else None
    stream, losses, updates, init = Stream(work, seed, fault), [], [], work.evaluate(model)
    guard, ended = ARMS[arm](model, optimizer, handle, scaler, work.horizon), "horizon"
    try:
        with guard:
            for x, y, number in guard.batches(stream):
                guard.number = number
                fault.before_forward(number, model)
                loss = loss_of(model, x, y)
                if scaler is None:
                    loss.backward()
                else:
                    fault.before_scaling(number, scaler)
                    scaler.scale(loss).backward()
                fault.after_backward(number, model)
                fault.before_step(number, optimizer)
                guard.before_step(loss)
                if scaler is None:
                    optimizer.step()
                else:
                    scaler.step(optimizer)
                    scaler.update()
                optimizer.zero_grad()
                losses.append(loss.item())
                updates.append(handle.step)
                guard.after_step(loss)
                if guard.validates and number % EVERY == EVERY - 1:
                    guard.validate(work.evaluate(model))
                if guard.stops:
                    ended = "stopped"
                    break
    except Exhausted:
        ended = "exhausted"
    final, step = work.evaluate(model), handle.step
    handle.detach()
    start = None if kind in CLEAN else fault.start
    # An alarm counts from the fault's start, so those before it are never cut.
    after = [alarm for alarm in guard.alarms if start is not None and alarm[0] >= start]
    return {
        "workload": work.name, "kind": kind, "seed": seed, "start": start, "init": init, "final": final,
        "ended": ended, "batches": len(losses), "updates": step, "n_alarms": len(guard.alarms), "n_after": len(after),
        "first_after": after[0][0] if after else None, "alarms": guard.alarms[:TOLD],
        "seconds": round(time.perf_counter() - began, 3),
    }, losses, updates  # fmt: skip


@cache
def clean(name, seed):
    """The clean run that a faulty one is compared to: its record, its loss in each batch, and the course of that."""
    record, losses, _ = train(WORKLOADS[name], seed, "clean", "nothing")
    return record, np.array(losses), medians(losses, before=COURSE // 2, after=COURSE // 2)


def medians(losses, before, after):
    """The median of each loss with so many before and after it; NaN where one of them is."""
    return np.array([np.median(losses[max(0, i - before) : i + after + 1]) for i in range(len(losses))])


def recovery(record, losses, updates):
    """Batches from the fault's start until the run is back where the clean one is at that update.

    A loss is above the clean run's course at that update by so much, less what the clean run's loss in the same batch
    was above its own: easy and hard batches would else hide a difference of 2%. Back: the running median of the last
    ten is at most 2% of the clean run's drop and updates are made, in the next ten batches and in three quarters of
    all that follow. 0 if it never was off; None if it is never back.
    """
    was, batch, course = clean(record["workload"], record["seed"])
    hard = np.zeros(max(len(losses), len(batch)))
    hard[: len(batch)] = batch - course
    at = np.clip(np.array(updates) - 1, 0, len(course) - 1)
    above = np.array(losses) - course[at] - hard[: len(losses)]
    off = ~(medians(above, before=LAST - 1, after=0) <= INSIDE * (was["init"] - was["final"]))
    off[LAST:] |= np.array(updates)[LAST:] == np.array(updates)[:-LAST]  # it stands still
    off = off[record["start"] :]
    if not off.any():
        return 0
    first = int(np.argmax(off))
    for i in range(first, len(off) - LAST + 1):
        if not off[i : i + LAST].any() and off[i:].mean() <= FLICKER:
            return i
    return None


def run(name, seed, kind, arm):
    """The record of a run, as plain data."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the handle's, that somebody else writes the lr, is what some faults are
        record, losses, updates = train(WORKLOADS[name], seed, kind, arm)
        if kind not in CLEAN:
            record["recovery"] = recovery(record, losses, updates)
    return exact(record)
