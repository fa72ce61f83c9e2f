"""The engine protocol: settings in, curves out.

The finder knows engines by this page alone, so that one method serves lanes, the plain loop and a training function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..records import Curve
from ..records import Engine as Ran

__all__ = ["Engine", "Facts", "OneByOne", "Options", "Setting", "Tick", "Told", "Trained", "Unit"]

Options: TypeAlias = tuple[tuple[str, Any], ...]  # (name, value) pairs, ascending by name; values can be hashed


class Tick(Protocol):
    """Progress: called now and then with what is new since the last call; less than nothing takes it back."""

    def __call__(self, steps: int, dropped: int = 0, spared: int = 0, /) -> None:
        """Be told.

        Args:
            steps: training steps done.
            dropped: settings that diverged.
            spared: training steps that these will not take.
        """


class Told:
    """A tick that keeps count, so that all it told can be taken back."""

    def __init__(self, tick: Tick) -> None:
        self._tick, self.all = tick, (0, 0, 0)

    def __call__(self, steps: int, dropped: int = 0, spared: int = 0, /) -> None:
        """Tell, and keep count."""
        self.all = self.all[0] + steps, self.all[1] + dropped, self.all[2] + spared
        self._tick(steps, dropped, spared)

    def up_to(self, steps: int, dropped: int, spared: int) -> None:
        """Tell what is new, of what there is in all."""
        self(steps - self.all[0], dropped - self.all[1], spared - self.all[2])

    def take_back(self) -> None:
        """Tell that it was all for nothing."""
        self.up_to(0, 0, 0)


@dataclass(frozen=True)
class Setting:
    """What one training differs in; ascending by seed, lr and what is written of the options.

    Args:
        seed: where its randomness comes from.
        lr: peak learning rate.
        options: whatever else: options of the optimizer, arguments of the loss and of the data, dropout, schedule.
    """

    seed: int
    lr: float
    options: Options = ()

    def __lt__(self, other: Setting) -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[Any, ...]:
        named = [(k, (0, v) if isinstance(v, int | float) else (1, repr(v))) for k, v in self.options]
        return self.seed, self.lr, named

    def __str__(self) -> str:
        """As it is written in `lanes=[...]`."""
        return "{" + ", ".join(f"{k}: {v}" for k, v in [("lr", f"{self.lr:g}"), *self.written().items()]) + "}"

    def written(self) -> dict[str, Any]:
        """The options as plain data, for records and journals: a schedule as its text."""
        return {name: _written(value) for name, value in self.options}


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
    default_lr: float | None = None  # what the optimizer takes without being told


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


class OneByOne(ABC):
    """For engines that train one unit after the other and hold nothing."""

    @abstractmethod
    def train(self, unit: Unit, steps: int, rung: int, tick: Tick) -> Trained:
        """Train the settings of one unit."""

    def train_each(self, units: Sequence[Unit], steps: int, rung: int, tick: Tick) -> Iterator[tuple[int, Trained]]:
        """Train the units in order."""
        for i, unit in enumerate(units):
            yield i, self.train(unit, steps, rung, tick)

    def close(self) -> None:  # noqa: B027  # most hold nothing, and need not say so
        """Nothing to let go of."""


def _written(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_written(v) for v in value]
    return value if isinstance(value, bool | int | float | str) else repr(value)
