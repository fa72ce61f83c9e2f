"""From features to the probabilities of the four verdicts.

Extremely randomised trees (Geurts, Ernst, Wehenkel 2006), fitted at first use from the shipped `cases` with just those
columns that the log has: a log of losses alone is judged by trees that never saw anything else. The seed is fixed, so
one version of scikit-learn always answers the same. Their shares of votes p are calibrated as p^(1/T) / Σ p^(1/T), with
the temperature T of logs with these columns, as trees that were fitted without a task found it for the runs of it.

C cases, F features, V verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..records.diagnosis import VERDICTS
from .cases import Cases, cases, temperatures
from .features import GROUPS, group, names
from .log import FloatArray

__all__ = [
    "FEW",
    "Trees",
    "best_temperature",
    "columns_of",
    "faults",
    "key",
    "kind_of",
    "predict",
    "probabilities",
    "tempered",
]

TREES, LEAF, SHARE, SEED = 200, 2, 0.3, 0
ABSENT = -15.0  # what a tree sees in the place of NaN: below all that a feature can be
LEAST = 0.005  # no verdict is less probable than that: some hundred tasks cannot tell more
SEEN_BY_FEW = ("loss", "val", "lr", "rule")
FEW = 100  # a log with fewer losses is judged by the thinned cases


class Trees:
    """Trees that were fitted with some columns.

    Args:
        known: the cases.
        groups: the columns to go by.
    """

    def __init__(self, known: Cases, groups: Sequence[str]) -> None:
        from sklearn.ensemble import ExtraTreesClassifier

        self.columns = [i for i, name in enumerate(names()) if group(name) in groups]
        self.forest = ExtraTreesClassifier(
            TREES, min_samples_leaf=LEAF, max_features=SHARE, class_weight="balanced", random_state=SEED
        ).fit(_filled(known.features_CF[:, self.columns]), known.verdicts_C)

    def votes(self, features_CF: FloatArray) -> FloatArray:
        """Shares of votes, shape (C, V)."""
        votes_CV = np.zeros((len(features_CF), len(VERDICTS)))
        votes_CV[:, self.forest.classes_] = self.forest.predict_proba(_filled(features_CF[:, self.columns]))
        return votes_CV


def _filled(features_CF: FloatArray) -> NDArray[np.float32]:
    return np.where(np.isnan(features_CF), ABSENT, features_CF).astype(np.float32)


def tempered(votes_CV: FloatArray, temperature: float) -> FloatArray:
    """Votes as probabilities."""
    raised = np.maximum(votes_CV, 1e-3) ** (1.0 / temperature)
    p_CV = np.maximum(raised / raised.sum(1, keepdims=True), LEAST)
    normal_CV: FloatArray = p_CV / p_CV.sum(1, keepdims=True)
    return normal_CV


def best_temperature(votes_CV: FloatArray, verdicts_C: NDArray[np.int64]) -> float:
    """The temperature of the highest likelihood, of votes for cases that the trees did not see."""
    grid = np.exp(np.linspace(np.log(0.3), np.log(2.0), 60))
    rows = np.arange(len(verdicts_C))
    losses = [-np.log(tempered(votes_CV, t)[rows, verdicts_C]).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def columns_of(features: Mapping[str, float]) -> tuple[str, ...]:
    """Which groups of columns a log has: those with any feature that is a number."""
    return tuple(g for g in GROUPS if any(group(n) == g and v == v for n, v in features.items()))


def key(points: str, groups: Sequence[str]) -> str:
    """How `temperatures` calls a kind of log."""
    return f"{points}: {' '.join(groups)}"


def predict(features: Mapping[str, float], losses: int) -> dict[str, float]:
    """The probability of each verdict.

    Args:
        features: of one run.
        losses: training losses in its log.
    """
    (p_V,) = probabilities(np.array([[features[name] for name in names()]]), *kind_of(features, losses))
    return {verdict: float(p) for verdict, p in zip(VERDICTS, p_V, strict=True)}


def kind_of(features: Mapping[str, float], losses: int) -> tuple[str, tuple[str, ...]]:
    """Which cases, and which of their columns, a log is judged by: "every" step or "few" points, and groups."""
    points = "few" if losses < FEW else "every"
    groups = columns_of(features)
    return points, groups if points == "every" else tuple(g for g in groups if g in SEEN_BY_FEW)


def probabilities(features_CF: FloatArray, points: str, groups: tuple[str, ...]) -> FloatArray:
    """The probabilities of the verdicts, shape (C, V), for logs of one kind."""
    return tempered(_trees(points, groups).votes(features_CF), _temperature(points, groups))


@cache
def _trees(points: str, groups: tuple[str, ...]) -> Trees:
    return Trees(cases().of(points), groups)


def _temperature(points: str, groups: Sequence[str]) -> float:
    """That of these columns, or of the kind of log that is most like it."""
    known = temperatures()
    if (exact := known.get(key(points, groups))) is not None:
        return exact

    def unlike(said: str) -> tuple[bool, int]:
        kind, _, columns = said.partition(": ")
        return kind != points, len(set(columns.split()) ^ set(groups))

    return known[min(known, key=unlike)]


def faults(features: Mapping[str, float], losses: int) -> dict[str, float]:
    """How like each kind of fault a run is, as trees see it that know faults alone; a hint, and not calibrated.

    Args:
        features: of one run.
        losses: training losses in its log.
    """
    return _kinds(*kind_of(features, losses)).votes_of(features)


class _Kinds:
    """Trees that tell faults apart."""

    def __init__(self, known: Cases, groups: Sequence[str]) -> None:
        from sklearn.ensemble import ExtraTreesClassifier

        self.columns = [i for i, name in enumerate(names()) if group(name) in groups]
        rows = [i for i, kind in enumerate(known.kinds) if kind]
        self.forest = ExtraTreesClassifier(
            TREES // 3, min_samples_leaf=LEAF, max_features=SHARE, class_weight="balanced", random_state=SEED
        ).fit(_filled(known.features_CF[np.ix_(rows, self.columns)]), [known.kinds[i] for i in rows])

    def votes_of(self, features: Mapping[str, float]) -> dict[str, float]:
        row = np.array([[features[names()[i]] for i in self.columns]])
        votes = self.forest.predict_proba(_filled(row))[0]
        return {str(kind): float(share) for kind, share in zip(self.forest.classes_, votes, strict=True)}


@cache
def _kinds(points: str, groups: tuple[str, ...]) -> _Kinds:
    return _Kinds(cases().of(points), groups)
