"""The engine protocol: settings in, curves out.

The finder knows engines by this page alone, so that one method serves lanes, the plain loop and a training function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..records import Curve
from ..records import Engine as Ran

__all__ = ["Engine", "Facts", "OneByOne", "Setting", "Tick", "Trained", "Unit"]

Tick = Callable[[int], None]  # called now and then with the number of training steps done since the last call


@dataclass(frozen=True, order=True)
class Setting:
    """What one training differs in.

    Args:
        seed: where its randomness comes from.
        lr: peak learning rate.
    """

    seed: int
    lr: float


@dataclass(frozen=True)
class Trained:
    """What came of one unit of work.

    Args:
        curves: in the settings' order.
        eval_s: seconds spent on evaluation.
        failure: what a training function raised; its setting counts as diverged.
    """

    curves: tuple[Curve, ...]
    eval_s: float
    failure: BaseException | None = None


@dataclass(frozen=True)
class Facts:
    """What an engine says of the task for the record; fields as in `records.Evidence`."""

    init_loss: float | None
    goal: str
    optimizer: str
    groups: int
    schedule: dict[str, object]
    multipliers: tuple[tuple[int, float], ...]
    decays: bool
    judged: str
    validation: str
    paste: str
    notes: tuple[str, ...] = ()


Unit = Sequence[Setting]  # what is trained, and journalled, together


class Engine(Protocol):
    """Something that trains many settings for so many steps and returns their curves."""

    ran: Ran

    def facts(self, seed: int) -> Facts:
        """What the record should say of the task; its loss at init is that of `seed`."""

    def units(self, settings: Sequence[Setting]) -> list[list[Setting]]:
        """The settings, split into those that are trained (and journalled) together; the same at every call."""

    def train(self, unit: Sequence[Setting], steps: int, rung: int, tick: Tick) -> Trained:
        """Train each setting of one unit as a complete run of `steps` steps.

        Args:
            unit: one of `units(...)`.
            steps: optimizer steps of the complete run; the schedule is rescaled to them.
            rung: the rung's number; noise is seeded by (seed, rung).
            tick: progress.
        """

    def train_each(self, units: Sequence[Unit], steps: int, rung: int, tick: Tick) -> Iterator[tuple[int, Trained]]:
        """Train several units; (index, result) of each as it is finished, in any order."""

    def close(self) -> None:
        """Let go of what it holds."""


class OneByOne:
    """For engines that train one unit after the other and hold nothing."""

    def train(self, unit: Unit, steps: int, rung: int, tick: Tick) -> Trained:
        """Train the settings of one unit."""
        raise NotImplementedError

    def train_each(self, units: Sequence[Unit], steps: int, rung: int, tick: Tick) -> Iterator[tuple[int, Trained]]:
        """Train the units in order."""
        for i, unit in enumerate(units):
            yield i, self.train(unit, steps, rung, tick)

    def close(self) -> None:
        """Nothing to let go of."""
