"""Built-in tasks: small real trainings that need no network, one file each.

This page imports no torch, so that `etascope tasks` answers at once; `get` imports the one file it needs.
All data ships with the dependencies (scikit-learn's digits, diabetes, breast cancer and wine; the texts of
CPython's `help()`), and every split is fixed.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OptionError

if TYPE_CHECKING:
    from ..task import Task

__all__ = ["TASKS", "Entry", "get"]


@dataclass(frozen=True)
class Entry:
    """One line of `etascope tasks`.

    Args:
        name: what the user types.
        summary: model, data, optimizer and schedule, on one line.
        module: the file that holds its `task()`, as an import path.
    """

    name: str
    summary: str
    module: str


TASKS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "digits",
            "MLP on 8x8 handwritten digits, SGD with momentum, constant lr",
            "etascope.workloads.digits",
        ),
        Entry(
            "digits-cnn",
            "convnet with BatchNorm on 8x8 digits, SGD with Nesterov momentum, warmup and cosine",
            "etascope.workloads.digits_cnn",
        ),
        Entry(
            "gpt-chars",
            "2-layer transformer on the characters of Python's help, AdamW, warmup and cosine",
            "etascope.workloads.gpt_chars",
        ),
        Entry(
            "lstm-chars",
            "LSTM with dropout on the characters of Python's help, Adam, constant lr",
            "etascope.workloads.lstm_chars",
        ),
        Entry(
            "diabetes",
            "MLP regression on 10 standardised features, full-batch SGD, linear decay",
            "etascope.workloads.diabetes",
        ),
        Entry(
            "breast-cancer",
            "logistic regression on 30 standardised features, AdaGrad, constant lr",
            "etascope.workloads.breast_cancer",
        ),
        Entry(
            "wine-rmsprop",
            "MLP on 13 measurements of wines, RMSprop, exponential decay",
            "etascope.workloads.wine_rmsprop",
        ),
    )
}


def get(name: str) -> Task:
    """Build a built-in task by its name.

    Args:
        name: a key of `TASKS`.

    Returns:
        A new task: its data loaders are its own.

    Raises:
        OptionError: no built-in task has this name; the message holds the nearest one.

    Example:
        >>> get("digit")
        Traceback (most recent call last):
        ...
        etascope.errors.OptionError: no built-in task is called 'digit'
        Did you mean 'digits'? `etascope tasks` lists them all.
    """
    if name not in TASKS:
        nearest = difflib.get_close_matches(name.lower(), TASKS, n=1, cutoff=0.5)
        hint = f"Did you mean {nearest[0]!r}? " if nearest else ""
        raise OptionError(f"no built-in task is called {name!r}", f"{hint}`etascope tasks` lists them all.")
    built: Task = importlib.import_module(TASKS[name].module).task()
    return built
