"""What a watched run leaves behind: observations in blocks, notes, decisions, and the factors on its lr.

The log of a run is JSONL, one object a line, each with its `kind`:

    header      first: {"schema": "etascope.watch/1", "run", "optimizer", "rule", "schedule", "peak", "peaks",
                "horizon", "groups", "layers", "act", "policies", "settings", "controller", "versions"}; "run" is a
                name of its own for each run, "peak" the first param group's peak lr and "peaks" those of all (None
                without a handle), "groups" how many there are, "controller" what a replay begins with
    steps       a block of observations: {"seen": s, "step": n, "loss": [...], "lr": [...]}; the i-th of them is
                observation s + i, of the update that would be number n + i (counted from 0); "lrs", for each the
                lrs of the further param groups, where these are not all equal to "lr"; "grad": [[i, norm], ...] where
                the gradient's norm was taken
    val         {"seen", "step", "loss"}: a validation loss
    probe       {"seen", "step", "layers": {name: {"update_ratio", "effective_lr", "sign"}}, "noise_scale",
                "alignment", "sharpness", "bound"}: what is sampled now and then; a key is left out where it does not
                apply
    factors     {"seen", "step", "scale", "own", "factors": {name: factor}}: from that observation on, lr =
                (peak · scale) · schedule; the scale is `own`, the user's part, times their product within its bounds
    changed     {"seen", "step", "found", "written"}: somebody else wrote the lr
    schedule    {"seen", "step", "schedule", "horizon"}: the run was extended
    lost        {"seen", "step", "steps"}: snapshots that are not there any more
    complaint   {"seen", "step", "said"}: what the watch could take no note of
    note        a `Note`
    decision    a `Decision`
    resumed     {"seen", "step"}: what was logged later was cut off
    end         {"seen", "step", "why"}

Floats are written as Python's shortest text that reads back to the bit; those that JSON has no number for are the texts
"nan", "inf" and "-inf".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from .._json import decode_fields

__all__ = ["SCHEMA", "Action", "Decision", "Note", "exact"]

SCHEMA = "etascope.watch/1"
Action = Literal["none", "skip", "rewind", "scale", "restore", "stop"]


def exact(value: Any) -> Any:
    """Plain data with every float kept to the bit; `float(...)` reads the texts back.

    >>> exact({"loss": [0.1, float("nan")], "by": (1, -float("inf"))})
    {'loss': [0.1, 'nan'], 'by': [1, '-inf']}
    """
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)
    if isinstance(value, Mapping):
        return {str(key): exact(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [exact(own) for own in value]
    return value


def _numbers(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, not an object")
    try:
        return {str(name): float(number) for name, number in value.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{where} holds {value!r}, and not numbers alone") from None


Numbers = Annotated[dict[str, float], _numbers]


class _Said:
    """Common to what is said of a run."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, floats to the bit."""
        return {f.name: exact(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Any:
        """The inverse of `to_json`; `where` is what errors call it."""
        return decode_fields(cls, data, where)


@dataclass(frozen=True)
class Note(_Said):
    """What a check has to say of a run, at most once a phase; nothing is done about it.

    Attributes:
        seen: the observation it was made at, counted from 0.
        step: updates made before.
        code: the check's, as "ETA004".
        said: what it saw, in a sentence with its numbers.
        move: what to do next.
        numbers: the numbers of the sentence, by name.
    """

    seen: int
    step: int
    code: str
    said: str
    move: str = ""
    numbers: Numbers = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.said}; {self.code}"


@dataclass(frozen=True)
class Decision(_Said):
    """What is to be done about an alarm, or by a policy: taken where the watch acts, else proposed.

    Attributes:
        seen: the observation it was made at, counted from 0.
        step: updates made before.
        code: the check that raised the alarm; empty where a policy acts by itself.
        policy: the policy that answered; empty where none did.
        action: "none", "skip" (this update is not made), "rewind" (to `to_step`, and this update is not made), "scale"
            (the factor on the lr changes), "restore" (the schedule's lr is written again) or "stop".
        taken: whether it was carried out.
        said: a sentence with its numbers.
        numbers: the numbers of the sentence, by name.
        to_step: where a rewind leads to; None for others.
        factor: the product of all factors on the lr from here on, as decided.
    """

    seen: int
    step: int
    code: str
    policy: str
    action: Action
    taken: bool
    said: str
    numbers: Numbers = field(default_factory=dict, hash=False)
    to_step: int | None = None
    factor: float = 1.0

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.said}" + (f"; {self.code}" if self.code else "")
