"""From features to the probabilities of the four verdicts.

A case is one of several things: too low, fine, too high, or one of the kinds of fault. Two readers, fitted at first use
from the shipped `cases` with just those columns that the log has, say what a log is; their shares are averaged, the
second's counting twice, and those of all faults added up:

- extremely randomised trees (Geurts, Ernst, Wehenkel 2006), which find the few readings that settle a case;
- kernel ridge regression with a Laplace kernel over the features' ranks among the cases: what those are that are alike
  as a whole.

The seed is fixed, so one version of scikit-learn always answers the same. Shares p are calibrated as p^(1/T) / Σ
p^(1/T), with the temperature T of logs with these columns, as a model fitted without a task found it for its runs.

C cases, F features, K things that a case may be, V verdicts.
"""

from __future__ import annotations

from collections import Counter
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
    "Judge",
    "best_temperature",
    "columns_of",
    "faults",
    "key",
    "kind_of",
    "predict",
    "probabilities",
    "tempered",
]

TREES, LEAF, SHARE, SEED = 80, 2, 0.3, 0
NEAR, SMOOTH = 2.0, 0.3  # of the kernel exp(-NEAR · mean |difference|), and of its ridge
LIKENESS = 2 / 3  # the share of the kernel's answer; the rest is the trees'
BORDER = 0.07  # decades in which what a case is goes over into what lies beyond the zone's border
FLAT = 0.1  # a column whose ranks spread less than this is not stretched further
WRONG = VERDICTS.index("not the learning rate")
ABSENT = -15.0  # what a tree sees in the place of NaN: below all that a feature can be
LEAST = 0.005  # no verdict is less probable than that: some hundred tasks cannot tell more
SEEN_BY_FEW = ("loss", "val", "lr", "rule")
FEW = 100  # a log with fewer losses is judged by the thinned cases


class Judge:
    """What was fitted with some columns.

    Args:
        known: the cases.
        groups: the columns to go by.

    Attributes:
        things: what a case may be: verdicts of the lr, and kinds of fault.
    """

    def __init__(self, known: Cases, groups: Sequence[str]) -> None:
        from sklearn.ensemble import ExtraTreesRegressor
        from sklearn.kernel_ridge import KernelRidge

        self.columns = [i for i, name in enumerate(names()) if group(name) in groups]
        self.things: list[str] = [*VERDICTS[:WRONG], *sorted(set(known.kinds) - {""})]
        seen_CF, is_CK, weights_C = known.features_CF[:, self.columns], _targets(known, self.things), _weights(known)
        self.forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAF, max_features=SHARE, random_state=SEED).fit(
            _filled(seen_CF), is_CK, weights_C
        )
        self.ranks = _Ranks(seen_CF)
        self.ridge = KernelRidge(alpha=SMOOTH, kernel="laplacian", gamma=NEAR / len(self.columns)).fit(
            self.ranks(seen_CF), is_CK, sample_weight=weights_C
        )

    def shares(self, features_CF: FloatArray) -> FloatArray:
        """How far each case is each thing, shape (C, K); a row adds up to 1."""
        seen_CF = features_CF[:, self.columns]
        alike_CK = np.maximum(self.ridge.predict(self.ranks(seen_CF)), 1e-3)
        alike_CK /= alike_CK.sum(1, keepdims=True)
        found_CK: FloatArray = LIKENESS * alike_CK + (1 - LIKENESS) * self.forest.predict(_filled(seen_CF))
        return found_CK

    def votes(self, features_CF: FloatArray) -> FloatArray:
        """Shares of the verdicts, shape (C, V)."""
        votes_VC = np.zeros((len(VERDICTS), len(features_CF)))
        for thing, shares_C in zip(self.things, self.shares(features_CF).T, strict=True):
            votes_VC[VERDICTS.index(thing) if thing in VERDICTS else WRONG] += shares_C
        return votes_VC.T


class _Ranks:
    """Features as their ranks among the cases, each with mean 0 and deviation 1; 0 where there is none."""

    def __init__(self, known_CF: FloatArray) -> None:
        self.known = [np.sort(column[~np.isnan(column)]) for column in known_CF.T]
        plain_CF = self._plain(known_CF)
        self.mean, self.spread = plain_CF.mean(0), np.maximum(plain_CF.std(0), FLAT)

    def __call__(self, features_CF: FloatArray) -> FloatArray:
        ranks_CF: FloatArray = (self._plain(features_CF) - self.mean) / self.spread
        return ranks_CF

    def _plain(self, features_CF: FloatArray) -> FloatArray:
        out_FC = np.zeros(features_CF.T.shape)
        for own_C, known, column in zip(out_FC, self.known, features_CF.T, strict=True):
            there = ~np.isnan(column)
            if len(known):
                places = [np.searchsorted(known, column[there], side) for side in ("left", "right")]
                own_C[there] = (places[0] + places[1]) / (2 * len(known)) - 0.5
        return out_FC.T


def _targets(known: Cases, things: Sequence[str]) -> FloatArray:
    """How far each case is each thing, shape (C, K).

    Where a zone ends is known to some tenth of a decade, as the truth's lrs are not closer: near a border a case is
    partly what lies beyond.
    """
    is_C = [kind or VERDICTS[v] for kind, v in zip(known.kinds, known.verdicts_C, strict=True)]
    is_CK = np.array([[float(said == thing) for thing in things] for said in is_C])
    placed = ~np.isnan(known.places_C2[:, 0])
    above_low, above_high = 1 / (1 + np.exp(-known.places_C2[placed].T / BORDER))
    for verdict, share in (("too low", 1 - above_low), ("fine", above_low - above_high), ("too high", above_high)):
        is_CK[placed, things.index(verdict)] = share
    return is_CK


def _weights(known: Cases) -> FloatArray:
    """Verdicts weigh the same, and a task with many cases, those of its variants among them, less for each of them."""
    tasks = [task.partition("~")[0] for task in known.tasks]
    counts = Counter(tasks)
    weights_C = np.array([counts[task] ** -0.5 for task in tasks])
    there = np.unique(known.verdicts_C)
    for verdict in there:
        own = known.verdicts_C == verdict
        weights_C[own] *= len(tasks) / len(there) / weights_C[own].sum()
    return weights_C


def _filled(features_CF: FloatArray) -> NDArray[np.float32]:
    return np.where(np.isnan(features_CF), ABSENT, features_CF).astype(np.float32)


def tempered(votes_CV: FloatArray, temperature: float) -> FloatArray:
    """Votes as probabilities."""
    raised = np.maximum(votes_CV, 1e-3) ** (1.0 / temperature)
    p_CV = np.maximum(raised / raised.sum(1, keepdims=True), LEAST)
    normal_CV: FloatArray = p_CV / p_CV.sum(1, keepdims=True)
    return normal_CV


def best_temperature(votes_CV: FloatArray, verdicts_C: NDArray[np.int64]) -> float:
    """The temperature of the highest likelihood, of votes by readers that had not seen the cases."""
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
    return tempered(_judge(points, groups).votes(features_CF), _temperature(points, groups))


@cache
def _judge(points: str, groups: tuple[str, ...]) -> Judge:
    return Judge(cases().of(points), groups)


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
    """How like each kind of fault a run is; a hint, and not calibrated.

    Args:
        features: of one run.
        losses: training losses in its log.
    """
    judge = _judge(*kind_of(features, losses))
    (shares_K,) = judge.shares(np.array([[features[name] for name in names()]]))
    own = {kind: float(s) for kind, s in zip(judge.things, shares_K, strict=True) if kind not in VERDICTS}
    return {kind: share / sum(own.values()) for kind, share in own.items()}
