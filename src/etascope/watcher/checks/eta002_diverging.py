"""ETA002: diverging."""

from __future__ import annotations

from ... import numbers as n
from ..policies.base import Alarm
from ..signals import FAST
from .base import AlarmCheck, View


class Diverging(AlarmCheck):
    """The mean of the last losses has gone astray, upwards.

    Where a single loss may be a bad batch, the mean F of the last eight is the model: F > L + max(4 S, R/5), or
    F > B + max(6 S, 3R/10), with the running level L and spread S of the loss, its lowest level B, and R, what it has
    fallen by so far (or a quarter of the loss at the beginning, if that is more).

    **What to do.** Go back to a checkpoint from before, and on with a lower lr: half of it, then a quarter of
    that. What `rewind` does. If it comes at the same step whatever the lr, look at the data there.
    """

    code = "ETA002"
    title = "diverging"

    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        signals = view.signals
        if not signals.is_astray:
            return None
        numbers = {"fast": signals.fast, "level": signals.level, "best": signals.best, "spread": signals.spread}
        said = (
            f"the last {FAST:.0f} losses are {n.loss(signals.fast)} on average, against a running "
            f"{n.loss(signals.level)} ± {n.loss(signals.spread)} and {n.loss(signals.best)} at best"
        )
        return Alarm(self.code, said, numbers, loss, of="weights")
