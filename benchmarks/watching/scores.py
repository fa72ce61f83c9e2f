"""From runs to scores.

off = (final loss − the clean run's) / (loss at init − the clean run's final loss), of the same workload and seed,
unguarded and without the fault; a loss that is not finite is off by infinity. A run is inside where off ≤ 2%: ending
lower than the clean run is no harm. A fault changes the final loss where the unguarded run is outside.

An alarm is true from the fault's start on, by the number of the batch, and false before it or in a clean run.
Reductions by ReduceLROnPlateau count as alarms. Saved: inside, of the faulty runs that are outside unguarded. A run
that was stopped is judged by its loss where it stopped. Recovery: `runs.recovery`.
"""

import math
from collections import Counter

import numpy as np

from .faults import FAULTS
from .runs import CLEAN, INSIDE
from .workloads import WORKLOADS


def off(record, clean):
    """How far a run ended above the clean one, as a share of that one's drop; infinite where it is not finite."""
    value = (float(record["final"]) - clean["final"]) / (clean["init"] - clean["final"])
    return value if math.isfinite(value) else math.inf


def median(values):
    """The median of what is not None, or None."""
    there = [value for value in values if value is not None]
    return float(np.median(there)) if there else None


def finite(value):
    """The number, or "inf" for JSON."""
    return value if math.isfinite(value) else "inf"


def faulty(runs, unguarded):
    """Scores of faulty runs of an arm, each compared to the same one unguarded.

    Args:
        runs: of the arm, by cell.
        unguarded: of the arm "nothing", by cell.
    """
    rows = []
    for (name, kind, seed), record in runs.items():
        clean, plain = unguarded.get((name, "clean", seed)), unguarded.get((name, kind, seed))
        if kind in FAULTS and clean and plain:
            rows.append((record, off(record, clean), off(plain, clean) > INSIDE))
    changed = [(record, by) for record, by, is_changed in rows if is_changed]
    saved = [record for record, by in changed if by <= INSIDE]
    # A run that was stopped may have ended before it was seen to be off, and has not come back.
    gone_on = [record for record, _ in changed if record["ended"] == "horizon"]
    back = [record["recovery"] for record in gone_on if record["recovery"] is not None]
    heard = [record for record, _, _ in rows if record["n_after"]]
    extra = [r["batches"] - WORKLOADS[r["workload"]].horizon for r, _, _ in rows if r["ended"] == "horizon"]
    return {
        "runs": len(rows),
        "changed": len(changed),
        "recalled": sum(record["n_after"] > 0 for record, _ in changed),
        "recalled_of_all": len(heard),
        "delay": median([record["first_after"] - record["start"] for record in heard]),
        "alarms_before": sum(record["n_alarms"] - record["n_after"] for record, _, _ in rows),
        "batches_before": sum(min(record["start"], record["batches"]) for record, _, _ in rows),
        "saved": len(saved),
        "harmed": sum(not is_changed and by > INSIDE for _, by, is_changed in rows),
        "recovered": len(back),
        "recovery": median(back),
        "off": finite(float(np.median([by for _, by in changed]))) if changed else None,
        "extra_batches": median(extra),
        "extra_batches_most": max(extra, default=None),
        "ended": dict(Counter(record["ended"] for record, _, _ in rows)),
    }


def clean(runs, unguarded):
    """Scores of the clean runs of an arm: false alarms, and how far they end from the same runs unguarded."""
    rows = [(record, cell) for cell, record in runs.items() if cell[1] in CLEAN]
    apart = [off(record, unguarded[cell]) for record, cell in rows if cell in unguarded]
    steps, alarms = sum(record["batches"] for record, _ in rows), sum(record["n_alarms"] for record, _ in rows)
    return {
        "runs": len(rows),
        "steps": steps,
        "alarms": alarms,
        "runs_with_alarms": sum(record["n_alarms"] > 0 for record, _ in rows),
        "per_10k": 1e4 * alarms / steps if steps else None,
        "same": sum(by == 0 for by in apart),
        "median_off": median(apart),
        "worst_off": finite(max(apart)) if apart else None,
        "outside": sum(by > INSIDE for by in apart),
    }


