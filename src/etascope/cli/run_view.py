"""A watched run as text: header, course of loss and lr, and what was said of it. Reads lines as they come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .. import numbers as n
from ..errors import ScheduleError
from ..records.run import Decision, Note
from ..schedules import Schedule

__all__ = ["RunView", "sparkline"]

BLOCKS = "▁▂▃▄▅▆▇█"
LAST = 8  # observations that the shown loss is a mean of, as the checks' fast mean


class RunView:
    """What is shown of a run; `take` it line by line."""

    def __init__(self) -> None:
        self.header: dict[str, Any] = {}
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.steps = 0
        self.validations: list[tuple[int, float]] = []
        self.said: list[Note | Decision] = []
        self.factors: dict[str, float] = {}
        self.ended: str | None = None
        self.schedule: Any = None

    def take(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in lines of the log."""
        for line in lines:
            kind = line["kind"]
            if kind == "steps":
                self.losses += map(float, line["loss"])
                self.lrs += map(float, line["lr"])
                self.steps = line["step"] + len(line["loss"])
            elif kind == "header":
                self.header, self.schedule = dict(line), line.get("schedule")
            elif kind == "val":
                self.validations.append((line["step"], float(line["loss"])))
            elif kind == "note":
                self.said.append(Note.from_json(line))
            elif kind == "decision":
                self.said.append(Decision.from_json(line))
            elif kind == "factors":
                self.factors = {name: float(own) for name, own in line["factors"].items()}
            elif kind == "schedule":
                self.schedule = line["schedule"]
            self.ended = str(line["why"]) if kind == "end" else None
            if "step" in line and kind in ("end", "resumed"):
                self.steps = int(line["step"])

    @property
    def horizon(self) -> int | None:
        """Updates of the whole run."""
        if isinstance(self.schedule, Mapping) and isinstance(self.schedule.get("horizon"), int):
            return int(self.schedule["horizon"])
        return self.header.get("horizon")

    def text(self, width: int = 80, rows: int = 12, rate: float | None = None) -> str:
        """All of it, at most `rows` notes and decisions, the last ones.

        Args:
            width: characters a line.
            rows: notes and decisions.
            rate: updates a second, where known.
        """
        parts = [self._title(), self._where(rate)]
        if self.losses:
            parts += ["", *self._course(width)]
        if self.said:
            parts.append("")
            if len(self.said) > rows:
                parts.append(f"  … {len(self.said) - rows:,} before these")
            parts += [line for own in self.said[-rows:] for line in self._sentence(own)]
        elif self.losses:
            parts += ["", "Nothing odd was seen."]
        return "\n".join(parts)

    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "optimizer": self.header.get("optimizer"),
            "schedule": self.schedule,
            "horizon": self.horizon,
            "act": self.header.get("act"),
            "policies": self.header.get("policies"),
            "step": self.steps,
            "observations": len(self.losses),
            "loss": _plain(self.losses[-1]) if self.losses else None,
            "lr": self.lrs[-1] if self.lrs else None,
            "factors": self.factors,
            "validations": [[step, _plain(loss)] for step, loss in self.validations],
            "ended": self.ended,
            "notes": [own.to_json() for own in self.said if isinstance(own, Note)],
            "decisions": [own.to_json() for own in self.said if isinstance(own, Decision)],
        }

    def _title(self) -> str:
        parts = [str(self.header.get("optimizer", "?"))]
        if self.schedule is not None:
            try:
                said = repr(Schedule.from_json(self.schedule)).partition(".bind(")[0]
                parts.append(said[1:-1] if said.startswith("(") and said.endswith(")") else said)
            except (ScheduleError, KeyError, TypeError, ValueError, AttributeError):
                parts.append("a schedule of the user's own")
        if self.header.get("peak") is not None:
            parts.append(f"peak lr {n.lr(float(self.header['peak']), 3)}")
        parts.append("acting: " + ", ".join(self.header.get("policies", ())) if self.header.get("act") else "looking")
        return " · ".join(parts)

    def _where(self, rate: float | None) -> str:
        horizon, at = self.horizon, f"step {self.steps:,}"
        if horizon:
            at += f" of {horizon:,} ({min(1.0, self.steps / horizon):.0%})"
        parts = [at]
        if self.losses:
            last = [loss for loss in self.losses[-LAST:] if math.isfinite(loss)]
            parts.append(f"loss {n.loss(sum(last) / len(last)) if last else self.losses[-1]}")
            parts.append(f"lr {n.lr(self.lrs[-1], 3)}")
        parts += [f"{name} {own:.3g}" for name, own in self.factors.items() if own != 1.0]
        if self.validations:
            best = min((own for _, own in self.validations if math.isfinite(own)), default=math.nan)
            parts.append(f"validation {n.loss(self.validations[-1][1])}, best {n.loss(best)}")
        if self.ended is not None:
            parts.append({"over": "the run is over", "stopped": "stopped"}.get(self.ended, f"ended by {self.ended}"))
        elif rate and horizon and self.steps < horizon:
            parts.append(f"{n.duration((horizon - self.steps) / rate)} to go")
        return " · ".join(parts)

    def _course(self, width: int) -> list[str]:
        out = []
        for name, values in (("loss", self.losses), ("lr", self.lrs)):
            finite = [v for v in values if math.isfinite(v)]
            if not finite:
                continue
            number = n.loss if name == "loss" else n.lr
            drawn, low = values, min(finite)
            if name == "loss" and low > 0 and max(finite) > 20 * low:
                drawn, name = [math.log(v) if v > 0 else math.nan for v in values], "log loss"
            line = sparkline(drawn, max(10, min(64, width - 36)))
            out.append(f"{name:>8} {number(finite[0]):>8} {line} {number(finite[-1])}")
        return out

    def _sentence(self, own: Note | Decision) -> list[str]:
        mark = "·" if isinstance(own, Note) else "▲"
        return [f"{mark} {own}", *([f"  → {own.move}"] if isinstance(own, Note) and own.move else [])]


def sparkline(values: Sequence[float], width: int) -> str:
    """Values in one row, means of equal stretches; × where one holds no number.

    >>> sparkline([3.0, 2.0, 1.0, float("nan")], 4)
    '█▄▁×'
    """
    count = min(width, len(values))
    ends = [round(i * len(values) / count) for i in range(count + 1)]
    means = []
    for start, end in pairwise(ends):
        finite = [v for v in values[start:end] if math.isfinite(v)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    known = sorted(v for v in means if v == v)
    if not known:
        return "×" * count
    low, high = known[0], known[min(len(known) - 1, math.ceil(0.98 * (len(known) - 1)))]
    return "".join(
        "×" if v != v else BLOCKS[min(7, int((v - low) / (high - low) * 7.999)) if high > low else 0] for v in means
    )


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
