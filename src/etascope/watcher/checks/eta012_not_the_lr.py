"""ETA012: not the learning rate."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View

CLIPPED = 0.9  # of the last blocks
SAME = 1e-3  # relative distance of norms that are the same


class NotTheLr(NoteCheck):
    """Something is wrong, and it is not the learning rate.

    Four things are looked for. A bad batch: one loss out of line, and the next one in line again, whose update was left
    out. Bad data: losses out of line on a model that was good, with no update in between. A dead layer: no gradient in
    it, or no update, at three probes in a row while others have both (of a large layer some thousand weights are looked
    at, so an embedding of which few rows are used may seem dead). Clipping at almost every step: the norm of the
    gradients is the same in nine of ten of the last twenty blocks, so the lr alone no longer says how far a step goes
    (with Adam, which divides by the norm, that is harmless). It is seen where gradients are clipped before `observe`.

    **What to do.** Look at the batch, the labels, the layer; raise the clipping norm to about the usual norm.
    """

    code = "ETA012"
    title = "not the learning rate"
    on = frozenset({"data", "probe", "block"})

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        if "loss" in about:
            return _data(view, float(about["loss"]), int(about["skips"]))
        return _dead(view) or _clipped(view)


def _data(view: View, loss: float, skips: int) -> Said:
    level = n.loss(view.signals.level)
    if view.held:
        said = f"{view.held} losses in a row were out of line on a good model, and then {level} again: bad data"
        return Said(said, "Look at the data between these steps.", {"held": view.held, "loss": loss})
    bad = "one bad batch" if skips == 1 else f"{skips} bad batches"
    was = f"a loss of {n.loss(loss)}" if math.isfinite(loss) else "a loss or gradient that is not finite"
    said = f"{bad}: {was}, and without an update in between {level} again"
    return Said(said, "Look at the batch before this step.", {"skips": skips, "loss": loss})


def _dead(view: View) -> Said | None:
    probes = view.last_probes(3)
    if len(probes) < 3 or view.signals.lr <= 0:
        return None
    names = probes[-1].layers
    dead = [name for name in names if all(_is_still(p.layers.get(name)) for p in probes)]
    if not dead or len(dead) == len(names):
        return None
    had = "had no gradient" if all(math.isnan(probes[-1].layers[name].effective_lr) for name in dead) else "not moved"
    which = f"'{dead[0]}'" if len(dead) == 1 else f"'{dead[0]}' …"
    said = f"{len(dead)} of {len(names)} layers ({which}) have {had} at three probes in a row"
    return Said(said, "Is the layer used, does its gradient arrive, are its activations dead?", {"layers": len(dead)})


def _is_still(layer: Any) -> bool:
    # Weight decay moves layers without a gradient, which have no effective lr.
    return layer is not None and (layer.update_ratio == 0.0 or math.isnan(layer.effective_lr))


def _clipped(view: View) -> Said | None:
    last = view.blocks[-20:]
    norms = [b.grad for b in last if b.grad > 0]
    if len(norms) < 20:
        return None
    usual = sorted(norms)[len(norms) // 2]
    same = fmean(abs(math.log(norm / usual)) < SAME for norm in norms)
    if same < CLIPPED:
        return None
    said = f"the gradient's norm is {n.loss(usual)} in {same:.0%} of the last {len(last)} blocks: clipped almost always"
    return Said(said, "Raise the clipping norm, or count it into the lr.", {"norm": usual, "share": same})
