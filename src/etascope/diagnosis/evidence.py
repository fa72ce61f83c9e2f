"""Sentences with numbers: what of a run speaks for a verdict, held against the runs of the shipped cases that are fine.

A reading is strong as far as it lies outside of what nine in ten of the fine cases show, in widths of that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .. import numbers as n
from ..records.diagnosis import VERDICTS, DiagnosisVerdict
from .cases import Cases, cases
from .features import names
from .log import FloatArray, RunLog

__all__ = ["next_move", "sentences"]

LOW, HIGH, WRONG = "too low", "too high", "not the learning rate"
MOST = 5
ALIKE = 0.15  # momentum within which cases are held against a run
ENOUGH = 12

Show = Callable[[float], str]


def _share(value: float) -> str:
    if value >= 11.99:
        return "more than 12 times"
    return f"{value:.2g} times" if value > 2 else n.percent(max(value, 0.0))


def _power(value: float) -> str:
    return n.lr(10.0**value)


def _agreement(value: float) -> str:
    return n.percent((1 + value) / 2)


def _part(value: float) -> str:
    return "nothing" if value <= -9 else n.percent(10.0**value)


def _times(value: float) -> str:
    return f"{n.lr(10.0**value)} times" + (" or more" if value >= 12 else "")


@dataclass(frozen=True)
class Reading:
    """One thing that can be read off a run.

    Args:
        feature: its name.
        show: the feature in words.
        below: what a value below those of fine runs speaks for.
        above: what a value above them speaks for.
        text: the sentence, with {value}; {low} and {high} are those of fine runs.
        least: how far outside, in the feature's own unit, is worth a sentence.
    """

    feature: str
    show: Show
    below: tuple[str, ...]
    above: tuple[str, ...]
    text: str
    least: float = 0.0

    @property
    def topic(self) -> str:
        """What is alike for readings that tell the same of training and validation."""
        return {"val.drop": "drop", "loss.drop": "drop", "loss.fallen_0.1": "drop", "val.end_above_best": "end",
                "loss.end_above_floor": "end", "loss.worst": "rise", "loss.above_start": "rise"}.get(
            self.feature, self.feature)  # fmt: skip


READINGS = (
    Reading("step.sign_mid", _agreement, (HIGH,), (LOW, WRONG),
            "successive updates point the same way in {value} of the weights ({low} to {high} where the lr is fine)"),
    Reading("step.ratio_mid", _power, (LOW, WRONG), (HIGH,),
            "a step changes a layer's weights by {value} of their size ({low} to {high} where the lr is fine)"),
    Reading("step.dead", _share, (), (WRONG,), "{value} of the layers are never updated", 0.01),
    Reading("step.own_mid", _power, (WRONG,), (),
            "an update is {value} of lr x gradient ({low} to {high} where all is well), as when gradients are clipped"),
    Reading("step.gain_0_1", _part, (HIGH, WRONG), (LOW,),
            "the loss fell by {value} of what the gradients promised ({low} to {high} where the lr is fine)"),
    Reading("grad.same", _share, (), (WRONG,), "the gradient's norm is the very same in {value} of the steps", 0.2),
    Reading("grad.growth", _times, (), (HIGH, WRONG),
            "the gradient's norm ends at {value} what it was at the start ({low} to {high} where the lr is fine)"),
    Reading("loss.drop", _share, (LOW, HIGH, WRONG), (),
            "the loss fell by {value} of where it started ({low} to {high} where the lr is fine)"),
    Reading("loss.late_slope", _share, (), (LOW,),
            "it was still falling at the end: the last third of the run took off {value} of the whole drop (at most "
            "{high} where the lr is fine)"),
    Reading("loss.fallen_0.1", _share, (LOW, HIGH), (),
            "after a tenth of the run {value} of the drop was made ({low} to {high} where the lr is fine)"),
    Reading("loss.worst", _times, (), (HIGH, WRONG), "the loss rose to {value} what it was at the start", 0.05),
    Reading("loss.above_start", _share, (), (HIGH, WRONG), "the loss lay above its start for {value} of the run", 0.02),
    Reading("loss.end_above_floor", _share, (), (HIGH, WRONG),
            "it ended above its lowest by {value} of the drop (at most {high} where the lr is fine)"),
    Reading("noise.end", _power, (LOW,), (HIGH, WRONG),
            "at the end, losses jump by {value} of the whole drop from step to step ({low} to {high} where the lr is "
            "fine)"),
    Reading("noise.outliers", _share, (), (WRONG,), "{value} of the losses stand far out of their neighbours", 0.02),
    Reading("lr.fallen_in_decay", _share, (), (HIGH,),
            "{value} of the drop came only while the lr decayed (at most {high} where the lr is fine)"),
    Reading("val.gap", _share, (), (WRONG,),
            "the validation loss ends {value} of the drop above the training loss (at most {high} where it is fine)"),
    Reading("val.drop", _share, (LOW, HIGH, WRONG), (),
            "the validation loss fell by {value} ({low} to {high} where the lr is fine)"),
    Reading("val.end_above_best", _share, (), (HIGH, WRONG),
            "the validation loss ended above its best by {value} of its drop (at most {high} where the lr is fine)"),
    Reading("rule.usual", _times, (LOW,), (HIGH,),
            "the peak lr is {value} what is usual for such an optimizer ({low} to {high} where it was fine)"),
)  # fmt: skip


def sentences(log: RunLog, features: Mapping[str, float], verdict: DiagnosisVerdict) -> tuple[str, ...]:
    """What speaks for a verdict, the strongest first, at most five sentences.

    Args:
        log: the run's.
        features: its.
        verdict: the model's.
    """
    found = [] if verdict == "fine" else [*_broken_off(log, verdict)]
    fine = _fine(features)
    for reading in READINGS:
        value = features[reading.feature]
        others = fine[:, names().index(reading.feature)]
        others = others[~np.isnan(others)]
        if math.isnan(value) or len(others) < ENOUGH:
            continue
        low, high = (float(v) for v in np.quantile(others, [0.05, 0.95]))
        beside = max(low - value, value - high)
        speaks_for = (reading.below if value < low else reading.above) if beside > 0 else ()
        strength = beside / max(high - low, 0.05)
        said = reading.text.format(
            value=reading.show(value), low=reading.show(low), high=reading.show(high)
        )  # fmt: skip
        if verdict in speaks_for and beside > reading.least:
            found.append((strength, reading.topic, said))
        elif verdict == "fine" and beside <= 0 and reading.below and reading.above:
            found.append((-beside / max(high - low, 0.05), reading.topic, said))
    strongest: dict[str, str] = {}  # of two that tell the same, one
    for _, topic, said in sorted(found, key=lambda one: -one[0]):
        strongest.setdefault(topic, said.replace(" times of ", " times "))
    if not strongest:
        return (f"no single reading stands out; the run as a whole is like those that are {verdict!r}",)
    return tuple(strongest.values())[:MOST]


def _broken_off(log: RunLog, verdict: str) -> list[tuple[float, str, str]]:
    bad = ~np.isfinite(log.loss.values)
    if not bad.any() or verdict == LOW:
        return []
    at = log.loss.steps[int(bad.argmax())]
    return [(1000.0, "nan", f"the loss is NaN or infinite from step {at:,.0f} on")]


def _fine(features: Mapping[str, float]) -> FloatArray:
    """The features of the cases that are fine, under a like momentum where that is known."""
    known: Cases = cases().of("every")
    fine: FloatArray = known.features_CF[known.verdicts_C == VERDICTS.index("fine")]
    own = features["rule.momentum"]
    alike = np.abs(fine[:, names().index("rule.momentum")] - own) <= ALIKE
    chosen: FloatArray = fine[alike] if alike.sum() >= ENOUGH else fine
    return chosen


CHECKS = {
    "shuffled": "whether each example still has its own target",
    "clipped": "the norm at which gradients are clipped",
    "dead": "for layers that give zeros or are frozen",
    "corrupt": "for broken batches",
    "unzeroed": "that gradients are zeroed at each step",
    "sorted": "that the data is shuffled",
    "decay": "the weight decay",
}
MOVES = {
    "too low": "Raise the lr 3 to 10 times, or let eta.find choose it.",
    "too high": "Lower the lr 3 to 10 times, or let eta.find choose it; a longer warmup helps where it breaks early.",
    "fine": "Leave the lr as it is: look for what is to be gained in the data, the model or a longer run.",
}


def next_move(verdict: DiagnosisVerdict, faults: Mapping[str, float]) -> str:
    """What to do now.

    Args:
        verdict: the model's.
        faults: how like each kind of fault the run is.
    """
    if verdict != WRONG:
        return MOVES[verdict]
    order = sorted(faults, key=lambda kind: -faults[kind])
    checks = [CHECKS[kind] for kind in order if kind in CHECKS][:3]
    return f"Leave the lr, and check {'; then '.join(checks)}." if checks else "Leave the lr, and check data and loss."
