"""Step sizes under adaptive rules, noted at a few steps of a run: how far each layer really moves.

Shapes stand in the names: L lanes, P optimized parameters of one lane (flattened and joined), S sampled ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..records import StepSizes
from ..rules import State, Update

__all__ = ["EffectiveLr"]

QUANTILES = (0.1, 0.5, 0.9)
SAMPLE = 1024  # parameters of a layer that are looked at: the rank of a quantile is then off by 1.6% (one deviation)


class EffectiveLr:
    """Quantiles of the step sizes in each layer, of every lane of a run.

    They are taken after the first step, when an adaptive rule has seen one gradient and its step sizes are the
    farthest from later ones; after an eighth of the run, when a usual warmup is over; halfway; and after the last step.

    Args:
        update: what the optimizers do; nothing is noted if it is None, or all parameters have one step size under it.
        names: of the optimized tensors in the objective, in order.
        shapes: theirs.
        steps: of the run.
        device: where it trains.
    """

    def __init__(
        self,
        update: Update | None,
        names: Sequence[str],
        shapes: Sequence[torch.Size],
        steps: int,
        device: torch.device,
    ) -> None:
        self.after: frozenset[int] = frozenset()  # how many steps it is taken
        self._noted: list[tuple[int, Tensor]] = []  # (steps, sizes LS)
        if update is None or not update.rule.of_step_size:
            return
        self.after = frozenset({1, math.ceil(steps / 8), math.ceil(steps / 2), steps})
        columns = _sampled(names, shapes)
        self._layers, self._counts = list(columns), [len(own) for own in columns.values()]
        self._columns_S = torch.cat(list(columns.values())).to(device)
        self._update, self._depends_on = update.of(self._columns_S), update.rule.of_step_size

    def note(self, state: State, lr_L1: Tensor, t: int) -> None:
        """Take the step sizes in the update of step t (counted from 0), which took lr_L1 and returned `state`."""
        of = {name: state[name].index_select(1, self._columns_S) for name in self._depends_on if name in state}
        self._noted.append((t + 1, self._update.effective_lr(of, lr_L1, t)))

    def of_lanes(self, ends: Sequence[int | None]) -> list[dict[str, tuple[StepSizes, ...]]]:
        """What was noted of each lane, as in `Curve.effective_lr`; only what is finite.

        Args:
            ends: the step at which a lane diverged, before which it is of interest; None where it did not.
        """
        found: list[dict[str, tuple[StepSizes, ...]]] = [{} for _ in ends]
        for step, sizes_LS in self._noted:
            # By NumPy: torch takes 25 times as long to sort rows of this length.
            of_layers = np.split(sizes_LS.cpu().double().numpy(), np.cumsum(self._counts)[:-1], axis=1)
            for layer, sizes in zip(self._layers, of_layers, strict=True):
                ranks = [round(q * (sizes.shape[1] - 1)) for q in QUANTILES]  # the nearest
                for own, end, (low, median, high) in zip(found, ends, np.sort(sizes)[:, ranks].tolist(), strict=True):
                    if (end is None or step <= end) and math.isfinite(high):  # the largest
                        own[layer] = (*own.get(layer, ()), (step, low, median, high))
        return found


def _sampled(names: Sequence[str], shapes: Sequence[torch.Size]) -> dict[str, Tensor]:
    """The columns of P that are looked at in each layer: the module that owns the tensors."""
    parts: dict[str, list[tuple[int, int]]] = {}  # (first column, columns)
    first = 0
    for name, shape in zip(names, shapes, strict=True):
        in_model = name.removeprefix("model.")  # as the objective has it
        if shape.numel():
            parts.setdefault(in_model.rpartition(".")[0] or in_model, []).append((first, shape.numel()))
        first += shape.numel()
    return {layer: _some(own) for layer, own in parts.items()}


def _some(parts: Sequence[tuple[int, int]]) -> Tensor:
    """The columns of some parts; where they are many, a sample."""
    size = sum(n for _, n in parts)
    chosen = torch.arange(min(size, SAMPLE))
    if size > SAMPLE:  # drawn, since evenly spaced ones may all fall into a few columns of a matrix
        chosen = torch.randint(size, (SAMPLE,), generator=torch.Generator().manual_seed(0))
    columns, before = torch.empty_like(chosen), 0
    for first, n in parts:
        here = (chosen >= before) & (chosen < before + n)
        columns[here] = chosen[here] - before + first
        before += n
    return columns
