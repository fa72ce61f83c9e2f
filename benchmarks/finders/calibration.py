"""Optimizers without an lr, calibrated: one factor on their own lr for all workloads. Pure: nothing is trained here.

For a workload that factor is taken which has the lowest mean regret over all other workloads that were trained, of both
halves; what is judged is the run with it, of one seed. What the calibration cost is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

LEARNING_RATE_FREE = ("Prodigy", "Schedule-Free AdamW", "D-Adapt Adam")
FACTORS = (0.1, 0.3, 1, 3, 10, 30)  # 30, for Schedule-Free's best was 10, at the end of what was tried first
CALIBRATED = ", calibrated"


def named(method: str, factor: float) -> str:
    """What the results call an optimizer with its lr times a factor."""
    return method if factor == 1 else f"{method} x{factor:g}"


SCALED = {named(method, factor): (method, factor) for method in LEARNING_RATE_FREE for factor in FACTORS}


def calibrated(rows: Iterable[Mapping], regret: Callable[[Mapping], float]) -> list[dict]:
    """The rows of the calibrated form, chosen from those of `SCALED`, for workloads that were run with all factors.

    Args:
        rows: of all workloads and factors, with `method`, `task` and `seed`; of several seeds the lowest is taken.
        regret: of a row.
    """
    own: dict[tuple[str, str, float], Mapping] = {}
    for row in sorted(rows, key=lambda r: r["seed"]):
        if row["method"] in SCALED:
            method, factor = SCALED[row["method"]]
            own.setdefault((method, row["task"], factor), row)
    chosen = []
    for method in LEARNING_RATE_FREE:
        tasks = sorted({t for m, t, _ in own if m == method and all((m, t, f) in own for f in FACTORS)})
        regrets = {(task, f): regret(own[method, task, f]) for task in tasks for f in FACTORS}
        for task in tasks if len(tasks) > 1 else []:
            totals = {f: sum(regrets[other, f] for other in tasks if other != task) for f in FACTORS}
            factor = min(FACTORS, key=totals.__getitem__)
            chosen.append({**own[method, task, factor], "method": method + CALIBRATED, "factor": factor})
    return chosen
