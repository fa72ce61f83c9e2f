"""Optimizers that promise to need no lr, and torch's own default lr.

Prodigy, Schedule-Free AdamW and D-Adapted Adam train one whole run in place of the task's optimizer, through their own
libraries on the loop engine, under the task's schedule (Schedule-Free under none, as it is meant to be used). What is
judged is the final loss of that run, and its cost is 1: nothing is left to train afterwards.
Each of them also with its lr times a factor, for calibration.py.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial

from answer import Answer
from calibration import SCALED
from dadaptation import DAdaptAdam
from prodigyopt import Prodigy
from schedulefree import AdamWScheduleFree

import etascope as eta

OPTIMIZERS = {
    "Prodigy": (Prodigy, 1.0),
    "Schedule-Free AdamW": (AdamWScheduleFree, 0.0025),
    "D-Adapt Adam": (DAdaptAdam, 1.0),
}


def learning_rate_free(method: str, task: eta.Task, seed: int) -> Answer:
    """The final loss of a run with one of `SCALED`; inf where it diverged."""
    base, factor = SCALED[method]
    optimizer, lr = OPTIMIZERS[base]
    trained = replace(
        task,
        optimizer=lambda params, lr: optimizer(params, lr=lr),
        schedule=None if optimizer is AdamWScheduleFree else task.schedule,
    )
    try:
        sweep = eta.sweep(trained, lrs=[lr * factor], seeds=(seed,), engine="loop", progress=False)
    except eta.NoAnswer as error:  # it ended above the loss at init
        sweep = error.record
    (curve,) = sweep.rungs[0].curves
    return Answer(lr * factor, curve.trained / task.steps, "diverged" if curve.diverged else "", curve.loss)


def default(task: eta.Task) -> Answer:
    """The lr that the task's optimizer has in torch without being told."""
    function = task.optimizer.func if isinstance(task.optimizer, partial) else task.optimizer
    return Answer(inspect.signature(function).parameters["lr"].default, 0.0)
