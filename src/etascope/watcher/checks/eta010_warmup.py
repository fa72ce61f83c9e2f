"""ETA010: warmup missing or too short."""

from __future__ import annotations

import math
from typing import Any

from ... import numbers as n
from ..signals import Block
from .base import NoteCheck, Said, View

RISE, LEAP = 0.1, 0.5  # of the loss at the beginning: a mean, one loss


class Warmup(NoteCheck):
    """The first steps did harm that a warmup would have spared.

    Within the first twentieth of the run (a hundred updates at least) the loss rose above what it began with: the
    mean of a block by more than a tenth and four standard errors, or one loss by more than half, at more than half of
    the highest lr; the run then learnt after all. Harm that does not show in the loss of the first steps is not seen.

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
        full = max(b.lr for b in blocks)
        harmed = [b for b in first if b.lr >= 0.5 * full and self._rise(b, init) > 0]
        if not harmed:
            return None
        highest = max(harmed, key=lambda b: b.high)
        if blocks[-1].loss >= init:
            return None
        warmup = view.run.warmup
        has = "" if warmup is None else f", with a warmup of {warmup:,} steps" if warmup else ", with no warmup"
        said = (
            f"by step {highest.step:,} the loss had risen from {n.loss(init)} to {n.loss(highest.high)} at lr "
            f"{n.lr(highest.lr)}{has}"
        )
        return Said(said, 'Warm up for longer: eta.warmup("10%") >> ...', {"init": init, "high": highest.high})

    @staticmethod
    def _rise(block: Block, init: float) -> float:
        """By how much the block, or a loss in it, is above what is borne."""
        mean = block.loss - init - RISE * abs(init) - 4 * block.spread / math.sqrt(block.count)
        return max(mean, block.high - init - LEAP * abs(init))
