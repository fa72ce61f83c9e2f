"""A run made longer on its way: what follows then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..errors import ScheduleError
from .base import Bound, Schedule
from .layout import Floats, Laid, Neighbour, Span
from .units import Clock, as_count

__all__ = ["KEEPS", "Extended"]

KEEPS = {
    "fraction": "what was left of the run, stretched over the new rest",
    "value": "the longer run's schedule from there on, scaled to go on from the present value",
    "schedule": "the longer run's schedule, as if it had been so from the beginning",
}


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
        if self.keep not in KEEPS:
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
        _ = self._relaid
        if self.keep == "fraction" and self.at >= self.before.horizon:
            raise ScheduleError(
                f"The run is over (step {self.at} of {self.before.horizon}): nothing of it is left to stretch.",
                f'Write keep="schedule", rewarm={max((self.horizon - self.at) // 20, 1)} to climb again.',
            )
        if self.keep == "value" and not (self.before(self.at) and self._relaid(self.at)):
            raise ScheduleError(
                f"At step {self.at} the multiplier is {self.before(self.at):g}, and over {self.horizon} steps it would "
                f"be {self._relaid(self.at):g}: with a 0 there is no way from the one to the other.",
                'Write keep="fraction", or keep="schedule" with rewarm=... to climb again.',
            )

    @property
    def root(self) -> Schedule:
        """The schedule as it was before any extension."""
        inner = self.before.schedule
        return inner.root if isinstance(inner, Extended) else inner

    @property
    def _relaid(self) -> Bound:
        """The schedule on the new horizon."""
        before = self.before
        while isinstance(before.schedule, Extended):
            before = before.schedule.before
        if before.full != before.horizon:  # a rescaled run is laid out on its full horizon, and stays so
            return Bound(before.schedule, self.horizon, before.steps_per_epoch, before.full)
        return Bound(before.schedule, self.horizon, before.steps_per_epoch, self.horizon)

    def steps(self, clock: Clock) -> Fraction:
        return Fraction(self.horizon)

    def lay_out(self, clock: Clock, n: int, before: Neighbour | None) -> Laid:
        return _Continued(n, self, self._relaid)

    def __repr__(self) -> str:
        keep = "" if self.keep == "fraction" else f", keep={self.keep!r}"
        rewarm = f", rewarm={self.rewarm}" if self.rewarm else ""
        return f"{self.before!r}.extend({self.at}, {self.horizon}{keep}{rewarm})"


@dataclass(frozen=True)
class _Continued(Laid):
    n: int
    how: Extended
    relaid: Bound

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
            values = how.before(at) * (self.relaid.curve(u) / self.relaid(at))
        else:
            values = self.relaid.curve(u)
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
            scale = f"{how.before(how.at) / self.relaid(how.at):.6g} times " if how.keep == "value" else ""
            then = scale + self.relaid.laid.say(u)
        return f"extended at step {how.at:,} to {how.horizon:,} (kept the {how.keep}){climb}, {then}"

    def spans(self) -> Iterator[Span]:
        for span in self.how.before.laid.spans():
            if span.start < self.how.at:
                yield Span(span.schedule, span.start, min(span.n, self.how.at - span.start))
        for span in (self.how.before if self.how.keep == "fraction" else self.relaid).laid.spans():
            start, end = span.start, span.start + span.n
            if self.how.keep == "fraction":
                start, end = self._new_time(start), self._new_time(end)
            if end > self.how.at:
                yield Span(span.schedule, max(start, self.how.at), end - max(start, self.how.at))

    def _new_time(self, t: float) -> float:
        how = self.how
        return how.at + (t - how.at) * (how.horizon - how.at) / (how.before.horizon - how.at)
