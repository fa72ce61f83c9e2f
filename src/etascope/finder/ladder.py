"""From a budget to rungs: how many settings run for how long, so that the whole never exceeds the budget."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import OptionError

__all__ = ["Ladder", "Stage", "climb", "climb_on", "seconds_of"]

SCOUT_SHARE = 0.14
SCOUT_LANES = 12
# Of what scouting leaves, (share, settings) of each rung to come, growing rather more than twofold. The first that also
# grows twofold from the scouting is taken. A rung that reaches the horizon has more settings instead.
CLIMBS = (((0.17, 5), (0.31, 4), (0.52, 3)), ((0.38, 4), (0.62, 3)), ((1.0, 4),))
MOST = 40  # settings of a rung


@dataclass(frozen=True)
class Stage:
    """One rung to come: how many settings, for how many steps."""

    settings: int
    steps: int

    @property
    def cost(self) -> int:
        """Training steps."""
        return self.settings * self.steps


@dataclass(frozen=True)
class Ladder:
    """The rungs of a race; `scout` looks over the whole range, the others close in."""

    scout: Stage
    rungs: tuple[Stage, ...]

    @property
    def cost(self) -> int:
        """Training steps in all."""
        return self.scout.cost + sum(r.cost for r in self.rungs)


def climb(total: int, horizon: int) -> Ladder:
    """The ladder for `total` training steps of a task of this horizon.

    A short scouting over the whole range, then rungs of fewer settings and more steps, up to the horizon itself.

    Raises:
        OptionError: the budget is less than the five steps that five settings of one step take.
    """
    if total < 5:
        raise OptionError(
            f"the budget buys {total} training steps, and the smallest look takes 5 (five settings, one step each).",
            "Give a larger budget, or a longer horizon.",
        )
    lanes = SCOUT_LANES if total >= 4 * SCOUT_LANES else max(5, total // 4)
    least = 2 if total >= 2 * lanes else 1  # a training loss is taken before its step: one step shows nothing of it
    steps = int(min(max(SCOUT_SHARE * total / lanes, min(6.0, 0.4 * total / lanes), least), horizon))
    scout = Stage(lanes, steps)
    return Ladder(scout, climb_on(total - scout.cost, steps, horizon))


def climb_on(total: int, steps: int, horizon: int) -> tuple[Stage, ...]:
    """The rungs after a scouting of `steps` steps, for `total` training steps more."""
    grow = min(2 * steps, horizon)
    shares = next((c for c in CLIMBS if c[0][0] * total >= c[0][1] * grow), CLIMBS[-1])
    rungs: list[Stage] = []
    left_over = 0.0
    for share, settings in shares:
        have = share * total + left_over
        rung_steps = int(min(have / settings, horizon))
        if rung_steps < 1:
            break
        n = int(min(have // rung_steps, MOST))
        rungs.append(Stage(n, rung_steps))
        left_over = have - n * rung_steps
    return tuple(rungs)


def seconds_of(budget: str) -> float:
    """Seconds of a budget such as "10min", "90s", "1h", "1h30min".

    Raises:
        OptionError: it is neither a number of runs nor a time.

    >>> seconds_of("10min"), seconds_of("1h30min"), seconds_of("45 s")
    (600.0, 5400.0, 45.0)
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(h|min|m|s)\s*", budget)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != re.sub(r"\s", "", budget):
        raise OptionError(
            f"budget {budget!r} is neither a number of complete runs nor a time.",
            'Give 1.0, 0.25, "10min", "90s", "1h".',
        )
    return math.fsum(float(n) * {"h": 3600, "min": 60, "m": 60, "s": 1}[u] for n, u in parts)
