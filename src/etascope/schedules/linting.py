"""What is probably not meant in a bound schedule: one rule, one function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import numbers
from ..errors import ScheduleError
from .units import as_count, as_number

if TYPE_CHECKING:
    from ..records import Finding
    from .base import Bound

__all__ = ["Remark", "lint"]


# Shapes that rise again because that is what they are for; a wave does so only past what was meant.
_RISING = ("warmup", "triangular", "exp_range", "noise", "foreign")


@dataclass(frozen=True)
class Remark:
    """One thing that is probably not meant.

    Attributes:
        code: which rule: horizon, idle, sign, rebound, zero-start, jump, empty-phase, warmup, edge.
        step: where; None if nowhere in particular.
        text: what was seen, in numbers.
        next_move: what to write instead.
    """

    code: str
    step: int | None
    text: str
    next_move: str

    def __str__(self) -> str:
        return f"{self.code}: {self.text} {self.next_move}"


@dataclass(frozen=True)
class _Asked:
    bound: Bound
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    run: int
    lr: float | None
    edge: float | None
    jump: float


def lint(
    bound: Bound, run: int | None = None, lr: float | None = None, finding: Finding | None = None, jump: float = 10.0
) -> tuple[Remark, ...]:
    """All remarks on `bound`; see `Bound.lint`."""
    run = bound.horizon if run is None else as_count(run, "run", least=1)
    if as_number(jump, "jump") <= 1:
        raise ScheduleError(f"jump is {jump!r}.", "Give a factor above 1, such as 10.")
    if lr is None and finding is not None:
        lr = finding.lr
    edge = None if finding is None else finding.edge
    asked = _Asked(bound, bound.multipliers(), run, lr, edge, jump)
    return tuple(remark for rule in _RULES for remark in rule(asked))


def _horizon(a: _Asked) -> Iterator[Remark]:
    h, run, last = a.bound.horizon, a.run, a.bound(a.run - 1)
    if run > h:
        text = f"The run has {run:,} steps and the schedule {h:,}: the last {run - h:,} stay at {last:.3g}."
    elif run < h:
        text = f"The run has {run:,} steps and the schedule {h:,}: it ends at {last:.3g}, not at {a.values[-1]:.3g}."
    else:
        return
    yield Remark("horizon", min(run, h), text, f"Write .bind({run}), or .rescale({run}) to keep the shape.")


def _idle(a: _Asked) -> Iterator[Remark]:
    v = a.values[: a.run]
    if not v.any():
        yield Remark("idle", 0, "The lr is 0 at every step: nothing is trained.", "Give a value, or a length, above 0.")
        return
    zeros = len(v) - 1 - int(np.flatnonzero(v)[-1])
    ends = math.ceil(max(span.start + span.n for span in a.bound.laid.spans()))
    if zeros > max(1, 0.02 * len(v)):
        text = f"The last {zeros:,} of {len(v):,} steps have the lr 0, and train nothing."
    elif ends < a.bound.horizon:
        text = f"The phases end at step {ends:,}, and the lr stays at {v[-1]:.3g} for the rest of {len(v):,} steps."
    else:
        return
    yield Remark(
        "idle",
        len(v) - zeros if zeros else ends,
        text,
        "Leave a length out, so that a phase takes the rest; or write ... >> hold() if it is meant to stay.",
    )


def _sign(a: _Asked) -> Iterator[Remark]:
    wrong = ~((a.values >= 0) & np.isfinite(a.values))
    if wrong.any():
        t = int(wrong.argmax())
        yield Remark(
            "sign",
            t,
            f"At step {t:,} the multiplier is {a.values[t]:.3g}.",
            "An lr is a number from 0 on: a negative one climbs the loss.",
        )


def _rebound(a: _Asked) -> Iterator[Remark]:
    v = a.values[: a.run]
    peak = int(v.argmax())
    low = peak + int(v[peak:].argmin())
    if v[peak] <= 0 or v[-1] <= v[low] + 0.05 * v[peak]:
        return
    later = [span for span in a.bound.laid.spans() if span.start + span.n > low]
    if any(span.schedule.kind in _RISING for span in later) or _rewarms(a.bound, low):
        return
    yield Remark(
        "rebound",
        low,
        f"It is at its lowest, {v[low]:.3g}, at step {low:,}, and rises again: the run ends at {v[-1]:.3g}.",
        f"End the run there, or write ... >> hold() after {low:,} steps.",
    )


def _zero_start(a: _Asked) -> Iterator[Remark]:
    if a.values[0] == 0 and a.values.any():
        yield Remark(
            "zero-start",
            0,
            "The first step has the lr 0: it costs a batch and trains nothing.",
            "Leave start=0 out: warmup(n) begins at 1/(n + 1).",
        )


def _jump(a: _Asked) -> Iterator[Remark]:
    # Near 0 a large ratio means nothing, so everything below a thousandth of the peak counts as that.
    v = np.maximum(np.abs(a.values), np.abs(a.values).max() / 1000)
    if not v.any():
        return
    factors = np.exp(np.abs(np.diff(np.log(v))))
    factors[(a.values[1:] == 0) | (a.values[:-1] == 0)] = 1  # to and from 0 every line goes by such a factor
    for span in a.bound.laid.spans():
        first, last = max(int(span.start), 0), max(math.ceil(span.start + span.n) - 1, 0)
        if getattr(span.schedule, "jumps", False):  # there it is what was asked for
            factors[first:last] = 1
        if span.n < 1:  # said by another rule
            factors[max(first - 1, 0) : first + 1] = 1
    if (extended := _extension(a.bound)) is not None and extended.rewarm:
        factors[max(extended.at - 1, 0) : extended.at + extended.rewarm] = 1
    if factors.size and factors.max() > a.jump * (1 + 1e-9):
        t = int(factors.argmax()) + 1
        yield Remark(
            "jump",
            t,
            f"From step {t - 1:,} to step {t:,} it goes from {a.values[t - 1]:.3g} to {a.values[t]:.3g}.",
            "Let a phase start where the one before arrives (start=..., to=...), or put a warmup between.",
        )


def _empty_phase(a: _Asked) -> Iterator[Remark]:
    for span in a.bound.laid.spans():
        length = getattr(span.schedule, "length", None)
        open_hold = span.schedule.kind == "hold" and length is None  # for whatever is left, also if nothing is
        if span.n < 1 and length not in (0, "0%", "0ep") and not open_hold:
            yield Remark(
                "empty-phase",
                int(span.start),
                f"{span.schedule!r} takes {span.n:.2g} of {a.bound.horizon:,} steps, so no step is in it.",
                "Give it more, or leave it out.",
            )


def _extension(bound: Bound) -> Any:
    return bound.schedule if bound.schedule.kind == "extended" else None


def _rewarms(bound: Bound, step: int) -> bool:
    extended = _extension(bound)
    return extended is not None and extended.at <= step + 1 and extended.rewarm > 0


def _warmup(a: _Asked) -> Iterator[Remark]:
    from .shapes import warmup

    for span in a.bound.laid.spans():
        if isinstance(span.schedule, warmup) and span.n and span.start <= a.run - 1 < span.start + span.n - 1:
            yield Remark(
                "warmup",
                a.run,
                f"The warmup ends at step {span.start + span.n:,.0f}, and the run after {a.run:,} steps.",
                "Write the warmup as a part of the run: warmup('5%').",
            )


def _edge(a: _Asked) -> Iterator[Remark]:
    if a.lr is None or a.edge is None:
        return
    high = a.lr * a.values[: a.run]
    if high.max() >= a.edge:
        first = int((high >= a.edge).argmax())
        yield Remark(
            "edge",
            first,
            f"At step {first:,} the lr is {numbers.lr(high[first])}, and training diverges from "
            f"{numbers.lr(a.edge)} on.",
            f"Lower the peak lr to below {numbers.lr(a.edge / max(a.values.max(), 1e-300))}.",
        )


_RULES: tuple[Callable[[_Asked], Iterator[Remark]], ...] = (
    _horizon,
    _idle,
    _sign,
    _rebound,
    _zero_start,
    _jump,
    _empty_phase,
    _warmup,
    _edge,
)
