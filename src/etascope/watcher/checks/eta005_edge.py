"""ETA005: edge of stability."""

from __future__ import annotations

from statistics import fmean

from ..policies.base import Alarm
from .base import AlarmCheck, View

ROW = 3  # probes in a row
BEYOND = 1.5  # times the bound
REVERSED = -0.5  # mean agreement of successive updates
MEASURED = 100.0  # times the bound: beyond, no lr along the last update lowered the loss, and none was found
FALLING = 0.02  # of the drop: what a falling loss loses at least over the last blocks


class Edge(AlarmCheck):
    """The lr is beyond what the loss surface bears, and the loss does not fall.

    Under a quadratic of curvature λ, gradient descent is stable for lr · λ < 2, heavy-ball momentum below 2 (1 + β),
    Adam below (2 + 2β₁)/(1 − β₁) of its preconditioned curvature (38 at β₁ = 0.9). Trainings hover at that edge by
    themselves and learn there, so being at it is no alarm: lr · critical sharpness has to be 1.5 times the bound at
    three probes in a row, or successive updates have to reverse each other (mean agreement of signs below −0.5), while
    the loss no longer falls.

    Needs probes, and for the sharpness a closure: `w.observe(loss, closure=...)`. Not applicable without.

    **What to do.** Lower the lr by half, or decay it now.
    """

    code = "ETA005"
    title = "edge of stability: lr too high"

    def inapplicable(self, view: View) -> str:
        return "" if view.probes else "nothing was probed"

    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        probes, blocks, signals = view.last_probes(ROW), view.blocks, view.signals
        if len(probes) < ROW or len(blocks) < 2 * ROW:
            return None
        fallen = fmean(b.loss for b in blocks[-2 * ROW : -ROW]) - fmean(b.loss for b in blocks[-ROW:])
        if fallen > FALLING * signals.drop:
            return None
        ratios = [signals.lr * p.sharpness / p.bound for p in probes if p.sharpness and p.bound]
        signs = [fmean(layer.sign for layer in p.layers.values()) for p in probes if p.layers]
        if len(ratios) == ROW and min(ratios) > BEYOND:
            times = f"{ratios[-1]:.2g} times" if ratios[-1] < MEASURED else f"more than {MEASURED:.0f} times"
            said = f"lr · sharpness is {times} what is stable, and the loss does not fall"
            return Alarm(self.code, said, {"times_bound": ratios[-1], "fallen": fallen}, loss, of="lr")
        if len(signs) == ROW and max(signs) < REVERSED:
            said = f"successive updates reverse each other (agreement {signs[-1]:+.2f}), and the loss does not fall"
            return Alarm(self.code, said, {"sign": signs[-1], "fallen": fallen}, loss, of="lr")
        return None
