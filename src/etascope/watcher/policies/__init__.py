"""Policies: what is done about a run, each a factor on its lr and actions, one file each.

They compose: an alarm is answered by the first policy that has an answer, metrics and probes are shown to all, and the
factors of all multiply.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import OptionError
from ...schedules.factors import Factor
from .base import Alarm, Answer, Policy, Scene
from .early_stop import early_stop
from .follow import follow
from .hypergradient import hypergradient
from .metric import metric
from .pearce_hall import pearce_hall
from .rewind import rewind

__all__ = [
    "Alarm",
    "Answer",
    "Policy",
    "Scene",
    "early_stop",
    "follow",
    "hypergradient",
    "metric",
    "pearce_hall",
    "policies_of",
    "rewind",
]


def policies_of(given: Iterable[Policy[Any] | Factor[Any]] | Policy[Any] | Factor[Any]) -> tuple[Policy[Any], ...]:
    """The policies that were given; factors of schedules as policies on the validation losses.

    Raises:
        OptionError: something is neither, or one kind is there twice.
    """
    several: tuple[Any, ...] = (given,)
    if isinstance(given, Iterable) and not isinstance(given, type):
        several = tuple(given)
    policies = tuple(metric(own) if isinstance(own, Factor) else own for own in several)
    for own in policies:
        if not isinstance(own, Policy):
            called = f"{own.__name__} without its brackets" if isinstance(own, type) else repr(own)
            raise OptionError(f"{called} is no policy.", "Give such as policies=(eta.rewind(), eta.plateau()).")
    names = [name_of(own) for own in policies]
    if twice := {name for name in names if names.count(name) > 1}:
        raise OptionError(f"{', '.join(sorted(twice))} is there twice.", "Give each policy once.")
    return policies


def name_of(policy: Policy[Any]) -> str:
    """What a policy is called in a log."""
    return policy.of.kind if isinstance(policy, metric) else policy.kind
