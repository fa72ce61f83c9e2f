"""ETA011: the schedule does not fit the run."""

from __future__ import annotations

from statistics import median
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View

GONE = 1e-3  # of the median lr


class ScheduleFits(NoteCheck):
    """The run is longer or shorter than its schedule.

    Three ways: the run goes on though its horizon is over; the lr is 0 (or a thousandth of its median) while more
    than a twentieth of the run is still to come; the run ended with less than nine tenths of its horizon done, the lr
    above a tenth of its highest and nobody having stopped it, so that the decay which should have ended it never came.

    **What to do.** `handle.extend(horizon=...)` for a longer run; the real number of updates as `horizon` otherwise:
    updates, not batches, and not steps of all processes together.
    """

    code = "ETA011"
    title = "schedule does not fit the run"
    on = frozenset({"block", "end"})
    urgent = True

    def inapplicable(self, view: View) -> str:
        return "" if view.run.horizon else "the horizon is not known"

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        horizon = view.run.horizon
        if horizon is None or not view.blocks:
            return None
        step = view.step
        numbers = {"horizon": horizon, "lr": view.signals.lr}
        if step > horizon:
            before = view.blocks if "why" in about else view.blocks[:-1]
            if before and before[-1].step - 1 > horizon:
                return None  # said when it came
            said = f"update {step:,} of a run of {horizon:,}: the schedule is over"
            return Said(said, "handle.extend(horizon=...), or stop.", numbers)
        if "why" in about:
            highest = max(b.lr for b in view.blocks)
            if about["why"] == "over" and step < 0.9 * horizon and view.signals.lr > 0.1 * highest:
                said = f"the run ended after {step:,} of {horizon:,} updates, at lr {n.lr(view.signals.lr)}"
                return Said(said, "Give the real number of updates as the horizon.", numbers)
            return None
        if view.blocks[-1].lr >= GONE * view.signals.highest:  # and so of the median, which takes longer to tell
            return None
        usual = median(b.lr for b in view.blocks)
        low = [b.lr < GONE * usual for b in view.blocks[-3:]]
        if low == [False, True, True] and 0.2 * horizon < step < 0.95 * horizon:  # one block alone is a restart
            lr = n.lr(view.signals.lr) if view.signals.lr > 0 else "0"
            said = f"the lr is {lr} at update {step:,} of {horizon:,}: the decay is over too soon"
            return Said(said, "Give the real number of updates as the horizon.", numbers)
        return None
