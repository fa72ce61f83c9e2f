"""torch's SequentialLR and ChainedScheduler: what they really do, as `>>` and `*`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from ..schedules import Schedule, Then, Times, constant, hold, multistep, piecewise, wave
from .building import chain, first, fixed, whole
from .imported import Imported
from .torch_parts import RELATIVE, Start, alone, base_lr, kind_of, refuse

__all__ = ["read"]


def read(scheduler: Any, group: int, start: Start | None = None) -> Imported:
    """The schedule of any scheduler, its last phase open; from its own step 0 if there is no `start`."""
    name = kind_of(scheduler)
    if name == "SequentialLR":
        return _sequence(scheduler, group, start)
    return _product(scheduler, group, start) if name == "ChainedScheduler" else alone(scheduler, group, start)


def _sequence(scheduler: Any, group: int, start: Start | None) -> Imported:
    """Phases one after the other, each from the step at which torch enters it.

    The constructor sets the group to its initial lr (which a OneCycleLR among the parts has overwritten) and lets
    the first part begin there. At a milestone the next part begins: by its closed form if it has one, so from its
    base lr; MultiplicativeLR and SWALR from the lr that stands there. As the first part of another SequentialLR it
    is stepped once by each constructor around it, so it is ahead of the run by that many steps.
    """
    ahead = 0 if start is None else start.ahead
    lr = float(scheduler.optimizer.param_groups[group]["initial_lr"])
    parts: list[tuple[Imported, int | None]] = []
    for part, how, n in _turns(scheduler, ahead):
        if how == "entered" and kind_of(part) in ("SequentialLR", "ChainedScheduler"):
            raise refuse(
                scheduler,
                f"torch fails with NotImplementedError where it comes to its {type(part).__name__}.",
                "A composed scheduler can only be the first part; list its parts in the outer SequentialLR.",
            )
        imported = read(part, group, Start(lr, how, ahead + 1))
        if n is not None:
            imported = Imported(first(imported.schedule, n), imported.lr)
            lr = imported.lr * imported.schedule.bind(n)(n - 1)
        parts.append((imported, n))
    return _joined([imported for imported, _ in parts])


def _turns(scheduler: Any, ahead: int) -> Iterator[tuple[Any, Any, int | None]]:
    """Each part that has a step: the scheduler, how it begins, for how many steps (None: the rest)."""
    milestones = [whole(m, "a milestone", least=-(10**9)) for m in scheduler._milestones]
    if any(a > b for a, b in pairwise(milestones)):
        raise refuse(scheduler, f"its milestones {milestones} are not in order.", "Give them in order.")
    edges = [0, *(max(m - ahead, 0) for m in milestones)]
    for i, part in enumerate(scheduler._schedulers):
        n = edges[i + 1] - edges[i] if i < len(milestones) else None
        if n == 0:
            continue
        if i and (edges[i] or milestones[i - 1] == ahead > 0):
            yield part, "entered", n
        else:
            yield part, "stepped" if ahead else "built", n


def _joined(parts: Sequence[Imported]) -> Imported:
    """One after the other, as multiples of the largest lr."""
    peak = max((part.lr for part in parts), key=abs)
    schedules = [part.schedule if part.lr == peak else (part.lr / peak) * part.schedule for part in parts]
    return Imported(chain(*schedules), peak)


def _product(scheduler: Any, group: int, start: Start | None) -> Imported:
    """Factors at the same time, where each part of the chain only multiplies what stands in the group."""
    members = list(_members(scheduler))
    after = None if start is None else replace(start, how="stepped")
    if len(members) == 1:
        return read(members[0], group, after)
    cosines = [member for member in members if kind_of(member) == "CosineAnnealingLR"]
    for member in members:
        if kind_of(member) not in RELATIVE and member not in cosines:
            raise refuse(
                scheduler,
                f"{type(member).__name__} sets the lr outright, so what stands before it in the chain has no effect, "
                "and what follows it multiplies one step at a time: the chain is no product.",
                "Import the parts one by one, and multiply those that you mean: a.schedule * b.schedule.",
            )
    begin = after or Start(base_lr(members[0], group))
    others = [alone(member, group, begin) for member in members if member not in cosines]
    scale = math.prod(other.lr / begin.lr for other in others)
    factors = [other.schedule for other in others]
    if not cosines:
        return Imported(Times(1.0, tuple(factors)), scale * begin.lr)
    return _with_cosine(scheduler, group, begin, cosines, factors, scale)


def _members(scheduler: Any) -> Iterator[Any]:
    """The parts of a chain, those of chains in it too."""
    for part in scheduler._schedulers:
        if kind_of(part) == "ChainedScheduler":
            yield from _members(part)
        else:
            yield part


def _with_cosine(
    scheduler: Any, group: int, start: Start, cosines: list[Any], factors: list[Schedule], scale: float
) -> Imported:
    """A product up to the cosine's valley; out of it torch adds, and the other factors are forgotten."""
    if len(cosines) > 1 or cosines[0].eta_min != 0:
        raise refuse(
            scheduler,
            "two cosines"
            if len(cosines) > 1
            else f"a cosine to eta_min={cosines[0].eta_min:g}, not 0, adds to the lr"
            " what the other parts then multiply, so it is no product.",
            "Import the parts one by one, and multiply them: a.schedule * b.schedule.",
        )
    falls = alone(cosines[0], group, start)
    n = int(cosines[0].T_max)
    whole_run = Times(1.0, (falls.schedule, *factors))
    settled = [_settled(factor) for factor in factors]
    if any(step is None or step > n for step in settled):
        raise refuse(
            scheduler,
            f"past step {n} torch adds the cosine's rise to the lr, whatever the other parts did until then, so there "
            "it is no product.",
            f"For a run of at most {n} steps it is {whole_run!r} of {falls.lr:g}.",
        )
    if scale == math.prod(factor.bind(n + 1)(n) for factor in factors) == 1:
        return Imported(whole_run, falls.lr)
    until = Times(scale, tuple(first(factor, n) for factor in (falls.schedule, *factors)))
    return Imported(until >> wave(n, start=0, to=1), falls.lr)


def _settled(schedule: Schedule) -> int | None:
    """From which step on it stays at one value; None if never."""
    if isinstance(schedule, Then):
        return fixed(schedule) if isinstance(schedule.parts[-1], constant | hold) else None
    if isinstance(schedule, multistep | piecewise):
        return max(int(at) for at in schedule.at)
    return 0 if isinstance(schedule, constant) or getattr(schedule, "factor", None) == 1 else None
