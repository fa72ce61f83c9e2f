"""ETA009: effective lr collapsed."""

from __future__ import annotations

import math
from statistics import median
from typing import Any

from ... import numbers as n
from ..run import Probe
from .base import NoteCheck, Said, View

ADAPTIVE = ("adagrad", "adam", "rmsprop", "adadelta", "adafactor", "yogi", "amsgrad", "nadam", "radam")
COLLAPSED = 5.0
ROW = 3  # probes at either end


class Collapsed(NoteCheck):
    """Under an adaptive rule, a step goes hardly anywhere any more though the schedule has not asked for it.

    The effective lr of a layer is the norm of its update over the norm of its gradient. AdaGrad divides by the root of
    the sum of all squared gradients, which only grows, so on long runs it falls as 1/√t and more; Adam with a β₂ near 1
    does so for a while after a burst of large gradients. The note comes when (effective lr / lr) is less than a fifth
    of what it was, in the median over layers and over the first and the last three probes, beyond what the gradients
    have grown by: under these rules an update does not grow with the gradient.

    **What to do.** AdaGrad: RMSprop or Adam, which forget; or a higher lr. Adam: a lower β₂.
    """

    code = "ETA009"
    title = "effective lr collapsed"
    on = frozenset({"probe"})

    def inapplicable(self, view: View) -> str:
        if not any(name in view.run.rule for name in ADAPTIVE):
            return f"{view.run.rule or 'the rule'} is not adaptive"
        return "" if view.probes else "nothing was probed"

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        if len(view.probes) < 2 * ROW:
            return None
        early, names = view.probes[1][0], view.probes[-1][1].layers
        first, last = ([own for _, own in part] for part in (view.probes[:ROW], view.probes[-ROW:]))
        pairs = [(_usual(name, first), _usual(name, last)) for name in names]
        ratios = [before / now for before, now in pairs if before > 0 and now > 0]
        then = next((b.lr for b in view.blocks if b.step >= early), view.signals.lr)
        if not ratios or not then > 0 or not view.signals.lr > 0:
            return None
        fallen = median(ratios) * view.signals.lr / then
        grads = [b.grad for b in view.blocks if b.grad > 0]
        grown = grads[-1] / grads[0] if len(grads) > 1 else 1.0
        if fallen < COLLAPSED * max(1.0, grown):
            return None
        said = f"per unit of lr and of gradient, an update goes {fallen:.2g} times less far than at step {early:,}"
        move = "Take a rule that forgets (RMSprop, Adam), or a higher lr."
        if "adagrad" not in view.run.rule:
            move = "Look for a burst of large gradients; lower beta2."
        return Said(f"{said}, at lr {n.lr(view.signals.lr)}", move, {"fallen": fallen, "gradients_grown": grown})


def _usual(name: str, probes: list[Probe]) -> float:
    """A layer's median effective lr; 0 where it had no gradient."""
    seen = [p.layers[name].effective_lr for p in probes if name in p.layers]
    return median(seen) if seen and all(math.isfinite(own) for own in seen) else 0.0
