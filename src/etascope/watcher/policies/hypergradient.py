"""`hypergradient`: the lr rises while gradients agree with the steps made, and falls where they turn against them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..run import Probe
from .base import Answer, Policy, Scene, must_be

__all__ = ["HypergradientState", "hypergradient"]


@dataclass(frozen=True)
class HypergradientState:
    """The factor on the lr."""

    factor: float = 1.0


@dataclass(frozen=True, repr=False)
class hypergradient(Policy[HypergradientState]):
    """Descend the loss by the lr itself: at each probe, factor ← factor · (1 + β cos(g_{t+1}, −Δθ_t)).

    Δθ_t is the update before the gradient g_{t+1}. After a step that was too short the gradient still points the way
    that the step went, and the cosine is positive; after one that was too long it points back. The cosine is taken on
    drawn coordinates, where the watch probes (every 1% of the run or so), so β is larger than per step.

    Args:
        beta: how far one probe may change the lr, between 0 and 1; default 0.2.
        least, most: bounds of the factor; default 0.1 and 10.

    Source: Baydin et al., "Online learning rate adaptation with hypergradient descent" (arXiv 1703.04782), the
    multiplicative rule, with the inner product normalised.
    """

    beta: float = 0.2
    least: float = 0.1
    most: float = 10.0

    State = HypergradientState

    def __post_init__(self) -> None:
        """Check the fields."""
        must_be(self, "beta", 0, 1, strictly=True)
        must_be(self, "least", 0, 1)
        must_be(self, "most", 1, math.inf)

    def init(self) -> HypergradientState:
        return HypergradientState()

    def on_lr(self, state: HypergradientState) -> float:
        return state.factor

    def probed(self, state: HypergradientState, probe: Probe, scene: Scene) -> tuple[HypergradientState, Answer | None]:
        if probe.alignment is None or not math.isfinite(probe.alignment):
            return state, None
        by = 1.0 + self.beta * min(1.0, max(-1.0, probe.alignment))
        factor = min(self.most, max(self.least, state.factor * by))
        if factor == state.factor:
            return state, None
        said = f"gradients agree with the steps by {probe.alignment:+.2f}: lr × {factor / state.factor:.3g}"
        return HypergradientState(factor), Answer("scale", said, numbers={"alignment": probe.alignment})
