"""`pearce_hall`: the lr follows surprise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .base import Answer, Policy, Scene, must_be

__all__ = ["PearceHallState", "pearce_hall"]


@dataclass(frozen=True)
class PearceHallState:
    """Associability, what is usual for it, observations, and the factor on the lr."""

    associability: float = 0.0
    usual: float = 0.0
    count: int = 0
    factor: float = 1.0


@dataclass(frozen=True, repr=False)
class pearce_hall(Policy[PearceHallState]):
    """The lr follows surprise, as the associability of a stimulus does in learning theory.

        δ = loss − its running level           (the prediction error)
        α ← γ |δ| + (1 − γ) α                  (associability: the running absolute prediction error)
        factor = (α / ᾱ)^κ, held to [least, most]

    ᾱ is a mean of α over ten times as many observations: what surprise is usual by now. In Pearce and Hall's model the
    weight changes by S α λ; here α multiplies the lr. What comes unexpectedly (data that drift, a new part of the
    data) raises the lr for a while, and routine lowers it.

    Args:
        gamma: how fast associability follows, between 0 and 1; default 0.05.
        kappa: how strongly the lr follows it; default 0.5.
        least, most: bounds of the factor; default 0.5 and 2.
        every: observations between two changes of the lr; default 10.

    Source: Pearce and Hall, "A model for Pavlovian learning" (Psychological Review 87, 1980); the running form of
    Pearce, Kaye and Hall (1982).
    """

    gamma: float = 0.05
    kappa: float = 0.5
    least: float = 0.5
    most: float = 2.0
    every: int = 10

    State = PearceHallState

    def __post_init__(self) -> None:
        """Check the fields."""
        must_be(self, "gamma", 0, 1, strictly=True)
        must_be(self, "kappa", 0, math.inf)
        must_be(self, "least", 0, 1)
        must_be(self, "most", 1, math.inf)
        must_be(self, "every", 1, math.inf, whole=True)

    def init(self) -> PearceHallState:
        return PearceHallState()

    def on_lr(self, state: PearceHallState) -> float:
        return state.factor

    def attends(self, state: PearceHallState) -> bool:
        return True

    def observed(self, state: PearceHallState, loss: float, scene: Scene) -> tuple[PearceHallState, Answer | None]:
        surprise, count = abs(loss - scene.signals.level), state.count + 1
        fast, slow = max(self.gamma, 1 / count), max(self.gamma / 10, 1 / count)
        alpha = state.associability + fast * (surprise - state.associability)
        usual = state.usual + slow * (alpha - state.usual)
        factor = state.factor
        if count % self.every == 0 and usual > 0 and math.isfinite(alpha / usual):
            factor = min(self.most, max(self.least, (alpha / usual) ** self.kappa))
        return PearceHallState(alpha, usual, count, factor), None
