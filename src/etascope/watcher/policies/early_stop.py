"""`early_stop`: stop when the validation loss has not improved for a while."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ... import numbers as n
from .base import Answer, Policy, Scene, must_be

__all__ = ["EarlyStopState", "early_stop"]


@dataclass(frozen=True)
class EarlyStopState:
    """The best validation loss (None: none yet), the step it was at, and validations since."""

    best: float | None = None
    step: int = 0
    bad: int = 0
    stopped: bool = False


@dataclass(frozen=True, repr=False)
class early_stop(Policy[EarlyStopState]):
    """Stop after more than `patience` validations v in a row without v < best − threshold · |best|.

    A validation loss that is not finite is no improvement. The weights stay as they are at the stop.

    Args:
        patience: validations without improvement that are borne; default 5.
        threshold: the least improvement that counts, as a fraction of the best; default 0.

    Source: Prechelt, "Early stopping — but when?" (1998), the criterion UP_s on single validations.
    """

    patience: int = 5
    threshold: float = 0.0

    State = EarlyStopState

    def __post_init__(self) -> None:
        """Check the fields."""
        must_be(self, "patience", 0, math.inf, whole=True)
        must_be(self, "threshold", 0, math.inf)

    def init(self) -> EarlyStopState:
        return EarlyStopState()

    def on_lr(self, state: EarlyStopState) -> float:
        return 1.0

    def validated(self, state: EarlyStopState, loss: float, scene: Scene) -> tuple[EarlyStopState, Answer | None]:
        best = state.best
        if math.isfinite(loss) and (best is None or loss < best - self.threshold * abs(best)):
            return EarlyStopState(loss, scene.step), None
        bad = state.bad + 1
        if bad <= self.patience or state.stopped:
            return replace(state, bad=bad), None
        lowest = "there was none" if best is None else f"the lowest, {n.loss(best)}, was at step {state.step:,}"
        said = f"{n.plural(bad, 'validation')} in a row without improvement ({lowest}): stopped"
        return replace(state, bad=bad, stopped=True), Answer("stop", said, numbers={"bad": bad, "validation": loss})
