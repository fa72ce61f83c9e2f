"""`metric`: a metric-driven factor of schedules, as `plateau` or `greedy`, on the validation losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..._json import encode
from ...errors import OptionError
from ...records.run import exact
from ...schedules.factors import Factor
from .base import Answer, Policy, Scene

__all__ = ["MetricState", "metric"]


@dataclass(frozen=True)
class MetricState:
    """The factor's own state, and the product of what it said."""

    inner: Any
    factor: float = 1.0


@dataclass(frozen=True, repr=False)
class metric(Policy[MetricState]):
    """Show validation losses to a `Factor`; what it says multiplies the lr. `eta.watch` wraps such by itself.

    Args:
        of: a `Factor`, as `eta.plateau(patience=5)`.
    """

    of: Factor[Any]

    State = MetricState

    def __post_init__(self) -> None:
        """Take a factor, or its JSON."""
        if isinstance(self.of, Mapping):
            object.__setattr__(self, "of", Factor.from_json(self.of))
        if not isinstance(self.of, Factor):
            raise OptionError(f"metric(of=...) is {self.of!r}.", "Give a factor, as eta.plateau(patience=5).")

    def init(self) -> MetricState:
        return MetricState(self.of.init())

    def on_lr(self, state: MetricState) -> float:
        return state.factor

    def validated(self, state: MetricState, loss: float, scene: Scene) -> tuple[MetricState, Answer | None]:
        inner, by = self.of.observe(state.inner, loss)
        after = MetricState(inner, state.factor * float(by))
        if by == 1.0:
            return after, None
        return after, Answer("scale", f"{self.of!r}: lr × {by:.3g}", numbers={"by": float(by), "validation": loss})

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `Policy.from_json` reads."""
        return {"kind": self.kind, "of": self.of.to_json()}

    def state_to_json(self, state: MetricState) -> dict[str, Any]:
        """A state as plain data, floats to the bit."""
        return {"inner": exact(encode(state.inner)), "factor": state.factor}

    def state_from_json(self, data: Mapping[str, Any]) -> MetricState:
        """The inverse of `state_to_json`."""
        return replace(self.init(), inner=self.of.state_from_json(data["inner"]), factor=float(data["factor"]))

    def __repr__(self) -> str:
        """The factor itself."""
        return repr(self.of)
