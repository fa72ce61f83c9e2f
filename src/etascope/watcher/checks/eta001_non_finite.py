"""ETA001: non-finite."""

from __future__ import annotations

import math

from ... import numbers as n
from ..policies.base import Alarm
from .base import AlarmCheck, View


class NonFinite(AlarmCheck):
    """The loss or the gradient's norm is NaN or infinite.

    An update made with such a gradient makes weights of it that are no numbers either, and no later one mends them.
    Under a gradient scaler overflowing gradients are usual, since it skips their updates and lowers its scale: there
    the alarm comes with the twenty-first in a row.

    **What to do.** One bad batch (a division by an empty mask, the logarithm of 0, a corrupt file): find it, or let
    `rewind` leave its update out. Again and again: the lr is too high, or the precision too low for the model; lower
    the lr, clip gradients, use bfloat16 in the place of float16.
    """

    code = "ETA001"
    title = "non-finite loss or gradient"

    def alarm(self, view: View, loss: float, grad: float | None) -> Alarm | None:
        if not math.isfinite(loss):
            return Alarm(self.code, f"the loss is {loss}, after a running {_level(view)}", {"loss": loss}, loss)
        if grad is None or math.isfinite(grad):
            return None
        numbers = {"loss": loss, "grad": grad}
        return Alarm(self.code, f"the gradient's norm is {grad} at a loss of {n.loss(loss)}", numbers, loss)


def _level(view: View) -> str:
    return n.loss(view.signals.level)
