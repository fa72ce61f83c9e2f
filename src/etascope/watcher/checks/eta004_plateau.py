"""ETA004: plateau."""

from __future__ import annotations

from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View
from .trend import slope_over

SHARE = 0.2  # of the horizon that has to be flat
LEAST = 10  # blocks


class Plateau(NoteCheck):
    """The loss has stopped falling while the lr is still high.

    A line through the mean losses of the last fifth of the horizon (ten blocks at least) falls by less than two
    standard errors and by less than 1% of the drop so far, though the lr is more than a fifth of the highest yet.

    **What to do.** Decay the lr now (`sqrt_cooldown`, `plateau()`): what noise of the lr keeps the loss up comes off.
    If that does not help, the model or the data are what limits the loss.
    """

    code = "ETA004"
    title = "plateau"
    on = frozenset({"block"})

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        span = max(LEAST, round(SHARE * (view.run.horizon or 0) / max(1, view.signals.block)))
        blocks = view.blocks[-span:]
        if len(view.blocks) < span + LEAST or blocks[-1].lr < 0.2 * max(b.lr for b in view.blocks):
            return None
        slope, error = slope_over([b.loss for b in blocks])
        fallen = -slope * (len(blocks) - 1)
        drop = view.signals.init - view.signals.best
        if drop <= 0 or fallen > 0.01 * drop or -slope > 2 * error or fallen < -0.1 * drop:
            return None
        since = blocks[0].step
        said = f"since step {since:,} the loss has fallen by {n.loss(max(fallen, 0.0))}, of {n.loss(drop)} in all"
        return Said(said, "Decay the lr now, or see what else limits the loss.", {"fallen": fallen, "since": since})
