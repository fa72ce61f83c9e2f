"""Schedules out of living torch.optim.lr_scheduler objects.

    torch_parts.py        one scheduler, one reader
    torch_composed.py     SequentialLR and ChainedScheduler, which are made of others
    torch_replay.py       a copy taken back to step 0, and its values: what every import is compared with

The reference is the sequence that repeated `.step()` gives, not the closed forms beside it in torch, which differ
(total_iters=0, restarts found by a logarithm).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ScheduleError
from ..schedules.units import as_count
from .building import fixed
from .imported import Imported
from .torch_composed import read
from .torch_parts import kind_of, momentum
from .torch_replay import replay

__all__ = ["from_torch"]

PROOF_STEPS = 1000
PROOF_TOLERANCE = 1e-9  # of the largest value; torch's recursions lose digits with the steps


def from_torch(scheduler: Any, group: int = 0, key: str = "lr") -> Imported:
    """The schedule of a living torch scheduler: at step t, torch has `lr * schedule(t)` after t calls of `.step()`.

    It is the whole run's, from step 0, however far the scheduler is by now; the scheduler and its optimizer stay as
    they are. Oddities past the end come along: a cosine that rises again is a `wave`. What transformers'
    `get_scheduler` made is recognised, and any other function given to LambdaLR or MultiplicativeLR becomes a
    `Foreign`, which must be a function of the step alone. Phases keep torch's lengths, so the horizon that it is
    bound to must hold them (the error of `bind` says how many steps they are); the last one takes the rest.

    It is exact to 1e-12 of the peak for thousands of steps. Only behind a valley of CosineAnnealingLR torch itself is
    off its cosine, by up to 2e-16 · T_max², since it climbs out by a difference that has lost those digits. Beside
    another scheduler that has moved the lr (SWALR in its usual place) a scheduler is read as if it ran alone.

    Before it is returned it is compared with a copy of the scheduler that is stepped from 0, for 1,000 steps.

    Args:
        scheduler: of torch.optim.lr_scheduler or torch.optim.swa_utils; of the class itself, not of a subclass.
        group: which param group; default 0.
        key: "lr" (default), or what CyclicLR and OneCycleLR cycle beside it: "momentum", or "beta1" of Adam's betas.

    Returns:
        The multiplier, and what it multiplies: max_lr of CyclicLR and OneCycleLR, the group's initial lr of all
        others, the largest of those in a SequentialLR; for a momentum, max_momentum.

    Raises:
        ScheduleError: a subclass or an unknown class; a metric-driven one; a chain that is no product; an lr of 0;
            what torch itself raises at; something that another version of torch does differently.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    >>> from_torch(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000, eta_min=0.05))
    Imported(schedule=wave(1000, to=0.1), lr=0.5)
    """
    name = kind_of(scheduler)
    groups = scheduler.optimizer.param_groups
    if as_count(group, "group", least=0) >= len(groups):
        raise ScheduleError(f"There is no param group {group}: the optimizer has {len(groups)}.", "Give one of them.")
    imported = read(scheduler, group) if key == "lr" else momentum(scheduler, group, key)
    if name not in ("LambdaLR", "MultiplicativeLR"):  # which have the function itself
        _prove(imported, scheduler, group, key)
    return imported


def _prove(imported: Imported, scheduler: Any, group: int, key: str) -> None:
    schedule, lr = imported
    theirs = np.array(replay(scheduler, group, key, PROOF_STEPS))
    ours = lr * schedule.bind(max(PROOF_STEPS, fixed(schedule)))(np.arange(len(theirs)))
    off = np.abs(ours - theirs) > PROOF_TOLERANCE * max(abs(lr), np.abs(theirs).max(initial=0))
    if off.any():
        t = int(off.argmax())
        raise ScheduleError(
            f"At step {t} this {type(scheduler).__name__} has {key} {theirs[t]:.9g}, and what was read from it, "
            f"{schedule!r}, has {ours[t]:.9g}.",
            "Write the schedule by hand, or as_schedule(function); if torch is as it came, please report it.",
        )
