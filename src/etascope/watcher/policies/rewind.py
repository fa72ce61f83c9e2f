"""`rewind`: leave the update out; if that does not help, go back, cut the lr and go on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from ... import numbers as n
from .base import Alarm, Answer, Policy, Scene, must_be

__all__ = ["RewindState", "rewind"]

LEAST = 1e-9  # of the lr: what it is cut to at most
Mode = Literal["well", "skipping", "back", "holding"]


@dataclass(frozen=True)
class RewindState:
    """Where a rewind stands.

    Attributes:
        mode: "well"; "skipping" since an alarm; "back", after a rewind, before the first loss that is in line;
            "holding", while losses are out of line though the model is a good one.
        skips: updates left out in a row.
        skipped: updates left out since all was well for `forgive` observations.
        attempts: rewinds since all was well for `forgive` observations.
        well: observations in line since the last alarm.
        cut: the factor that the rewinds have made.
        before: the cut before the last rewind, to which it returns where the data were to blame.
        rewarm: observations in line since the last rewind; None where the lr is not being warmed up again.
        stopped: whether it has stopped the run.
    """

    mode: Mode = "well"
    skips: int = 0
    skipped: int = 0
    attempts: int = 0
    well: int = 0
    cut: float = 1.0
    before: float = 1.0
    rewarm: int | None = None
    stopped: bool = False


@dataclass(frozen=True, repr=False)
class rewind(Policy[RewindState]):
    """Answer alarms: skip the update, rewind and cut the lr, hold while the data are bad, or stop.

    1. A loss or gradient that is out of line: its update is not made. A single bad batch has done no harm then.
    2. More than `skips` in a row, three times as many one by one, or a loss that has gone astray over several steps:
       back to the last good snapshot, and the lr is cut: cut ← cut · factor^k at the k-th attempt, so that each cuts
       deeper than the one before, and warmed up again from a tenth of that over `rewarm` updates. From the third
       attempt on it goes one snapshot further back. Where the lr had leapt shortly before, it goes back to before the
       leap, and the cut takes all of it back. Where the first alarm was a number that is not finite, the first
       attempt does not cut: one bad gradient is enough for that. Where decisions come late (on a GPU), there is no
       update left to be skipped: it rewinds at once, the first time without a cut.
    3. Back on a good model, the next loss tells what it was. In line: the weights had been led astray, and the cut
       stays. Out of line though no update was made since: it is the data. The cut is taken back, and updates are left
       out until the loss is in line again; after `hold` of them, what comes is how the data are now, and training
       goes on (or stops, where what comes is no finite number).
    4. After `attempts` rewinds without `forgive` observations in line between them: back to the good state, and stop.

    Args:
        factor: what the lr is cut by, between 0 and 1; default 0.5.
        attempts: rewinds before it stops; default 5.
        skips: updates in a row that are left out before it rewinds; default 2.
        hold: updates that are left out while the data are bad; default 400.
        rewarm: updates over which the lr is warmed up again; default 10, 0 for none.
        forgive: observations in line after which attempts are forgotten; the cut stays; default 200.

    Source: PaLM (arXiv 2204.02311, 5.1) restarts about 100 steps before a spike and skips 200 to 500 batches, by hand;
    the cut and the question whether it was the data are ours.
    """

    factor: float = 0.5
    attempts: int = 5
    skips: int = 2
    hold: int = 400
    rewarm: int = 10
    forgive: int = 200

    State = RewindState

    def __post_init__(self) -> None:
        """Check the fields."""
        must_be(self, "factor", 0, 1, strictly=True)
        must_be(self, "attempts", 1, math.inf, whole=True)
        for name in ("skips", "hold", "rewarm", "forgive"):
            must_be(self, name, 0, math.inf, whole=True)

    def init(self) -> RewindState:
        return RewindState()

    def on_lr(self, state: RewindState) -> float:
        if state.rewarm is None or state.rewarm >= self.rewarm:
            return state.cut
        return state.cut * (0.1 + 0.9 * state.rewarm / self.rewarm)

    def alarmed(self, state: RewindState, alarm: Alarm, scene: Scene) -> tuple[RewindState, Answer | None]:
        if state.stopped or alarm.of == "schedule":
            return state, None
        if alarm.of == "lr":
            cut = max(LEAST, state.cut * self.factor)
            return replace(state, cut=cut, well=0), Answer("scale", f"cut: {self._cut(state, cut, scene)}")
        if state.mode == "back" and alarm.of == "update":
            said = "out of line on a good model too, so it is the data: updates are left out until it is in line"
            after = replace(state, mode="holding", cut=state.before, rewarm=None, skips=1, attempts=state.attempts - 1)
            return after, Answer("skip", said)
        if state.mode == "holding":
            if state.skips < self.hold:
                return replace(state, skips=state.skips + 1), Answer("skip", "the data are still out of line: left out")
            if alarm.code == "ETA001":
                return self._stop(state, scene, f"{state.skips} updates were left out")
            said = f"{state.skips} updates were left out: this is how the data are now, and training goes on"
            return replace(state, mode="well", skips=0, skipped=0), Answer("none", said, anew=True)
        if alarm.of == "update" and not scene.late and state.skips < self.skips and state.skipped < 3 * self.skips:
            after = replace(state, mode="skipping", skips=state.skips + 1, skipped=state.skipped + 1, well=0)
            return after, Answer("skip", "this update is left out")
        return self._back(state, alarm, scene)

    def _back(self, state: RewindState, alarm: Alarm, scene: Scene) -> tuple[RewindState, Answer]:
        if not scene.good:
            return self._without_snapshot(state, alarm, scene)
        attempt = state.attempts + 1
        leap, leapt = alarm.numbers.get("leap", 1.0), alarm.numbers.get("leap_step", math.inf)
        back = min(max(0, attempt - 2, sum(step > leapt for step in scene.good)), len(scene.good) - 1)
        to = scene.good[-1 - back]
        if attempt > self.attempts:
            return self._stop(state, scene, f"{n.plural(self.attempts, 'rewind')} did not help", back)
        cut = state.cut
        if attempt > 1 or not (alarm.code == "ETA001" or (scene.late and alarm.of == "update")):
            cut = max(LEAST, cut * min(self.factor ** max(1, attempt), 1 / leap))
        after = replace(
            state, mode="back", skips=0, skipped=0, attempts=attempt, well=0, cut=cut, before=state.cut, rewarm=0
        )
        said = f"rewound to step {to:,}, {self._cut(state, cut, scene)}"
        return after, Answer("rewind", said, back=back, numbers={"attempt": attempt})

    def _without_snapshot(self, state: RewindState, alarm: Alarm, scene: Scene) -> tuple[RewindState, Answer]:
        if not scene.signals.finite:
            return replace(state, stopped=True), Answer("stop", "there is no good state yet to go back to: stopped")
        # There were some, and they are lost: a group was added, or they cannot be written.
        if alarm.of == "update":
            said = "there is no state left to go back to: updates are left out until it is in line"
            return replace(state, mode="holding", skips=state.skips + 1), Answer("skip", said)
        cut = max(LEAST, state.cut * self.factor)
        said = f"there is no state left to go back to: {self._cut(state, cut, scene)}"
        return replace(state, cut=cut, before=cut, well=0), Answer("scale", said, anew=True)

    def _cut(self, state: RewindState, cut: float, scene: Scene) -> str:
        """What becomes of the lr, once it is warmed up again."""
        now = self.on_lr(state)
        before, after = scene.lr_at(state.cut, now), scene.lr_at(cut, now)
        return f"lr {n.lr(before)} → {n.lr(after)}" if after < before else "the lr as it was"

    def _stop(self, state: RewindState, scene: Scene, why: str, back: int = 0) -> tuple[RewindState, Answer]:
        to = f"back to step {scene.good[-1 - back]:,}, and " if scene.good else ""
        return replace(state, stopped=True), Answer("stop", f"{why}: {to}stopped", back=back)

    def attends(self, state: RewindState) -> bool:
        return state.mode != "well" or state.rewarm is not None or state.attempts > 0 or state.skipped > 0

    def observed(self, state: RewindState, loss: float, scene: Scene) -> tuple[RewindState, Answer | None]:
        rewarm = None if state.rewarm is None or state.rewarm >= self.rewarm else state.rewarm + 1
        well = state.well + 1
        if well >= self.forgive:
            return RewindState(cut=state.cut, before=state.cut, rewarm=rewarm), None
        return replace(state, mode="well", skips=0, well=well, rewarm=rewarm), None
