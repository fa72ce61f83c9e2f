"""ETA010: warmup missing or too short."""

from __future__ import annotations

import math
from typing import Any

from ... import numbers as n
from .base import NoteCheck, Said, View

RISE = 0.1  # of the loss at the beginning


class Warmup(NoteCheck):
    """The first steps did harm that a warmup would have spared.

    Within the first twentieth of the run (a hundred updates at least) the mean loss of a block rose above the loss at
    the beginning by more than a tenth of it and four standard errors, at more than half of the highest lr; the run
    then learnt after all. Harm that does not show in the loss of the first steps is not seen.

    **What to do.** Warm the lr up: `eta.warmup("5%") >> ...`, or twice as long as now.
    """

    code = "ETA010"
    title = "warmup missing or too short"
    on = frozenset({"block"})

    def look(self, view: View, about: dict[str, Any]) -> Said | None:
        blocks, init = view.blocks, view.signals.init
        early = max(100, (view.run.horizon or 2000) // 20)
        first = [b for b in blocks if b.step <= early]
        if len(blocks) < 2 or not first or blocks[-1].step <= early:
            return None
        highest = max(first, key=lambda b: b.loss)
        full = max(b.lr for b in blocks)
        error = highest.spread / math.sqrt(highest.count)
        if highest.loss - init <= RISE * abs(init) + 4 * error or highest.lr < 0.5 * full:
            return None
        if blocks[-1].loss >= init:
            return None
        has = f"a warmup of {view.run.warmup:,} steps" if view.run.warmup else "no warmup"
        said = (
            f"by step {highest.step:,} the loss had risen from {n.loss(init)} to {n.loss(highest.loss)} at lr "
            f"{n.lr(highest.lr)}, with {has}"
        )
        return Said(said, 'Warm up for longer: eta.warmup("10%") >> ...', {"init": init, "high": highest.loss})
