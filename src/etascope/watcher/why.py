"""Why the lr was what it was at a step: the peak, the schedule's term, and each factor."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache

from .. import numbers as n
from ..errors import OptionError, ScheduleError
from ..schedules import Schedule
from .log import Log

__all__ = ["Why", "why"]


@dataclass(frozen=True)
class Why:
    """What made an lr: lr = (peak · scale) · schedule, where scale is `own` times the product of the factors, bounded.

    Attributes:
        step: updates made before.
        lr: the lr that the update was made with, of the first param group; of a tensor what the handle wrote into it,
            before that was rounded to its dtype.
        peak: the peak; None where no handle drives the lr.
        schedule: the schedule's term at this step; None where no handle drives the lr.
        scale: what the peak was multiplied by.
        own: the part of the scale that is not the watch's: set by the user, or by the handle's own factors.
        factors: each policy's factor.
        exact: whether the terms give the lr to the bit; somebody else wrote it where they do not.
        guessed: whether the schedule is a function of the user's, whose term is what the lr leaves for it.
        since: the sentences of the decisions that made the factors.
    """

    step: int
    lr: float
    peak: float | None
    schedule: float | None
    scale: float
    own: float
    factors: dict[str, float] = field(hash=False)
    exact: bool
    guessed: bool = False
    since: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The equation, and the decisions behind it."""
        factors = [f"{name} {factor:g}" for name, factor in self.factors.items() if factor != 1.0]
        if self.own != 1.0:
            factors.insert(0, f"scale {self.own:g}")
        if self.schedule is None or self.peak is None:
            terms = " · ".join(["what the optimizer has", *factors])
        else:
            terms = " · ".join([f"peak {n.lr(self.peak, 3)}", *factors, f"schedule {self.schedule:.6g}"])
            terms += " (your function's)" if self.guessed else ""
        end = "" if self.exact else " (not to the bit: something else wrote the lr too)"
        return "\n".join([f"step {self.step:,}: lr {n.lr(self.lr, 4)} = {terms}{end}", *self.since])


def why(log: Log, step: int) -> Why:
    """Why the lr was what it was at the update number `step`, counted from 0.

    Raises:
        OptionError: the log has no such step.
    """
    lr, seen_at = math.nan, -1
    scale, own, factors = 1.0, 1.0, dict[str, float]()
    for line in log.of("steps"):
        if line["step"] <= step < line["step"] + len(line["lr"]):
            i = step - line["step"]  # the last observation of a step is that of the update that was made
            lr, seen_at = float(line["lr"][i]), line["seen"] + i
    for line in log.of("factors"):
        if line["seen"] <= seen_at:
            scale, own = float(line["scale"]), float(line["own"])
            factors = {name: float(factor) for name, factor in line["factors"].items()}
    if seen_at < 0:
        last = max((line["step"] + len(line["lr"]) - 1 for line in log.of("steps")), default=-1)
        raise OptionError(f"The log has no step {step}.", f"It has steps 0 to {last:,}.")
    peak, term = log.header.get("peak"), _term(log, step)
    guessed, exact = False, True
    if peak is not None and term is not None:
        exact = (peak * scale) * term == lr
    elif peak is not None and peak * scale > 0:
        guessed, term = True, lr / (peak * scale)
    since = tuple(
        str(d) for d in log.decisions if d.seen <= seen_at and d.taken and d.action in ("rewind", "scale", "stop")
    )
    if not any(factor != 1.0 for factor in factors.values()):
        since = ()
    return Why(step, lr, peak, term, scale, own, factors, exact, guessed, since[-5:])


@lru_cache(maxsize=8)
def _schedule(said: str) -> Schedule:
    return Schedule.from_json(json.loads(said))


def _term(log: Log, step: int) -> float | None:
    said = log.header.get("schedule")
    for line in log.of("schedule"):  # the run was extended
        if line["step"] <= step:
            said = line["schedule"]
    if said is None:
        return None
    try:
        return float(_schedule(json.dumps(said, sort_keys=True))(step))
    except (ScheduleError, KeyError, TypeError, ValueError):
        return None  # a user's function, of which the log has the name alone
