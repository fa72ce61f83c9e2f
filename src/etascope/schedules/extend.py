"""A run made longer on its way: what follows then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np

from ..errors import ScheduleError
from .base import Bound, Schedule
from .layout import Floats, Laid, Neighbour, Span
from .units import Clock, as_count

__all__ = ["KEEPS", "Extended"]

KEEPS = ("fraction", "value", "schedule")


@dataclass(frozen=True, repr=False)
class Extended(Schedule):
    """`before` up to step `at`; from there on as `keep` says, over a new horizon: what `Bound.extend` makes.

    With T the old horizon, H the new one, a = `at`, m the old curve and M the schedule laid out on H anew:

        keep="fraction":  m(a + (t − a) · (T − a) / (H − a))
        keep="value":     m(a) · M(t) / M(a)
        keep="schedule":  M(t)

    and for the first `rewarm` steps after a, times (t − a + 1) / (rewarm + 1).
    """

    before: Bound
    at: int
    horizon: int
    keep: str = "fraction"
    rewarm: int = 0

    is_open = False
    is_relative = False

    def __post_init__(self) -> None:
        """Check everything now, so that no step fails later."""
        if not isinstance(self.before, Bound):
            raise ScheduleError(f"{self.before!r} is not bound to a horizon.", "Bind it first.")
        object.__setattr__(self, "at", as_count(self.at, "at", least=0))
        object.__setattr__(self, "horizon", as_count(self.horizon, "horizon", least=1))
        object.__setattr__(self, "rewarm", as_count(self.rewarm, "rewarm", least=0))
        if not isinstance(self.keep, str) or self.keep not in KEEPS:
            raise ScheduleError(f"keep is {self.keep!r}.", f"Give one of {', '.join(map(repr, KEEPS))}.")
        if self.horizon <= self.at:
            raise ScheduleError(
                f"The run is at step {self.at}, and the new horizon is {self.horizon}.",
                "Give a horizon beyond the present step.",
            )
        if self.rewarm > self.horizon - self.at:
            raise ScheduleError(
                f"rewarm={self.rewarm} is longer than the {self.horizon - self.at} steps that are left.",
                "Give fewer steps, or a longer horizon.",
            )
        if self.keep == "fraction":
            if self.at >= self.before.horizon:
                raise ScheduleError(
                    f"The run is over (step {self.at} of {self.before.horizon}): nothing of it is left to stretch.",
                    f'Write keep="schedule", rewarm={max((self.horizon - self.at) // 20, 1)} to climb again.',
                )
        elif self.keep == "value":
            self._check_value()
        else:
            _ = self._relaid

    def _check_value(self) -> None:
        """Refuse where the present value is not one that the longer run could go on from."""
        old, new = self.before, self._relaid
        now, then = old(self.at), new(self.at)
        if not now * then > 0:
            raise ScheduleError(
                f"At step {self.at} the multiplier is {now:g}, and over {self.horizon} steps it would be {then:g}: "
                "there is no factor from the one to the other.",
                'Write keep="fraction", or keep="schedule" with rewarm=... to climb again.',
            )
        peak = max(_largest(old, 0), _largest(new, 0))
        if (high := now / then * _largest(new, self.at)) > peak * (1 + 1e-9):
            raise ScheduleError(
                f"At step {self.at} the longer run would still be at {then:.3g}, so to keep the present {now:.3g} all "
                f"that follows would be raised, to {high:.3g} of the peak lr.",
                'Write keep="fraction", or keep="schedule".',
            )

    @cached_property
    def _relaid(self) -> Bound:
        """The schedule on the new horizon, rescaled as much as the old one was."""
        inner, stretch = self.before, Fraction(1)
        while True:
            stretch *= Fraction(inner.full, inner.horizon)
            if not isinstance(inner.schedule, Extended):
                break
            inner = inner.schedule.before
        full = max(round(self.horizon * stretch), 1)
        return Bound(inner.schedule, self.horizon, inner.steps_per_epoch, full)

    def steps(self, clock: Clock) -> Fraction:
        return Fraction(self.horizon)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        return _Continued(n, self)

    def __repr__(self) -> str:
        keep = "" if self.keep == "fraction" else f", keep={self.keep!r}"
        rewarm = f", rewarm={self.rewarm}" if self.rewarm else ""
        return f"{self.before!r}.extend({self.at}, {self.horizon}{keep}{rewarm})"


@dataclass(frozen=True)
class _Continued(Laid):
    n: int
    how: Extended

    def __call__(self, u: Floats) -> Floats:
        u = np.minimum(u, self.n)
        out = self.how.before.curve(u)
        if (late := u >= self.how.at).any():
            out[late] = self._later(u[late])
        return out

    def _later(self, u: Floats) -> Floats:
        how, at = self.how, self.how.at
        if how.keep == "fraction":
            values = how.before.curve(self._time(u))
        elif how.keep == "value":
            values = how.before(at) * (self.how._relaid.curve(u) / self.how._relaid(at))
        else:
            values = self.how._relaid.curve(u)
        return values * np.minimum((u - at + 1) / (how.rewarm + 1), 1) if how.rewarm else values

    def _time(self, u: Floats) -> Floats:
        """Where on the old run u lies, once what was left of it is stretched."""
        at = self.how.at
        return at + (u - at) * (self.how.before.horizon - at) / (self.how.horizon - at)

    def say(self, u: float) -> str:
        how, u = self.how, min(u, self.n)
        if u < how.at:
            return how.before.laid.say(u)
        climb = f", re-warming ({u - how.at + 1:g}/{how.rewarm + 1})" if u - how.at < how.rewarm else ""
        if how.keep == "fraction":
            then = how.before.laid.say(float(self._time(np.array(u))))
        else:
            scale = f"{how.before(how.at) / self.how._relaid(how.at):.6g} times " if how.keep == "value" else ""
            then = scale + self.how._relaid.laid.say(u)
        return f"extended at step {how.at:,} to {how.horizon:,} (kept the {how.keep}){climb}, {then}"

    def spans(self) -> Iterator[Span]:
        for span in self.how.before.laid.spans():
            if span.start < self.how.at:
                yield Span(span.schedule, span.start, min(span.n, self.how.at - span.start))
        for span in (self.how.before if self.how.keep == "fraction" else self.how._relaid).laid.spans():
            start, end = span.start, span.start + span.n
            if self.how.keep == "fraction":
                start, end = self._new_time(start), self._new_time(end)
            if end > self.how.at:
                yield Span(span.schedule, max(start, self.how.at), end - max(start, self.how.at))

    def _new_time(self, t: float) -> float:
        how = self.how
        return how.at + (t - how.at) * (how.horizon - how.at) / (how.before.horizon - how.at)


def _largest(bound: Bound, start: int) -> float:
    """The largest size of a multiplier from `start` on, at about a thousand steps."""
    steps = np.unique(np.linspace(start, bound.horizon, 1025).astype(np.int64))
    return float(np.abs(bound(steps)).max())
