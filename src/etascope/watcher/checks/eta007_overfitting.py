"""ETA007: overfitting."""

from __future__ import annotations

import math
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View

ROW = 3
RISE, RISE_OF_LOSS = 0.05, 0.01  # of the validation loss's own drop, and of its lowest
FALL = 0.1  # of the rise: what the training loss has to have fallen by


class Overfitting(NoteCheck):
    """Validation turns while training falls.

    The last three validation losses lie above the lowest one by more than a twentieth of what it had fallen by and by
    more than 1%, and the running training loss has fallen since then, by a tenth of that rise at least.

    **What to do.** Stop (`early_stop`) and keep the weights of the lowest one; more data, more weight decay or dropout,
    or a shorter run with the same schedule.
    """

    code = "ETA007"
    title = "overfitting"
    on = frozenset({"validation"})

    def inapplicable(self, view: View) -> str:
        return "" if view.validations else "no validation loss was shown: w.validate(loss)"

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        seen = [own for own in view.validations if math.isfinite(own[1])]
        if len(seen) < ROW + 2:
            return None
        at = min(range(len(seen)), key=lambda i: seen[i][1])
        step, best, level = seen[at]
        fallen = seen[0][1] - best
        last = seen[-ROW:]
        if at >= len(seen) - ROW or fallen <= 0 or last[-1][2] >= level:
            return None
        rise = min(loss for _, loss, _ in last) - best
        if rise <= max(RISE * fallen, RISE_OF_LOSS * abs(best)) or level - last[-1][2] < FALL * rise:
            return None
        said = (
            f"validation is {n.loss(last[-1][1])} after {n.loss(best)} at step {step:,}, while the training loss fell "
            f"from {n.loss(level)} to {n.loss(last[-1][2])}"
        )
        return Said(said, "Stop here, or regularise.", {"best": best, "at": step, "last": last[-1][1]})
