"""The handle: one clock, one scale, and the values that they make, written into the param groups."""

from __future__ import annotations

import functools
import math
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from operator import is_
from typing import Any, Literal, SupportsFloat, TypeAlias

import torch
from torch.compiler import is_dynamo_compiling

from .._json import encode
from ..errors import OptionError
from ..schedules import Bound
from ..schedules.units import as_count, as_number
from .blocks import MASK, Blocks
from .entries import PEAK, Group, entry, keep_tensors, lr_scale, read, replace_tensors, writer
from .given import Given, Keep
from .loading import CHANGED, Peaks, Prefer, Running, Setup, load, save
from .state import Extension
from .updates import initialises, is_within_another, nests

__all__ = ["HANDLES", "LEFT", "Added", "Clock", "Handle"]

Clock: TypeAlias = Literal["updates", "manual"]
Added: TypeAlias = Literal["follow", "leave", "raise"]

HANDLES: weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.ref[Handle]] = weakref.WeakKeyDictionary()
# The param groups of optimizers from which a handle was taken, and the lr that it left there.
LEFT: weakref.WeakKeyDictionary[torch.optim.Optimizer, list[tuple[Group, float | None]]] = weakref.WeakKeyDictionary()


class Handle:
    """What `attach` returns: it writes the scheduled values into the optimizer and keeps their state.

    value = (peak · scale) · multiplier(step) in float64, in this order; the scale is on the lr alone, and the peak is
    1 for an `absolute` schedule. They are written at attach, after each counted update, after a state was loaded here
    or in the optimizer, and when step, scale or horizon change. The optimizer keeps the handle, not the other way.
    Something else that writes plain numbers there is warned of once, soon after the start or at a later look.

    An update whose schedule raises (a user's own function) has taken place: it is counted, and the optimizer keeps the
    values that it was made with.
    """

    # Slots are found faster, and every update pays for it.
    __slots__ = (
        "__weakref__", "_added", "_attached", "_blocks", "_clock", "_complete", "_current", "_entries", "_groups",
        "_here", "_hooks", "_known", "_look_at", "_lrs", "_optimizer", "_passing", "_peaks", "_scale", "_scaled",
        "_setup", "_size", "_states", "_step", "_tensors", "_uncompiled", "_until", "_warned", "_watcher", "_writers",
    )  # fmt: skip

    def __init__(
        self, optimizer: torch.optim.Optimizer, setup: Setup, peaks: Peaks, clock: Clock, added: Added
    ) -> None:
        self._optimizer = weakref.ref(optimizer)
        self._here = setup
        self._clock, self._added = clock, added
        self._attached, self._warned, self._complete, self._passing = True, False, False, False
        self._look_at = 0
        self._states: list[Any] = []
        self._groups: list[Group] = optimizer.param_groups
        self._size = len(self._groups)
        self._tensors: list[dict[str, torch.Tensor]] = [{} for _ in self._groups]
        self._scaled = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
        self._take(Running(setup, peaks, [factor.init() for factor in setup.factors]))
        self._hooks = [
            optimizer.register_state_dict_post_hook(self._unalias),
            optimizer.register_load_state_dict_pre_hook(self._before_load),
            optimizer.register_load_state_dict_post_hook(self._after_load),
        ]
        if clock == "updates":
            hook = Handle._after_nested_step if nests(optimizer) else Handle._after_step
            self._uncompiled = _without_compiler(hook)
            self._hooks.append(optimizer.register_step_post_hook(hook.__get__(self)))
        self._watch(optimizer)
        LEFT.pop(optimizer, None)
        HANDLES[optimizer] = weakref.ref(self)

    # the clock and the scale

    @property
    def step(self) -> int:
        """Optimizer updates so far: those that took place, whatever was skipped or accumulated. Can be set."""
        return self._step

    @step.setter
    def step(self, step: int) -> None:
        self._must_be_attached()
        step = as_count(step, "handle.step", least=0)
        self._sync()
        self._running(step=step).probe(self._current)
        self._step = step
        self._write()

    @property
    def scale(self) -> float:
        """One factor on every lr, which metric-driven policies change and the state keeps. Can be set."""
        return self._scale

    @scale.setter
    def scale(self, scale: float) -> None:
        self._must_be_attached()
        if (scale := as_number(scale, "handle.scale")) < 0:
            raise OptionError(f"handle.scale is {scale}.", "Give a finite number of at least 0.")
        self._sync()
        self._running().probe(self._current)  # a user's function may raise, and should before anything is changed
        self._scale = scale
        self._bind()
        self._write()

    @property
    def lrs(self) -> list[float]:
        """The lr of each param group, as it is in the optimizer."""
        self._sync()
        return [float(group["lr"]) for group in self._groups]

    @property
    def peaks(self) -> list[float | None]:
        """The peak lr of each param group; None where no schedule drives it, or an absolute one."""
        self._sync()
        driven = [self._current.of(i).get("lr") for i in range(self._size)]
        return [
            own["lr"] if "lr" in own and d is not None and not d.absolute else None
            for own, d in zip(self._peaks, driven, strict=True)
        ]

    @property
    def schedule(self) -> Bound | None:
        """The schedule of the first param group's lr, bound to its run; None where none multiplies it."""
        driven = self._current.of(0).get("lr")
        return None if driven is None or driven.absolute or "lr" not in self._peaks[0] else driven.bound

    @property
    def given(self) -> Given:
        """What drives which group at present; another object once the run was changed, as by `extend`."""
        return self._current

    @property
    def is_attached(self) -> bool:
        """Whether it drives its optimizer."""
        return self._attached

    def is_on(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether it drives this optimizer."""
        return self._attached and self._optimizer() is optimizer

    @property
    def wanted(self) -> list[float | None]:
        """The lr of each param group at the present step, in float64; None where it drives none, or is detached."""
        if not self._attached:
            return [None] * len(self._groups)
        self._sync()
        i = self._step & MASK
        return [None if own is None else own[1] * own[0][i] for own in self._lrs]

    def altered(self) -> tuple[float, float] | None:
        """The first plain lr that is not what the handle wrote last, and what that was; None if all are."""
        if self._complete and self._attached:
            i = self._step & MASK
            for group, key, values, base in self._entries:
                if key == "lr" and group["lr"] != base * values[i]:
                    return float(group["lr"]), base * values[i]
        return None

    def rewrite(self) -> None:
        """Write the present values again, over what somebody else wrote in their place."""
        self._must_be_attached()
        self._write()

    def pass_over(self, on: bool = True) -> None:
        """Leave the next call of `optimizer.step()` uncounted, as its gradients were dropped; False takes that back."""
        self._passing = on

    def advance(self, n: int = 1) -> None:
        """Count n updates, for `clock="manual"`.

        Raises:
            OptionError: the clock counts by itself.
        """
        self._must_be_attached()
        if self._clock == "updates":
            raise OptionError(
                "This handle counts the optimizer's updates itself, and advance() would count them twice.",
                'Leave it out, or attach with clock="manual".',
            )
        n = as_count(n, "advance(n)", least=1)
        passed, self._passing = self._passing, False
        self.step = self._step + n - passed

    @property
    def factors(self) -> list[dict[str, Any]]:
        """What the metric-driven factors remember, as plain data. Can be set, to what it was."""
        return [encode(state) for state in self._states]

    @factors.setter
    def factors(self, states: Sequence[Mapping[str, Any]]) -> None:
        pairs = zip(self._setup.factors, states, strict=True)
        self._states = [factor.state_from_json(state) for factor, state in pairs]

    def observe(self, metric: SupportsFloat) -> float:
        """Show a metric to the factors, and change the scale as they say; several processes show the same one.

        Returns:
            The new scale.

        Raises:
            OptionError: attach was given no factors; one returned something else than a finite number of at least 0.
                Nothing was changed then.
        """
        self._must_be_attached()
        if not self._setup.factors:
            raise OptionError(
                "No factor asks for a metric.", "Give some: attach(..., factors=(eta.plateau(patience=5),))."
            )
        told = [factor.observe(state, metric) for factor, state in zip(self._setup.factors, self._states, strict=True)]
        for factor, (_, by) in zip(self._setup.factors, told, strict=True):
            if not (isinstance(by, SupportsFloat) and 0 <= float(by) < math.inf):
                raise OptionError(
                    f"{factor!r} returned the factor {by!r} for the metric {metric!r}.",
                    "Have its observe() return a finite number of at least 0: 1.0 is nothing.",
                )
        self.scale = math.prod((float(by) for _, by in told), start=self._scale)
        self._states = [state for state, _ in told]
        return self._scale

    # a change of the run

    def extend(self, horizon: int, keep: Keep = "fraction", rewarm: int = 0) -> None:
        """Make the run longer from here on; what was before stays as it was.

        Args:
            horizon: updates of the whole run, those that were made included.
            keep: what goes on: the "fraction" of the run (default), the "value", or the "schedule" as it is.
            rewarm: updates over which the lr is warmed up again; default 0, none.

        Raises:
            ScheduleError: the horizon or a length cannot be used; see `Bound.extend`.
        """
        self._must_be_attached()
        self._sync()
        extension = Extension(self._step, as_count(horizon, "horizon", least=1), keep, as_count(rewarm, "rewarm", 0))
        self._take(self._running(self._setup.extended(extension)))

    def detach(self) -> None:
        """Take every hook off the optimizer; its values stay as they are now. A second time it does nothing."""
        if not self._attached:
            return
        for hook in self._hooks:
            hook.remove()
        changed, self._attached = self._changed(), False
        if (optimizer := self._optimizer()) is None:
            return
        HANDLES.pop(optimizer, None)
        ours, others = self._watcher
        if vars(optimizer).get("add_param_group") is ours:
            del vars(optimizer)["add_param_group"]
            vars(optimizer).update({} if others is None else {"add_param_group": others})
        for group, key, _ in changed:
            if key == "lr":
                group.pop(PEAK, None)  # the user's own lr is the next peak
        LEFT[optimizer] = [(group, _lr(group)) for group in optimizer.param_groups]

    # the state

    def state_dict(self) -> dict[str, Any]:
        """The state as plain data (for torch.save, JSON): counter, scale, configuration, peaks, factors' states."""
        self._sync()
        self._look(self._step)
        return save(self._running())

    def load_state_dict(self, state: Mapping[str, Any], prefer: Prefer | None = None) -> None:
        """Go on where a saved handle stopped, to the bit. Before or after the optimizer's state, or without it.

        The peaks come from the state, so it does not matter which lr the optimizer has. Where the saved run was given
        other schedules, horizon, steps_per_epoch, explicit lr or factors than `attach` here, `prefer` decides; it
        means nothing otherwise.

        Args:
            state: what `state_dict` returned; not changed, and not kept.
            prefer: None (default) raises; "saved" takes all as it was saved; "given" takes the configuration and an
                explicit lr from here, and from the state the counter, the scale and what the factors remember.

        Raises:
            OptionError: what was given differs; the optimizer has other param groups.
            RecordError: no state of a handle, a damaged or a newer one. Whatever is raised, nothing was changed.
        """
        self._load(state, prefer, CHANGED)

    def _load(self, state: Mapping[str, Any], prefer: Prefer | None, changed: str) -> None:
        self._must_be_attached()
        self._sync()
        running = load(state, prefer, self._here, self._peaks, self._groups, changed)
        for i, own in enumerate(self._peaks):
            for key in own.keys() - running.peaks[i].keys():
                self._set(i, key, own[key])
        self._take(running)

    def __reduce__(self) -> Any:
        """Refuse: hooks cannot be pickled, and a handle without them would not count."""
        raise OptionError(
            "A handle cannot be pickled or copied: it lives on its optimizer.",
            "Save handle.state_dict(); attach anew on the other side and load it.",
        )

    def __repr__(self) -> str:
        """What is driven, where it stands, and what it is."""
        optimizer = self._optimizer()
        lrs = ", ".join(dict.fromkeys(f"{lr:.6g}" for lr in self.lrs))
        keys = [f"{key}: {driven!r}" for key, driven in self._current.general.items()]
        own = [f"{key} of group {i}: {d!r}" for i, keys in self._current.groups.items() for key, d in keys.items()]
        on = f"on {type(optimizer).__name__}" if self._attached and optimizer is not None else "detached"
        return (
            f"<Handle {on}, step {self._step} of {self._current.horizon}, lr {lrs}, scale {self._scale:.6g}, "
            f"{'; '.join([*keys, *own, *map(repr, self._setup.factors)])}>"
        )

    # the hot path

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_dynamo_compiling():  # out of the graph, or each count would be a constant of a graph of its own
            self._uncompiled(self, optimizer, args, kwargs)
            return
        if kwargs and initialises(optimizer, kwargs):
            return
        # A fused optimizer under a gradient scaler comes here on skipped steps too.
        if self._scaled and (found_inf := getattr(optimizer, "found_inf", None)) is not None and found_inf.item():
            return
        if self._passing:
            self._passing = False
            return
        self._step = step = self._step + 1
        if optimizer.param_groups is not self._groups:
            self._regroup(optimizer)  # which writes, too
            return
        if step >= self._until:
            if step >= self._look_at:
                self._sync()
                self._look(step - 1)
                self._look_at, self._complete = min((step | MASK) + 1, 2 * step), True
            self._put(step)
            return
        i = step & MASK
        for group, key, values, base in self._entries:
            group[key] = base * values[i]

    def _after_nested_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """In place of `_after_step` where a step may call that of its base class, and both come here."""
        if is_dynamo_compiling():
            self._uncompiled(self, optimizer, args, kwargs)
        elif not is_within_another(optimizer):
            self._after_step(optimizer, args, kwargs)

    def _put(self, step: int) -> None:
        """Write the values of the step, whatever they are written into, and compute them where need be."""
        self._blocks.fill(step)
        i = step & MASK
        try:
            for ask, values in self._blocks.asked:
                values[i] = ask(step)
        except BaseException:
            self._complete = False
            raise
        for group, key, values, base in self._entries:
            group[key] = base * values[i]
        for write, values, base in self._writers:
            write(base * values[i])
        # Up to there, the steps to come have plain numbers for plain entries.
        self._until = 0 if self._writers or self._blocks.asked else self._look_at

    def _write(self) -> None:
        """Write the values of the present step."""
        self._sync()
        self._put(self._step)
        self._complete = True
        self._look_at = self._until = 0  # at the next update

    def _changed(self, step: int | None = None) -> list[tuple[Group, str, float]]:
        """The plain entries that are not what was written at that step, and what that was."""
        i = (self._step if step is None else step) & MASK
        return [
            (group, key, base * values[i])
            for group, key, values, base in self._entries
            if self._complete and group.get(key) != base * values[i]
        ]

    def _look(self, step: int) -> None:
        """Warn, once, if something else than the handle wrote after that step."""
        if self._warned or not self._attached or not (changed := self._changed(step)):
            return
        self._warned = True
        group, key, value = changed[0]
        i = next(i for i, known in enumerate(self._known) if known is group)
        warnings.warn(
            f"Something else writes {key!r} of param group {i}: it is {group.get(key)!r}, and the handle wrote "
            f"{value!r}, as it does after every update. Take the other out (a scheduler?), or call handle.detach().",
            stacklevel=3,
        )

    def _take(self, running: Running) -> None:
        """Go on from there; what may fail comes first."""
        current = running.setup.current()
        running.probe(current)
        self._setup, self._current, self._peaks = running.setup, current, running.peaks
        self._states = running.states
        self._step, self._scale = running.step, running.scale
        self._bind()
        self._write()

    def _running(self, setup: Setup | None = None, step: int | None = None) -> Running:
        step = self._step if step is None else step
        return Running(setup or self._setup, self._peaks, self._states, step, self._scale)

    def _bind(self) -> None:
        """Lay out what is written where: plain numbers, and writers for all else."""
        self._blocks = Blocks()
        self._known = list(self._groups)
        self._complete = False
        self._entries: list[tuple[Group, str, list[float], float]] = []
        self._writers: list[tuple[Callable[[float], object], list[float], float]] = []
        self._lrs: list[tuple[list[float], float] | None] = []
        for i, (group, own) in enumerate(zip(self._groups, self._peaks, strict=True)):
            driven = self._current.of(i)
            self._lrs.append(None)
            self._own_tensors(i)
            if own:
                group.pop(PEAK, None)
            if "lr" in own and not driven["lr"].absolute:
                group[PEAK] = own["lr"]
            for key in own:
                values, base = self._blocks.of(driven[key].bound), self._base(i, key)
                if key == "lr":
                    self._lrs[i] = values, base
                if (write := writer(group, key)) is not None:
                    self._writers.append((write, values, base))
                else:
                    self._entries.append((group, key, values, base))

    def _base(self, i: int, key: str) -> float:
        peak = 1.0 if self._current.of(i)[key].absolute else self._peaks[i][key]
        return peak * self._scale if key == "lr" else peak

    def _set(self, i: int, key: str, value: float) -> None:
        write = writer(self._groups[i], key)
        if write is None:
            self._groups[i][key] = value
        else:
            write(value)

    # what others do to the optimizer

    def _sync(self) -> None:
        """See to it that the groups known are those of the optimizer, however they came there."""
        optimizer = self._optimizer()
        if not self._attached or optimizer is None:
            return
        groups = optimizer.param_groups
        if groups is not self._groups or len(groups) != self._size or not all(map(is_, groups, self._known)):
            self._regroup(optimizer)

    def _watch(self, optimizer: torch.optim.Optimizer) -> None:
        """Have `add_param_group` of this optimizer tell, so that a group has its lr before its first update.

        A pre-step hook would see it too, at a fifth of the whole cost of a step.
        """
        ref, me, others = self._optimizer, weakref.ref(self), vars(optimizer).get("add_param_group")

        @functools.wraps(type(optimizer).add_param_group)
        def add_param_group(param_group: dict[str, Any]) -> None:
            optimizer, handle = ref(), me()
            if optimizer is None:
                raise OptionError("The optimizer is gone.", "Add the group to the one that took its place.")
            if handle is not None and not handle._attached:  # and somebody still holds this function
                handle = None
            if handle is not None:
                handle._sync()
                if handle._added == "raise":
                    raise _added_later(handle._size)
            lr = None if handle is None or "lr" in param_group else handle._setup.each
            if others is not None:
                others(param_group)
            else:
                type(optimizer).add_param_group(optimizer, param_group)
            if handle is None:
                return
            try:
                handle._regroup(optimizer, lr)
            except OptionError:
                optimizer.param_groups.pop()
                raise

        vars(optimizer)["add_param_group"] = add_param_group
        self._watcher = add_param_group, others

    def _regroup(self, optimizer: torch.optim.Optimizer, lr: float | None = None) -> None:
        """Take in param groups that were added, `lr` their peak if given, or others in their place."""
        groups = optimizer.param_groups
        if len(groups) < self._size:
            raise OptionError(
                f"The optimizer had {self._size} param groups and has {len(groups)} now.",
                "Call handle.detach(), and attach again.",
            )
        if len(groups) > self._size and self._added == "raise":
            raise _added_later(self._size)
        more: Peaks = []
        for i in range(self._size, len(groups)):
            keys = self._current.of(i) if self._added == "follow" else {}
            more.append({key: read(groups[i], key, i) for key in keys})
            if lr is not None and "lr" in keys and not keys["lr"].absolute:
                more[-1]["lr"] = lr * lr_scale(groups[i], i)
        self._groups, self._size = groups, len(groups)
        self._peaks = self._peaks + more
        self._tensors += [{} for _ in more]
        self._bind()
        self._write()

    def _own_tensors(self, i: int) -> None:
        """Tensors of the group are its own clones, and stay the same objects through optimizer.load_state_dict."""
        group, own = self._groups[i], self._tensors[i]
        replace_tensors(group, own)
        own |= keep_tensors(group, [key for key in self._peaks[i] if key not in own])

    def _unalias(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """A saved state holds copies of the tensors that will be written in place."""
        for group, own in zip(state["param_groups"], self._tensors, strict=False):
            keep_tensors(group, list(own))

    def _before_load(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        self._sync()  # a group's own value is to be seen before the state overwrites it

    def _after_load(self, optimizer: torch.optim.Optimizer) -> None:
        self._regroup(optimizer)

    def _must_be_attached(self) -> None:
        if not self._attached:
            raise OptionError("The handle is detached.", "Attach the schedule again.")


@functools.cache
def _without_compiler(hook: Callable[..., None]) -> Callable[..., None]:
    # At the first attach, not at import: it loads dynamo, which the optimizer's first step would load anyway.
    excluded: Callable[..., None] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return excluded


def _lr(group: Group) -> float | None:
    value = entry(group, "lr")
    return None if value is None else float(value)


def _added_later(i: int) -> OptionError:
    return OptionError(
        f"Param group {i} is added after attach.",
        'Let it follow the schedule with attach(..., added="follow"), or leave it alone with added="leave".',
    )
