"""ETA006: too slow."""

from __future__ import annotations

from statistics import fmean, median
from typing import Any

from .base import NoteCheck, Said, View
from .trend import slope_over

ALIGNED = 0.5  # mean agreement of successive updates
STRAIGHT = 10.0  # standard errors of the slope
SHORT = 0.05  # of the distance to 0 that the loss began with: what it should have fallen by


class TooSlow(NoteCheck):
    """The lr is too low: steps go the same way again and again.

    Two signs have to come together after a fifth of the run: successive updates agree (mean agreement of their signs
    above 0.5 at the last three probes; of a well-set lr it is near 0, plus what momentum adds), and the loss falls
    along a straight line, by more than ten standard errors of its slope, with no bend towards an end: its second
    half falls by more than three quarters of its first. Without probes the line alone has to do, and the
    loss must have fallen by less than a twentieth of what it began with.

    **What to do.** Raise the lr by 3 to 10 times, or find it: `eta.find(task)`.
    """

    code = "ETA006"
    title = "too slow: lr too low"
    on = frozenset({"block"})

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        blocks = [b for b in view.blocks if b.lr >= 0.5 * max(b.lr for b in view.blocks)]
        if (view.share is not None and view.share < 0.2) or len(blocks) < 12:
            return None
        losses = [b.loss for b in blocks]
        slope, error = slope_over(losses)
        half = len(losses) // 2
        first, second = slope_over(losses[:half])[0], slope_over(losses[half:])[0]
        if not (slope < -STRAIGHT * error and second < 0.75 * first < 0):
            return None
        signs = [median(layer.sign for layer in p.layers.values()) for p in view.last_probes(3) if p.layers]
        fallen = losses[0] - losses[-1]
        numbers = {"fallen": fallen, "slope_errors": -slope / error if error > 0 else float("inf")}
        if len(signs) == 3:
            if min(signs) < ALIGNED:
                return None
            numbers["sign"] = fmean(signs)
            said = f"successive updates agree ({fmean(signs):+.2f}) and the loss falls along a straight line"
        else:
            if fallen > SHORT * abs(view.signals.init):
                return None
            said = f"the loss falls along a straight line, by {fallen / abs(view.signals.init):.1%} so far"
        return Said(said, "Raise the lr by 3 to 10 times, or find it: eta.find(task).", numbers)
