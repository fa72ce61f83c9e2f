"""`follow`: the lr is what the schedule says, whatever somebody else wrote."""

from __future__ import annotations

from dataclasses import dataclass

from .base import Alarm, Answer, Policy, Scene

__all__ = ["FollowState", "follow"]


@dataclass(frozen=True)
class FollowState:
    """Nothing is remembered."""


@dataclass(frozen=True, repr=False)
class follow(Policy[FollowState]):
    """Answer ETA013: the lr that the handle had written is written again, lr = (peak · scale) · schedule(step).

    A forgotten second scheduler, or a callback, does not get through then. Who means to change the lr by hand sets
    `handle.scale`, or leaves this policy out.
    """

    State = FollowState

    def init(self) -> FollowState:
        return FollowState()

    def on_lr(self, state: FollowState) -> float:
        return 1.0

    def alarmed(self, state: FollowState, alarm: Alarm, scene: Scene) -> tuple[FollowState, Answer | None]:
        if alarm.code != "ETA013":
            return state, None
        return state, Answer("restore", "the schedule's lr is written again")
