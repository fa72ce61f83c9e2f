"""ETA006: too slow."""

from __future__ import annotations

import math
from statistics import fmean, median
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View
from .trend import slope_over

ALIGNED, ALIKE = 0.75, 0.85  # mean agreement of successive updates; noise alone gives 0.71 at a momentum of 0.9
STRAIGHT = 10.0  # standard errors of the slope
SHORT = 0.05  # of the distance to 0 that the loss began with: what it should have fallen by
WAY = 0.2  # of the weights' norm: how far all updates of the run have to go together
Found = tuple[str, dict[str, float]]


class TooSlow(NoteCheck):
    """The lr is too low: steps go the same way again and again, or nowhere at all.

    It looks after a fifth of the run, while the lr is high, for one of three signs.

    - Successive updates agree, by a mean agreement of their signs above 0.85 at the last three probes, and the loss is
      still above half of what it began with. Noise alone gives 0 without momentum, and (2/π) arcsin β with it: 0.71
      at β = 0.9.
    - They agree by more than 0.75, and the loss falls along a straight line, by more than ten standard errors of its
      slope, with no bend towards an end: its second half falls by more than three quarters of its first. Without
      probes the line alone has to do, and the loss must have fallen by less than a twentieth of what it began with.
    - The loss has fallen by less than a twentieth, and updates as large as the present ones would move no layer by a
      fifth of its norm in the whole run, even if all of them went the same way.

    **What to do.** Raise the lr by 3 to 10 times, or find it: `eta.find(task)`.
    """

    code = "ETA006"
    title = "too slow: lr too low"
    on = frozenset({"block"})

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        highest = max(b.lr for b in view.blocks)
        blocks = [b for b in view.blocks if b.lr >= 0.5 * highest]
        if (view.share is not None and view.share < 0.2) or len(blocks) < 12 or view.signals.lr < 0.5 * highest:
            return None
        losses = [b.loss for b in blocks]
        signs = [median(layer.sign for layer in p.layers.values()) for p in view.last_probes(3) if p.layers]
        fallen = view.signals.init - fmean(losses[-3:])
        found = _straight(losses, signs, fallen, view) or _nowhere(fallen, view)
        if found is None:
            return None
        said, numbers = found
        return Said(said, "Raise the lr by 3 to 10 times, or find it: eta.find(task).", {"fallen": fallen, **numbers})


def _straight(losses: list[float], signs: list[float], fallen: float, view: View) -> Found | None:
    """Steps that go on and on the same way."""
    agree = fmean(signs) if len(signs) == 3 else 0.0
    if len(signs) == 3 and min(signs) > ALIKE and 0 < fallen < 0.5 * abs(view.signals.init):
        return f"successive updates agree ({agree:+.2f}): each goes on where the one before it went", {"sign": agree}
    slope, error = slope_over(losses)
    half = len(losses) // 2
    first, second = slope_over(losses[:half])[0], slope_over(losses[half:])[0]
    if not (slope < -STRAIGHT * error and second < 0.75 * first < 0):
        return None
    if len(signs) == 3:
        if min(signs) < ALIGNED:
            return None
        return f"successive updates agree ({agree:+.2f}) and the loss falls along a straight line", {"sign": agree}
    if not 0 < fallen <= SHORT * abs(view.signals.init):
        return None
    return f"the loss falls along a straight line, by {fallen / abs(view.signals.init):.1%} so far", {}


def _nowhere(fallen: float, view: View) -> Found | None:
    """Steps so short that all of them together lead nowhere."""
    probes = view.last_probes(3)
    ratios = [layer.update_ratio for p in probes for layer in p.layers.values() if math.isfinite(layer.update_ratio)]
    steps = view.run.horizon or 5 * view.step
    if len(probes) < 3 or not ratios or fallen > SHORT * abs(view.signals.init):
        return None
    way = max(ratios) * steps
    if not 0 < way < WAY:
        return None
    said = (
        f"after {view.step:,} updates the loss is {n.loss(view.signals.level)}, after {n.loss(view.signals.init)} at "
        f"the beginning, and {steps:,} such updates would move no layer by more than {way:.1g} of its norm"
    )
    return said, {"way": way}
