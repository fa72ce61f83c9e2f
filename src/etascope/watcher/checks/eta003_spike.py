"""ETA003: spike."""

from __future__ import annotations

import math

from ... import numbers as n
from ..policies.base import Alarm
from .base import AlarmCheck, View


class Spike(AlarmCheck):
    """One loss is far out of line.

    loss > L + max(8 S, R/2), with the running level L and spread S of the loss, and R, what it has fallen by so far (or
    a quarter of the loss at the beginning, if that is more): more than noise, and half of what was learnt. The first
    twenty observations can raise no spike.

    **What to do.** Leave the update out, as `rewind` does: a bad batch does no harm then. If the next losses are as
    high, the weights were led astray (the lr is too high) or the data have changed; `rewind` finds out which.
    """

    code = "ETA003"
    title = "spike"

    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        signals = view.signals
        if not signals.is_out_of_line(loss):
            return None
        numbers = {"loss": loss, "level": signals.level, "spread": signals.spread}
        sigmas = (loss - signals.level) / signals.spread if signals.spread > 0 else math.inf
        said = f"loss {n.loss(loss)} against a running {n.loss(signals.level)} ± {n.loss(signals.spread)}"
        if math.isfinite(sigmas):
            numbers["sigmas"] = sigmas
            said += f" ({sigmas:,.0f} σ)"
        usual = signals.grad_level
        if grad is not None and usual > 0:
            numbers["grad"] = grad / usual
            said += f", gradient norm {grad / usual:.3g}× its usual {n.loss(usual)}"
        return Alarm(self.code, said, numbers, loss)
