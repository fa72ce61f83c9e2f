"""ETA004: plateau."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View
from .trend import slope_over

SHARE = 0.2  # of the horizon that has to be flat
LEAST = 10  # blocks
FLAT, FLAT_OF_LOSS = 0.01, 0.05  # of the drop so far, and of the loss
KEPT = 0.9  # of the lr over the stretch: below, the decay has begun


class Plateau(NoteCheck):
    """The loss has stopped falling while the lr stays high.

    A line through the mean losses of the last fifth of the horizon (ten blocks at least) falls by less than two
    standard errors, by less than 1% of the drop so far and by less than 5% of the loss, while the lr stayed within a
    tenth of what it was there, and above a fifth of the highest. A loss that has never fallen by more than a few of
    its spreads is no plateau, and neither is a stretch in which the schedule decays the lr already.

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
        if blocks[-1].lr < KEPT * max(b.lr for b in blocks):
            return None
        slope, error = slope_over([b.loss for b in blocks])
        fallen = -slope * (len(blocks) - 1)
        drop = view.signals.init - view.signals.best
        if drop <= 4 * view.signals.spread or -slope > 2 * error or fallen < -0.1 * drop:
            return None
        if fallen > min(FLAT * drop, FLAT_OF_LOSS * abs(fmean(b.loss for b in blocks))):
            return None
        since = blocks[0].step
        said = f"since step {since:,} the loss has fallen by {n.loss(max(fallen, 0.0))}, of {n.loss(drop)} in all"
        numbers = {"fallen": fallen, "drop": drop, "since": since}
        return Said(said, "Decay the lr now, or see what else limits the loss.", numbers)
