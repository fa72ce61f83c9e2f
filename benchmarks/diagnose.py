"""How often `eta.diagnose` is right about a run, from its log alone; and the cases that it learns from.

    python benchmarks/diagnose.py --make                # train the runs of both halves; logs into --folder
    python benchmarks/diagnose.py --fit                 # the fitted half's features into src/etascope/diagnosis/
    python benchmarks/diagnose.py --score               # the scored half into benchmarks/results/diagnose.json

FIT: the workloads of `finders/workloads.py` that etascope's finder was chosen, reported and judged on, and variants of
the quick ones. SCORED: the blind ones, on which no feature, threshold or choice of model was tried. Labels are those of
the dense truth (`truth-NAME.json`): an lr below its zone, in it, above it or diverged; and for faults that are not the
lr, at an lr inside the zone. A fault is left out where the run ended, on sound data, within twice the zone's tolerance
of the best: it did no harm.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from diagnosis_runs import FIT, SCORED, VARIANTS, make
from diagnosis_variants import truth_of

from etascope.diagnosis.cases import Cases
from etascope.diagnosis.features import features, group, names
from etascope.diagnosis.log import EMPTY, RunLog, Series
from etascope.diagnosis.model import Judge, best_temperature, faults, key, kind_of, probabilities, tempered
from etascope.diagnosis.reading import read
from etascope.records.diagnosis import VERDICTS
from etascope.storage import write_atomically

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "src" / "etascope" / "diagnosis"
RESULT = HERE / "results" / "diagnose.json"
FOLDER = Path(tempfile.gettempdir()) / "etascope-diagnose"
NO_LR = "not the learning rate"
FOLDS = 8
BOOTSTRAPS = 2000

# What is left of a full log, by name: the columns that a log may have, and whether it has every step.
VIEWS = {
    "full logs": ("every", ("loss", "val", "lr", "grad", "probes", "optimizer")),
    "loss, validation, lr, gradient norm": ("every", ("loss", "val", "lr", "grad")),
    "loss, validation, lr": ("every", ("loss", "val", "lr")),
    "loss, validation": ("every", ("loss", "val")),
    "loss, lr": ("every", ("loss", "lr")),
    "loss alone": ("every", ("loss",)),
    "loss, validation, lr at 20 to 60 points": ("few", ("loss", "val", "lr")),
    "loss, validation at 20 to 60 points": ("few", ("loss", "val")),
    "loss alone at 20 to 60 points": ("few", ("loss",)),
}
REPORTED = tuple(VIEWS)


def masked(own: dict[str, float], view: str) -> dict[str, float]:
    """The features of a full log, without those of columns that a view has not: as if it had never had them."""
    kept = groups_of(view)
    return {name: value if group(name) in kept else math.nan for name, value in own.items()}


def thinned(log: RunLog) -> RunLog:
    """A log at some points: means of the losses of equal parts of the run, as epochs leave it; the lr at their ends."""
    points = 20 + hash_of(log.source) % 41
    whole = Series(log.loss.steps, log.loss.values)
    ends = np.unique(np.linspace(0, len(whole), min(points, len(whole)) + 1).astype(int))
    parts = list(itertools.pairwise(ends))
    steps = np.array([whole.steps[b - 1] for _, b in parts])
    loss = Series(steps, np.array([whole.values[a:b].mean() for a, b in parts]))
    lr = Series(steps, np.interp(steps, log.lr.steps, log.lr.values)) if len(log.lr) else EMPTY
    return replace(log, loss=loss, lr=lr, grad=EMPTY, probes=())


def hash_of(text: str) -> int:
    """A number that is the same on every machine."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(Path(text).name))


def made(folder: Path) -> Iterator[dict[str, Any]]:
    """The runs of a half that count."""
    if not (folder / "runs.jsonl").exists():
        return
    for line in (folder / "runs.jsonl").read_text().splitlines():
        run = json.loads(line)
        if "left_out" not in run:
            yield run


def table(folder: Path) -> Cases:
    """The features of all runs to fit with, at every step and thinned."""
    rows, halves = [], (folder / "fit", folder / "variants")
    for where, run in itertools.chain.from_iterable(zip(itertools.repeat(half), made(half)) for half in halves):
        log, place = read(where / run["log"]), place_of(run, where)
        for points, seen_log in (("every", log), ("few", thinned(log))):
            row = list(features(seen_log).values())
            rows.append((run["task"], run["kind"], points, VERDICTS.index(run["label"]), place, row))
    tasks, kinds, points, verdicts, places, values = zip(*rows, strict=True)
    return Cases(tasks, kinds, points, np.array(verdicts), np.array(places), np.array(values))


def place_of(run: dict[str, Any], folder: Path) -> tuple[float, float]:
    """Decades that a run's lr lies above the zone's borders; NaN under a fault, or where it diverged."""
    if run["kind"] or not math.isfinite(float(run["final"])):
        return math.nan, math.nan
    low, high = truth_of(run["task"], folder).zone
    return math.log10(run["lr"] / low), math.log10(run["lr"] / high)


