"""`attach`: a schedule onto an optimizer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

import torch

from ..errors import OptionError
from ..schedules.factors import Factor
from .entries import PEAK, Group, entry, lr_scale, read
from .given import Given, Scheduled, understand
from .handle import HANDLES, LEFT, Added, Clock, Handle
from .loading import Running, Setup
from .updates import is_hooked, wrapped

__all__ = ["attach", "inner_optimizer"]


def attach(
    schedule: Scheduled,
    optimizer: torch.optim.Optimizer,
    *,
    lr: float | Sequence[float] | None = None,
    horizon: int | None = None,
    steps_per_epoch: float | None = None,
    groups: Mapping[int, Scheduled] | None = None,
    factors: Sequence[Factor[Any]] = (),
    clock: Clock = "updates",
    added: Added = "follow",
) -> Handle:
    """Have a schedule write the lr, or any number of the param groups, at every update of the optimizer.

    value = (peak · scale) · multiplier(step): the peak is the value at attach (or `lr`), the step counts the updates
    that took place. Accumulation, several processes and updates that a gradient scaler skips come out right, and
    nothing has to be called in any order. A value that is a tensor becomes one of the group's own, written in place:
    attach before a step is captured or compiled with it.

    Args:
        schedule: a schedule, a function from step to multiplier (only ever asked for the present step), or a mapping
            from key of the param groups to these, each of which may be `absolute(...)`. "beta1" and "beta2" are keys.
        optimizer: any torch optimizer; Accelerate's and Lightning's wrappers are seen through.
        lr: the peak of all groups, or one for each, times a group's "lr_scale" if it has one; default None, the
            optimizer's own lr, or its "peak_lr": a handle writes that into each group, so that an optimizer that was
            attached before, a copy of it or one that loaded its state has the peak again, not some step's lr.
        horizon: updates of the complete run; may be left out where every schedule knows its length.
        steps_per_epoch: updates of one epoch, for lengths in "ep".
        groups: from index of a param group to what overrides or adds to `schedule` there; a schedule means the lr.
        factors: metric-driven factors such as `plateau()`, which `handle.observe(metric)` feeds.
        clock: "updates" (default) counts them through the optimizer's post-step hook. "manual" leaves it to
            `handle.advance()`: for CUDA graphs, whose replay runs no hook, and custom optimizers compiled with
            fullgraph=True (torch's own break the graph in `step` and so cannot be).
        added: what `add_param_group` does later: the group is to "follow" (default: its own value when added is its
            peak, from its first update on), the handle is to "leave" it alone, or to "raise".

    Returns:
        The handle, whose `state_dict` belongs into every checkpoint.

    Raises:
        OptionError: an argument cannot be used; a group lacks a key, or the value to be multiplied is 0 in all of
            them; the optimizer already has a handle, or a scheduler has changed its lr and no `lr` says what the peak
            is. Nothing was changed then.
        ScheduleError: a schedule cannot be bound to the run.

    >>> from etascope import absolute, constant, cosine
    >>> weights = [torch.zeros(2, requires_grad=True)]
    >>> optimizer = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.1)
    >>> handle = attach({"lr": cosine(), "beta2": absolute(constant(value=0.95))}, optimizer, horizon=10)
    >>> optimizer.param_groups[0]["betas"]
    (0.9, 0.95)
    >>> handle.detach()
    """
    optimizer = inner_optimizer(optimizer)
    if (known := HANDLES.get(optimizer)) is not None and known() is not None:
        raise OptionError(
            "The optimizer already has a handle.",
            'Call handle.detach() first; one mapping drives several keys: attach({"lr": s, "weight_decay": w}, ...).',
        )
    _choice("clock", clock, ("updates", "manual"))
    _choice("added", added, ("follow", "leave", "raise"))
    if clock == "updates" and not is_hooked(optimizer):
        raise OptionError(
            f"{type(optimizer).__name__}.step runs no hooks, so its updates cannot be counted.",
            f'{_attach_to(optimizer)}, or count them yourself: clock="manual" and handle.advance().',
        )
    factors = (factors,) if isinstance(factors, Factor) else tuple(factors)
    if wrong := [factor for factor in factors if not isinstance(factor, Factor)]:
        raise OptionError(f"{wrong[0]!r} is no factor.", "Give such as factors=(eta.plateau(patience=5),).")
    param_groups = optimizer.param_groups
    given = understand(schedule, groups or {}, horizon, steps_per_epoch, len(param_groups))
    if factors and not any("lr" in given.of(i) for i in range(len(param_groups))):
        raise OptionError(
            "Factors change the lr, and no schedule drives it.", 'Add one: {"lr": constant(), ...}; or leave them out.'
        )
    explicit = _explicit(lr, param_groups, given)
    left = LEFT.get(optimizer, [])
    peaks = [_own(group, i, given, explicit, left) for i, group in enumerate(param_groups)]
    _no_multiples_of_0(given, peaks, explicit is not None)
    # A user's function may raise, and should before anything is changed.
    each = None if lr is None or isinstance(lr, Sequence) else _peak(lr)
    setup = Setup(given, None if explicit is None else tuple(explicit), factors, each=each)
    Running(setup, peaks, []).probe(given)
    return Handle(optimizer, setup, peaks, clock, added)


def inner_optimizer(given: Any) -> torch.optim.Optimizer:
    """The optimizer whose `step` is the update: what a wrapper without hooks of its own holds as `optimizer`."""
    optimizer = given
    while isinstance(optimizer, torch.optim.Optimizer):
        if "_optimizer_state_dict_post_hooks" in vars(optimizer):  # some wrappers have those of `step` alone
            return optimizer
        if not isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
            raise OptionError(
                f"{type(optimizer).__name__} is a torch optimizer without hooks: it did not call super().__init__().",
                f"{_attach_to(optimizer)}.",
            )
        optimizer = inner
    raise OptionError(
        f"{type(given).__name__} is no torch optimizer.", "Give the torch.optim.Optimizer that makes the updates."
    )


def _attach_to(wrapper: torch.optim.Optimizer) -> str:
    where = wrapped(wrapper)
    return f"Attach to the optimizer that it wraps{f', its .{where}' if where else ''}"


def _explicit(lr: float | Sequence[float] | None, groups: list[Group], given: Given) -> list[float] | None:
    if lr is None:
        return None
    if not any("lr" in given.of(i) and not given.of(i)["lr"].absolute for i in range(len(groups))):
        raise OptionError("lr is given, and no schedule multiplies it.", "Leave it out, or give a schedule of the lr.")
    values = list(lr) if isinstance(lr, Sequence) and not isinstance(lr, str) else [lr] * len(groups)
    if len(values) != len(groups):
        raise OptionError(
            f"lr has {len(values)} values, and the optimizer {len(groups)} param groups.",
            "Give one number, or one for each group.",
        )
    return [_peak(value) * lr_scale(group, i) for i, (value, group) in
            enumerate(zip(values, groups, strict=True))]  # fmt: skip


def _peak(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, SupportsFloat) and not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise OptionError(f"lr is {value!r}.", "Give a finite number such as lr=2.1e-3, or one for each param group.")
    return number


def _own(
    group: Group,
    i: int,
    given: Given,
    explicit: list[float] | None,
    left: Sequence[tuple[Group, float | None]],
) -> dict[str, float]:
    own = {key: read(group, key, i) for key in given.of(i)}
    if "lr" not in own:
        return own
    if explicit is not None:
        own["lr"] = explicit[i]
    elif not given.of(i)["lr"].absolute:
        own["lr"] = _own_peak(group, i, own["lr"], any(g is group and lr != own["lr"] for g, lr in left))
    return own


def _own_peak(group: Group, i: int, lr: float, set_since: bool) -> float:
    """The peak that an earlier handle left; the lr where there is none, or the user has set it since."""
    if (peak := entry(group, PEAK)) is not None and math.isfinite(peak):
        return lr if set_since else float(peak)
    initial = entry(group, "initial_lr")
    if initial is not None and float(initial) != lr:
        raise OptionError(
            f"The lr of param group {i} is {lr!r}, and its initial_lr {float(initial)!r}: "
            "a scheduler has changed it, so the peak is in doubt.",
            f"Say it: attach(..., lr={float(initial)!r}).",
        )
    return lr


def _no_multiples_of_0(given: Given, peaks: list[dict[str, float]], lr_is_given: bool) -> None:
    """Raise where a schedule multiplies nothing but 0; 0 in one group among others leaves that group out."""
    where: dict[tuple[str, int | None], list[float]] = {}
    for i, own in enumerate(peaks):
        for key, value in own.items():
            if not given.of(i)[key].absolute and not (key == "lr" and lr_is_given):
                where.setdefault((key, i if key in given.groups.get(i, {}) else None), []).append(value)
    for (key, own_of), values in where.items():
        if not any(values):
            group = "every param group" if own_of is None else f"param group {own_of}"
            raise OptionError(
                f"{key!r} of {group} is 0, and no schedule is a multiple of that.",
                "Give the peak: attach(..., lr=1e-3)." if key == "lr" else
                f'Set it first, or give the values themselves: {{"{key}": absolute(schedule)}}.',
            )  # fmt: skip


def _choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(f"{name} is {value!r}.", f"Write one of {', '.join(map(repr, choices))}.")