def by(runs, place, value):
    """The runs whose cell (workload, kind, seed) has that value in that place."""
    return {cell: record for cell, record in runs.items() if cell[place] == value}


def codes(runs):
    """How often each code was heard first in a faulty run, and in clean runs."""
    counts = {"faulty": {}, "clean": {}}
    for (_, kind, _), record in runs.items():
        counted = counts["faulty" if kind in FAULTS else "clean"]
        after = [alarm for alarm in record["alarms"] if kind not in FAULTS or alarm[0] >= record["start"]]
        if after:
            counted[after[0][1]] = counted.get(after[0][1], 0) + 1
    return counts


def scores(runs):
    """Scores of all arms.

    Args:
        runs: by arm, then by cell (workload, kind, seed).
    """
    unguarded = runs["nothing"]
    return {
        "arms": {
            arm: {
                "faulty": faulty(own, unguarded),
                "clean": clean(own, unguarded),
                "first_codes": codes(own),
                "seconds": sum(record["seconds"] for record in own.values()),
                "kinds": {kind: faulty(by(own, 1, kind), unguarded) for kind in FAULTS},
                "workloads": {
                    name: {"faulty": faulty(by(own, 0, name), unguarded), "clean": clean(by(own, 0, name), unguarded)}
                    for name in WORKLOADS
                },
            }
            for arm, own in runs.items()
        }
    }


def of(part, whole):
    return f"{part}/{whole}" if whole else "–"


def number(value, form=".0f", times=1.0):
    return "–" if value is None else value if isinstance(value, str) else format(times * value, form)


def lined(head, rows):
    """Rows of text as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def table(scored):
    """The scores as Markdown: all faults, clean runs, and what became of each kind."""
    arms = scored["arms"]
    faults, cleans = [], []
    for arm, own in arms.items():
        f, c = own["faulty"], own["clean"]
        faults.append([
            arm, f["runs"], f["changed"], of(f["recalled"], f["changed"]), of(f["recalled_of_all"], f["runs"]),
            number(f["delay"]), number(f["alarms_before"]), of(f["saved"], f["changed"]), f["harmed"],
            of(f["recovered"], f["changed"]), number(f["recovery"]), number(f["extra_batches"]),
            ", ".join(f"{n} {how}" for how, n in f["ended"].items()),
        ])  # fmt: skip
        cleans.append([
            arm, c["runs"], c["steps"], c["alarms"], number(c["per_10k"], ".2f"), c["same"],
            number(c["median_off"], ".2f", 100), number(c["worst_off"], ".2f", 100), c["outside"],
            number(own["seconds"] / 60, ".1f"),
        ])  # fmt: skip
    head = ["arm", "faulty", "changed", "recall", "of all", "delay", "alarms before", "saved", "harmed", "recovered",
            "batches to", "extra batches", "ended"]  # fmt: skip
    parts = ["Faulty runs", lined(head, faults)]
    head = ["arm", "clean", "batches", "alarms", "per 10k", "same loss", "off %, median", "worst", "outside 2%", "min"]
    parts += ["Clean runs", lined(head, cleans)]
    kinds = [
        [kind, of(arms["nothing"]["kinds"][kind]["changed"], arms["nothing"]["kinds"][kind]["runs"])]
        + [
            f"{of(k['saved'], k['changed'])} {of(k['recalled'], k['changed'])} {number(k['recovery'])}"
            for own in arms.values()
            for k in [own["kinds"][kind]]
        ]
        for kind in FAULTS
    ]
    parts += ["By kind: saved, recall, median batches to recovery, of those changed",
              lined(["kind", "changed", *arms], kinds)]  # fmt: skip
    where = [
        [name, of(arms["nothing"]["workloads"][name]["faulty"]["changed"],
                  arms["nothing"]["workloads"][name]["faulty"]["runs"])]
        + [
            f"{of(w['faulty']['saved'], w['faulty']['changed'])} {of(w['faulty']['recalled'], w['faulty']['changed'])} "
            f"{w['clean']['alarms']}"
            for own in arms.values()
            for w in [own["workloads"][name]]
        ]
        for name in WORKLOADS
    ]  # fmt: skip
    parts += ["By workload: saved, recall, false alarms in clean runs", lined(["workload", "changed", *arms], where)]
    return "\n\n".join(parts)