def groups_of(view: str) -> tuple[str, ...]:
    """The groups of features that a view has."""
    points, columns = VIEWS[view]
    found = ["loss", "noise"] if points == "every" else ["loss"]
    found += [c for c in ("val", "lr", "grad") if c in columns]
    return tuple(found + (["step", "along", "rule"] if "probes" in columns else []))


def left_out_votes(known: Cases, groups: tuple[str, ...], folds: int = FOLDS) -> np.ndarray:
    """Votes for each case by a model that saw no case of its task, and no columns that the case has not."""
    of = np.array([task.partition("~")[0] for task in known.tasks])  # variants go with their task
    tasks = sorted(set(of))
    np.random.default_rng(0).shuffle(tasks)
    there = {g: ~np.isnan(known.features_CF[:, [group(n) == g for n in names()]]).all(1) for g in groups}
    has = np.array([" ".join(g for g in groups if there[g][i]) for i in range(len(of))])
    votes = np.zeros((len(of), len(VERDICTS)))
    for fold in range(folds):
        out = np.isin(of, tasks[fold::folds])
        for columns in sorted(set(has[out])):
            rows = out & (has == columns)
            votes[rows] = Judge(known.where(~out), columns.split()).votes(known.features_CF[rows])
    return votes


def fit(folder: Path) -> None:
    """Write the shipped table, and the temperatures of each kind of log.

    Temperatures and figures are those of the tasks themselves, left out in turn: the truths of variants are coarser.
    """
    whole = table(folder)
    write_atomically(PACKAGE / "cases.csv", whole.to_csv())
    whole = Cases.from_csv((PACKAGE / "cases.csv").read_text().splitlines())
    temperatures, said = {}, {}
    for view, (points, _) in VIEWS.items():
        known, groups = whole.of(points), groups_of(view)
        themselves = np.array(["~" not in task for task in known.tasks])
        votes, verdicts = left_out_votes(known, groups)[themselves], known.verdicts_C[themselves]
        t = best_temperature(votes, verdicts)
        temperatures[key(points, groups)] = round(t, 3)
        p = tempered(votes, t)
        said[view] = {"accuracy": accuracy(p, verdicts), "ece": error(p, verdicts), "temperature": round(t, 3)}
        print(f"{view:45} left out by task: {said[view]}", flush=True)
    data = {"made": date.today().isoformat(), "tasks": sorted(set(whole.tasks)), "cases": len(whole.of("every").tasks),
            "temperatures": temperatures, "left_out_by_task": said}  # fmt: skip
    write_atomically(PACKAGE / "temperatures.json", json.dumps(data, indent=1) + "\n")


# ------------------------------------------------------------------------------------------ the score


def accuracy(p: np.ndarray, verdicts: np.ndarray) -> float:
    """The share of runs whose most probable verdict is right."""
    return round(float((p.argmax(1) == verdicts).mean()), 4)


def error(p: np.ndarray, verdicts: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of the verdict's probability: mean |right - probability| over bins of equal width."""
    sure, right = p.max(1), p.argmax(1) == verdicts
    which = np.minimum((sure * bins).astype(int), bins - 1)
    parts = [(sure[which == b], right[which == b]) for b in range(bins) if (which == b).any()]
    return round(float(sum(abs(s.mean() - r.mean()) * len(s) for s, r in parts) / len(sure)), 4)


def interval(measure: Any, p: np.ndarray, verdicts: np.ndarray, tasks: np.ndarray) -> list[float]:
    """The middle 95% of a measure over draws of the tasks, with replacement."""
    rng, names_ = np.random.default_rng(0), sorted(set(tasks))
    rows = {name: np.flatnonzero(tasks == name) for name in names_}
    found = []
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate([rows[name] for name in rng.choice(names_, len(names_))])
        found.append(measure(p[drawn], verdicts[drawn]))
    return [round(float(v), 4) for v in np.quantile(found, [0.025, 0.975])]


def score(folder: Path, out: Path) -> None:
    """Diagnose every scored run by every view of its log, and write what came of it."""
    runs = list(made(folder / "scored"))
    if names_ := {run["task"] for run in runs} - set(SCORED):
        sys.exit(f"not of the scored half: {sorted(names_)}")
    logs = [read(folder / "scored" / run["log"]) for run in runs]
    thin = [thinned(log) for log in logs]
    whole, few = ([features(log) for log in own] for own in (logs, thin))
    verdicts = np.array([VERDICTS.index(run["label"]) for run in runs])
    tasks = np.array([run["task"] for run in runs])
    result: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "sklearn": _sklearn()},
        "tasks": sorted(set(tasks)),
        "runs": len(runs),
        "of_the_lr": sum(1 for run in runs if not run["kind"]),
        "of_faults": sum(1 for run in runs if run["kind"]),
        "left_out": _left_out(folder / "scored"),
        "views": {},
    }
    for view in REPORTED:
        said = [masked(own, view) for own in (whole if VIEWS[view][0] == "every" else few)]
        kinds = [
            kind_of(own, len(log.loss))
            for own, log in zip(said, logs if VIEWS[view][0] == "every" else thin, strict=True)
        ]
        rows, p = np.array([list(own.values()) for own in said]), np.zeros((len(runs), len(VERDICTS)))
        for kind in set(kinds):
            alike = np.array([k == kind for k in kinds])
            p[alike] = probabilities(rows[alike], *kind)
        result["views"][view] = judged(p, verdicts, tasks, runs)
        if view == "full logs":
            result["kind_of_fault"] = _kinds(runs, said, [len(log.loss) for log in logs], p)
            result["full_log_runs"] = [
                {"log": run["log"], "label": run["label"], "p": [round(float(v), 3) for v in row]}
                for run, row in zip(runs, p, strict=True)
            ]
        told = result["views"][view]
        print(
            f"{view:45} accuracy {told['accuracy']} {told['accuracy_95']}  ece {told['ece']} {told['ece_95']}",
            flush=True,
        )
    rows = result.pop("full_log_runs")
    text = (
        json.dumps(result, indent=1)[:-2]
        + ',\n "full_log_runs": [\n  '
        + ",\n  ".join(map(json.dumps, rows))
        + "\n ]\n}\n"
    )
    write_atomically(out, text)


