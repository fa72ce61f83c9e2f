"""ETA005: edge of stability."""

from __future__ import annotations

from statistics import fmean

from ... import numbers as n
from ..policies.base import Alarm
from .base import AlarmCheck, View

ROW = 3  # probes in a row
BEYOND = 1.5  # times the bound
REVERSED = -0.5  # mean agreement of successive updates
MEASURED = 100.0  # times the bound: beyond, no lr along the last update lowered the loss, and none was found
FALLING = 0.02  # of the drop: what a falling loss loses at least over the last blocks
# Nothing learnt, and the loss jumps about:
SHARE, BLOCKS = 0.1, 6  # of the horizon, and blocks since the last cut
LEARNT = 0.15  # of the loss at the beginning: less is as good as nothing
WILD, WILD_OF_LOSS, ABOVE = 4.0, 0.05, 0.1  # times the spread at the beginning; of the loss there; and above it


class Edge(AlarmCheck):
    """The lr is beyond what the loss surface bears, and the loss does not fall.

    Under a quadratic of curvature λ, gradient descent is stable for lr · λ < 2, heavy-ball momentum below 2 (1 + β),
    Adam below (2 + 2β₁)/(1 − β₁) of its preconditioned curvature (38 at β₁ = 0.9). Trainings hover at that edge by
    themselves and learn there, so being at it is no alarm: lr · critical sharpness has to be 1.5 times the bound at
    three probes in a row, or successive updates have to reverse each other (mean agreement of signs below −0.5), while
    the loss no longer falls. Both need probes, and the sharpness a closure: `w.observe(loss, closure=...)`.

    A third way needs the losses alone: after a tenth of the run the loss is not below where it began by 15% of that,
    rises above it again and again, and moves four times as much as at the beginning. A hard task has noisy losses
    too, but from the first step on; one whose losses jump about once the lr is up is trained too fast.

    **What to do.** Lower the lr by half, or decay it now.
    """

    code = "ETA005"
    title = "edge of stability: lr too high"

    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        return self._wild(view, loss) or self._measured(view, loss)

    def _wild(self, view: View, loss: float) -> Alarm | None:
        signals, blocks = view.signals, view.blocks[-BLOCKS:]
        if len(blocks) < BLOCKS or view.step < (SHARE * view.run.horizon if view.run.horizon else 200):
            return None
        init, mean = signals.init, fmean(b.loss for b in blocks)
        if init - mean > LEARNT * abs(init) or sorted(b.high for b in blocks)[1] < init + ABOVE * abs(init):
            return None
        if signals.spread < max(WILD * signals.begun_spread, WILD_OF_LOSS * abs(init)):
            return None
        said = (
            f"the loss is {n.loss(mean)} ± {n.loss(signals.spread)}, where it began with {n.loss(init)} ± "
            f"{n.loss(signals.begun_spread)}: nothing was learnt, and it jumps about"
        )
        return Alarm(self.code, said, {"loss": mean, "spread": signals.spread, "init": init}, loss, of="lr")

    def _measured(self, view: View, loss: float) -> Alarm | None:
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
