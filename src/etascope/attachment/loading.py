"""From a saved state to what a handle goes on with: everything is checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from .._json import encode
from ..errors import EtascopeError, OptionError, RecordError
from ..schedules.factors import Factor
from .entries import Group, read
from .given import Given, differences
from .state import KIND, SCHEMA, Extension, State, read_state

__all__ = ["CHANGED", "Peaks", "Prefer", "Running", "Setup", "load", "save"]

Prefer: TypeAlias = Literal["saved", "given"]
CHANGED = (  # the next move where a saved run was given something else
    'load_state_dict(d, prefer="saved") goes on as it was saved (for a longer run, then handle.extend); '
    'prefer="given" takes what is given here, and keeps counter, scale and factors.'
)
Peaks: TypeAlias = list[dict[str, float]]  # per group the value at attach of each key; none for a group left alone


@dataclass(frozen=True)
class Setup:
    """What a handle was given, and the extensions since.

    Args:
        given: the schedules.
        explicit: the explicit peaks of the lr, per group; None: the optimizer's own.
        factors: the metric-driven ones.
        extensions: calls of `extend`, in order.
        each: the one explicit peak of all groups, which those that are added without an lr have too.
    """

    given: Given
    explicit: tuple[float, ...] | None
    factors: tuple[Factor[Any], ...]
    extensions: tuple[Extension, ...] = ()
    each: float | None = None

    def extended(self, extension: Extension) -> Setup:
        """The same with one extension more."""
        return replace(self, extensions=(*self.extensions, extension))

    def current(self) -> Given:
        """The schedules as they are after the extensions."""
        given = self.given
        for e in self.extensions:
            given = given.extended(e.at, e.horizon, e.keep, e.rewarm)  # type: ignore[arg-type]  # Bound checks keep
        return given


@dataclass(frozen=True)
class Running:
    """Where a handle stands: all that changes in a run."""

    setup: Setup
    peaks: Peaks
    states: list[Any]
    step: int = 0
    scale: float = 1.0

    def probe(self, current: Given) -> None:
        """Have every schedule answer once: a user's function may raise, and should before anything is changed."""
        for bound in {id(d.bound): d.bound for i in range(len(self.peaks)) for d in current.of(i).values()}.values():
            bound(self.step)


def save(running: Running) -> dict[str, Any]:
    """The state as plain data that aliases nothing."""
    setup = running.setup
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "step": running.step,
        "scale": running.scale,
        "given": {**setup.given.to_json(), "lr": None if setup.explicit is None else list(setup.explicit)},
        "extensions": encode(setup.extensions),
        "peaks": [dict(own) for own in running.peaks],
        "factors": [
            {"factor": factor.to_json(), "state": encode(state)}
            for factor, state in zip(setup.factors, running.states, strict=True)
        ],
    }


def load(
    data: Any, prefer: Prefer | None, here: Setup, peaks: Peaks, groups: Sequence[Group], changed: str = CHANGED
) -> Running:
    """What a handle goes on with.

    Args:
        data: what `save` returned.
        prefer: as in `Handle.load_state_dict`.
        here: what `attach` was given.
        peaks: the values at attach.
        groups: the optimizer's.
        changed: the next move where other things were given and nothing is preferred.

    Raises:
        OptionError: other things were given and nothing is preferred; the groups are others.
        RecordError: the state cannot be read.
    """
    if prefer not in (None, "saved", "given"):
        raise OptionError(f"prefer is {prefer!r}.", 'Write "saved", "given", or leave it out.')
    saved = read_state(data)
    _same_groups(len(saved.peaks), len(groups))
    try:
        differ = _differences(saved, here)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(error) from error
    if differ and prefer is None:
        raise OptionError(
            f"The saved run was given something else than attach here: {'; '.join(differ)}.",
            changed,
        )
    try:
        if differ and prefer == "given":
            running = Running(here, [], _kept_states(saved, here.factors), saved.step, saved.scale)
            current = here.current()
            running.peaks.extend(_peaks_given(saved, here, current, peaks, groups))
        else:
            same = [f.factor for f in saved.factors] == encode([f.to_json() for f in here.factors])
            factors = here.factors if same else tuple(Factor.from_json(f.factor) for f in saved.factors)
            given = Given.from_json(encode(saved.given), here.given)
            each = here.each if saved.given.lr == here.explicit else None
            setup = Setup(given, saved.given.lr, factors, saved.extensions, each)
            states = [f.state_from_json(s.state) for f, s in zip(factors, saved.factors, strict=True)]
            current = setup.current()
            running = Running(setup, _peaks_saved(saved, current), states, saved.step, saved.scale)
        for i, own in enumerate(running.peaks):
            for key in own:
                read(groups[i], key, i)
        running.probe(current)
    except EtascopeError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(error) from error
    return running


def _damaged(error: Exception) -> RecordError:
    return RecordError(f"The state is damaged: {error}.", "Load another checkpoint.")


def _same_groups(there: int, here: int) -> None:
    if there == here:
        return
    move = (
        "Add the missing ones first with optimizer.add_param_group."
        if there > here
        else "Load the state before the new ones are added with optimizer.add_param_group."
    )
    raise OptionError(f"The state has {there} param groups, and the optimizer has {here}.", move)


def _differences(saved: State, here: Setup) -> list[str]:
    found = differences(encode(saved.given), here.given)
    if here.explicit is not None:
        mine = list(here.explicit)
        theirs = [own.get("lr", mine[i]) for i, own in enumerate(saved.peaks[: len(mine)])]
        if theirs != mine:
            found.append(f"lr is {_short(theirs)} there and {_short(mine)} here")
    old, new = [f.factor for f in saved.factors], encode([factor.to_json() for factor in here.factors])
    if old != new:
        found.append(f"factors are {_factor_words(old)} there and {_factor_words(new)} here")
    return found


def _peaks_saved(saved: State, current: Given) -> Peaks:
    for i, own in enumerate(saved.peaks):
        if own and own.keys() != (keys := current.of(i)).keys():
            raise ValueError(f"peaks[{i}] has {', '.join(own)}, not {', '.join(keys)}")
    return [dict(own) for own in saved.peaks]


def _peaks_given(saved: State, here: Setup, current: Given, peaks: Peaks, groups: Sequence[Group]) -> Peaks:
    """The saved ones of the keys that are driven here, an explicit lr, or the values at attach."""

    def peak(i: int, key: str) -> float:
        if key == "lr" and here.explicit is not None and i < len(here.explicit):
            return here.explicit[i]
        own = peaks[i][key] if key in peaks[i] else read(groups[i], key, i)
        return saved.peaks[i].get(key, own)

    return [{key: peak(i, key) for key in current.of(i)} if own else {} for i, own in enumerate(saved.peaks)]


def _kept_states(saved: State, factors: Sequence[Factor[Any]]) -> list[Any]:
    """What the factors remember, where the saved run had one of the same kind in the same place."""
    states = []
    for i, factor in enumerate(factors):
        there = saved.factors[i] if i < len(saved.factors) else None
        same = there is not None and there.factor.get("kind") == factor.kind
        states.append(factor.state_from_json(there.state) if there is not None and same else factor.init())
    return states


def _short(values: Sequence[float]) -> str:
    return repr(values[0]) if len(set(values)) == 1 else repr(list(values))


def _factor_words(factors: Sequence[Mapping[str, Any]]) -> str:
    words = []
    for data in factors:
        try:
            words.append(repr(Factor.from_json(data)))
        except (EtascopeError, TypeError):
            words.append(f"a {data.get('kind')}")
    return ", ".join(words) or "none"
