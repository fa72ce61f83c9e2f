"""What a policy is: a frozen value that answers alarms, metrics and probes with factors on the lr, and actions."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal, TypeVar

from ..._json import decode_fields
from ...errors import OptionError
from ...records.run import Action, exact
from ..run import Probe
from ..signals import Signals

__all__ = ["Alarm", "Answer", "Policy", "Scene", "must_be"]

S = TypeVar("S")


@dataclass(frozen=True)
class Alarm:
    """What a check raises.

    Attributes:
        code: the check's.
        said: what it saw, in words.
        numbers: the numbers of it, by name.
        loss: the loss of the observation.
        of: what is out of line: one "update" to come, the "weights" that earlier ones led astray, the "lr", or what
            somebody else wrote in the place of the "schedule".
    """

    code: str
    said: str
    numbers: dict[str, float] = field(default_factory=dict, hash=False)
    loss: float = 0.0
    of: Literal["update", "weights", "lr", "schedule"] = "update"


@dataclass(frozen=True)
class Answer:
    """What a policy would do.

    Attributes:
        action: as in `Decision`.
        said: the same in words.
        back: for a rewind: how many good snapshots before the newest one.
        anew: what is out of line is from now on how the loss is.
        numbers: numbers of it, by name.
    """

    action: Action
    said: str
    back: int = 0
    anew: bool = False
    numbers: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Scene:
    """What a policy may look at.

    Attributes:
        signals: the running figures; not to be changed.
        step: updates made.
        good: steps of the good snapshots, ascending.
        lr: the lr of the update to come, as the optimizer has it.
        late: whether that update was made already, since decisions come late.
        product: of the factors of all policies, as they are on that lr; default 1.
        bounds: of that product.
    """

    signals: Signals
    step: int
    good: tuple[int, ...]
    lr: float
    late: bool = False
    product: float = 1.0
    bounds: tuple[float, float] = (0.0, math.inf)

    def lr_at(self, factor: float, now: float) -> float:
        """The lr that a policy's factor makes, where it is `now` on the present one."""
        low, high = self.bounds
        free = self.lr / min(high, max(low, self.product))
        return free * min(high, max(low, self.product / now * factor))


class Policy(ABC, Generic[S]):
    """A way to act on a run. A new one is a frozen dataclass (`repr=False`) with a `State`, a frozen one of plain data.

    Each has a factor on the lr, and those of all policies multiply. Every method is pure: it takes the state and
    returns the next one. What it does not care about it leaves as it is here.
    """

    State: ClassVar[type[Any]]
    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Policy[Any]]]] = {}

    def __init_subclass__(cls) -> None:
        """Enter the class under its name, for `from_json`."""
        cls.kind = cls.__name__
        Policy._kinds[cls.kind] = cls

    @abstractmethod
    def init(self) -> S:
        """The state before the first observation."""

    @abstractmethod
    def on_lr(self, state: S) -> float:
        """The factor on the lr."""

    def alarmed(self, state: S, alarm: Alarm, scene: Scene) -> tuple[S, Answer | None]:
        """An alarm that no policy before this one answered."""
        return state, None

    def attends(self, state: S) -> bool:
        """Whether it wants to be shown the observations that raise no alarm."""
        return False

    def observed(self, state: S, loss: float, scene: Scene) -> tuple[S, Answer | None]:
        """An observation that raised no alarm, if it attends."""
        return state, None

    def validated(self, state: S, loss: float, scene: Scene) -> tuple[S, Answer | None]:
        """A validation loss."""
        return state, None

    def probed(self, state: S, probe: Probe, scene: Scene) -> tuple[S, Answer | None]:
        """A probe."""
        return state, None

    def to_json(self) -> dict[str, Any]:
        """Plain data, which `Policy.from_json` reads."""
        return {"kind": self.kind} | {f.name: exact(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Policy[Any]:
        """The policy that `to_json` wrote.

        Raises:
            OptionError: an unknown kind or field, or a bad value.
        """
        kind = data.get("kind") if isinstance(data, Mapping) else data
        if not isinstance(kind, str) or kind not in Policy._kinds:
            raise OptionError(f"{kind!r} is no kind of policy.", f"Known kinds: {', '.join(sorted(Policy._kinds))}.")
        given = {key: value for key, value in data.items() if key != "kind"}
        known = [f.name for f in fields(Policy._kinds[kind])]  # type: ignore[arg-type]  # they are dataclasses
        if unknown := sorted(given.keys() - set(known)):
            raise OptionError(f"{kind} has no option {', '.join(unknown)}.", f"Its options are {', '.join(known)}.")
        return Policy._kinds[kind](**given)

    def state_to_json(self, state: S) -> dict[str, Any]:
        """A state as plain data, floats to the bit."""
        return {f.name: exact(getattr(state, f.name)) for f in fields(state)}  # type: ignore[arg-type]

    def state_from_json(self, data: Mapping[str, Any]) -> S:
        """The inverse of `state_to_json`."""
        state: S = decode_fields(self.State, data, self.kind)
        return state

    def __repr__(self) -> str:
        """The constructor's call, defaults left out."""
        shown = [(f.name, getattr(self, f.name), f.default) for f in fields(self)]  # type: ignore[arg-type]
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value, default in shown if value != default)})"


def must_be(
    policy: Policy[Any], name: str, least: float, most: float, strictly: bool = False, whole: bool = False
) -> None:
    """Hold an option to its limits.

    Raises:
        OptionError: it is no finite number, or outside; or no whole one where it counts something.
    """
    value = getattr(policy, name)
    number = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (number and (least < value < most if strictly else least <= value <= most)):
        limits = f"between {least:g} and {most:g}" if most < math.inf else f"of at least {least:g}"
        kind = "whole" if whole else "finite"
        raise OptionError(f"{policy.kind}({name}=...) is {value!r}.", f"Give a {kind} number {limits}.")