def judged(p: np.ndarray, verdicts: np.ndarray, tasks: np.ndarray, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one view."""
    right = p.argmax(1) == verdicts
    confusion = np.zeros((len(VERDICTS), len(VERDICTS)), int)
    np.add.at(confusion, (verdicts, p.argmax(1)), 1)

    def shares(of: Any) -> dict[str, list[float]]:
        kinds = [of(run) for run in runs]
        return {
            str(k): [round(float(right[[v == k for v in kinds]].mean()), 3), sum(v == k for v in kinds)]
            for k in sorted({v for v in kinds if v is not None})
        }

    return {
        "accuracy": accuracy(p, verdicts),
        "accuracy_95": interval(accuracy, p, verdicts, tasks),
        "ece": error(p, verdicts),
        "ece_95": interval(error, p, verdicts, tasks),
        "log_loss": round(float(-np.log(p[np.arange(len(p)), verdicts]).mean()), 4),
        "confusion": {
            v: dict(zip(VERDICTS, map(int, row), strict=True)) for v, row in zip(VERDICTS, confusion, strict=True)
        },
        "right_and_count_by_verdict": shares(lambda run: run["label"]),
        "right_and_count_by_multiple": shares(lambda run: None if run["kind"] else run["multiple"]),
        "right_and_count_by_fault": shares(lambda run: run["kind"] or None),
        "right_and_count_by_task": shares(lambda run: run["task"]),
    }


def _kinds(
    runs: list[dict[str, Any]], said: list[dict[str, float]], losses: list[int], p: np.ndarray
) -> dict[str, Any]:
    """How often the first, and one of the first three things to check is the fault, where a fault was found."""
    first = third = found = 0
    for run, own, count, row in zip(runs, said, losses, p, strict=True):
        if run["kind"] and VERDICTS[row.argmax()] == NO_LR:
            order = sorted((votes := faults(own, count)), key=lambda kind: -votes[kind])
            found, first, third = found + 1, first + (order[0] == run["kind"]), third + (run["kind"] in order[:3])
    return {"faults_found": found, "named_first": first, "among_three": third}


def _left_out(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in (folder / "runs.jsonl").read_text().splitlines():
        if reason := json.loads(line).get("left_out"):
            counts[reason] = counts.get(reason, 0) + 1
    return counts


def _sklearn() -> str:
    import sklearn

    return str(sklearn.__version__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--make", action="store_true", help="train the runs that are missing")
    parser.add_argument("--fit", action="store_true", help="write the cases that ship with the package")
    parser.add_argument("--score", action="store_true", help="score the blind half")
    parser.add_argument("--folder", type=Path, default=FOLDER, help=f"where logs lie (default {FOLDER})")
    parser.add_argument("--half", choices=("fit", "variants", "scored"), help="make this half alone")
    parser.add_argument("--tasks", nargs="+", default=[], help="make these alone")
    parser.add_argument("--rounds", type=int, nargs="+", default=[0, 1], help="which rounds of runs (default 0 1)")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no run after that long")
    parser.add_argument("--out", type=Path, default=RESULT)
    asked = parser.parse_args()
    for half, tasks in (("fit", FIT), ("variants", VARIANTS), ("scored", SCORED)):
        if asked.make and asked.half in (None, half):
            make(
                [t for t in tasks if t in asked.tasks or not asked.tasks],
                asked.rounds if half != "variants" else [0],
                asked.folder / half,
                asked.seconds,
            )
    if asked.fit:
        fit(asked.folder)
    if asked.score:
        score(asked.folder, asked.out)


if __name__ == "__main__":
    main()
