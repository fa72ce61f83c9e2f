"""Tuners on the tables of table.py: random search, one lr a decade, and Optuna by its own code, at its defaults.

The lr is drawn log-uniform from 10^-4.5 to 10, and the answer is `study.best_trial`'s. What a trial reports on the way
is its validation loss, about eight times a run, numbered 1, 2 … as epochs are. A training that diverges returns inf,
as a careful user's code does (of a NaN Optuna would make a failed trial, and learn nothing by it); it stops where its
loss stops being finite. The cost is the steps really trained, pruned and diverged trials at what they took.

ASHA is `SuccessiveHalvingPruner`, the asynchronous form of it that Optuna has.
"""

from __future__ import annotations

import optuna
from answer import Answer
from table import Table

LOW, HIGH = 10**-4.5, 10.0


def tune(table: Table, study: optuna.Study, trials: int) -> Answer:
    """Let a study tune the lr of a table for so many trials."""
    steps = 0

    def objective(trial: optuna.Trial) -> float:
        nonlocal steps
        lr, before = trial.suggest_float("lr", LOW, HIGH, log=True), 0
        end = table.trained(lr)
        for number, step in enumerate(table.steps, 1):
            if step > end:
                break
            steps, before = steps + step - before, step
            trial.report(table.loss(lr, step), number)
            if trial.should_prune():
                raise optuna.TrialPruned
        steps += end - before
        return table.loss(lr)

    study.optimize(objective, n_trials=trials)
    cost = steps / table.horizon
    if not any(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials):
        return Answer(None, cost, "every trial was pruned")
    return Answer(study.best_trial.params["lr"], cost)


def optuna_study(sampler: type, seed: int, pruner: optuna.pruners.BasePruner | None) -> optuna.Study:
    return optuna.create_study(sampler=sampler(seed=seed), pruner=pruner or optuna.pruners.NopPruner())


def decades(table: Table) -> Answer:
    """One lr a decade, 1e-4 to 10, each trained once."""
    lrs = [10.0**k for k in range(-4, 2)]
    return Answer(min(lrs, key=table.loss), sum(map(table.trained, lrs)) / table.horizon)


TPE, RANDOM = optuna.samplers.TPESampler, optuna.samplers.RandomSampler
STUDIES = {  # sampler, trials, pruner
    "random 10": (RANDOM, 10, None),
    "TPE 10": (TPE, 10, None),
    "TPE 25": (TPE, 25, None),
    "TPE 25, ASHA": (TPE, 25, optuna.pruners.SuccessiveHalvingPruner),
    "TPE 25, Hyperband": (TPE, 25, optuna.pruners.HyperbandPruner),
    "TPE 25, median": (TPE, 25, optuna.pruners.MedianPruner),
}
TUNERS = ("one lr a decade", *STUDIES)


def tuner(method: str, table: Table, seed: int) -> Answer:
    """The answer of one of `TUNERS`; `seed` is the sampler's."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if method not in STUDIES:
        return decades(table)
    sampler, trials, pruner = STUDIES[method]
    return tune(table, optuna_study(sampler, seed, pruner and pruner()), trials)
