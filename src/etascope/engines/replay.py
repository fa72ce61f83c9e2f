"""A stack's gradient by recordings, and the check that they still say what the model does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EtascopeError
from .apart import is_alike
from .recording import Function, NotRecorded, Recording, Tensors, record

__all__ = ["Drifted", "Replay", "is_checked"]

MOST = 4  # recordings: one for each shape of a batch
CONTAINERS = (list, dict, set, deque)


class Drifted(EtascopeError):
    """A recording no longer gives what the model gives: what was trained by it is not to be trusted."""

    def __init__(self) -> None:
        super().__init__("the model changes from step to step in ways that are no tensors", "It is trained again.")


def is_checked(t: int, steps: int) -> bool:
    """Whether step t, of so many, is one at which recordings are compared: 1, 8, 64, ... and the last."""
    return t == steps - 1 or t in (8**i for i in range(20))


class Replay:
    """Calls a function by recordings of it, one for each kind of batch.

    Args:
        module: what the function calls.
        saved: what the function may change beside its results, as it is now.
        restore: puts it back.
    """

    def __init__(self, module: nn.Module, saved: Callable[[], Any], restore: Callable[[Any], None]) -> None:
        self._module, self._saved, self._restore = module, saved, restore
        self._known: list[tuple[Any, list[Any], Recording | None]] = []

    def __call__(
        self, function: Function, batch: Any, stable: Sequence[Tensor], fresh: Sequence[Tensor], *, check: bool
    ) -> Tensors:
        """The function's results.

        Args:
            function: what to call, or replay.
            batch: what it reads; with what is no tensor in it, another batch is another recording.
            stable: the function's first argument.
            fresh: its second.
            check: compare the recording with the function.

        Raises:
            Drifted: they differ.
        """
        kinds = [(t.shape, t.dtype) for t in fresh]
        known = (r for template, of, r in self._known if of == kinds and is_alike(template, batch))
        try:
            recording = next(known)
        except StopIteration:
            if len(self._known) < MOST:
                return self._record(function, batch, stable, fresh, kinds)
            recording = None
        if recording is None:
            return tuple(function(stable, fresh))
        before = self._saved()
        try:
            results = recording(stable, fresh)
        except Exception:  # the function says it better, with the user's own line
            self._restore(before)
            return tuple(function(stable, fresh))
        if check:
            after = self._saved()
            self._restore(before)
            truth = tuple(function(stable, fresh))
            if not (_agree(results, truth) and _agree(after, self._saved())):
                raise Drifted
            return truth
        return results

    def _record(
        self, function: Function, batch: Any, stable: Sequence[Tensor], fresh: Sequence[Tensor], kinds: list[Any]
    ) -> Tensors:
        before, memory = self._saved(), Memory(self._module)
        try:
            results, recording = record(function, stable, fresh)
            if memory.has_changed():
                raise NotRecorded("a module's attributes change")
        except Exception as error:
            self._restore(before)
            memory.restore()
            if isinstance(error, NotRecorded):
                self._known.append((batch, kinds, None))
            return tuple(function(stable, fresh))
        self._known.append((batch, kinds, recording))
        return results


class Memory:
    """What a module and its parts remember beside parameters and buffers: their attributes, as they are now."""

    def __init__(self, module: nn.Module) -> None:
        self._parts = [(part, dict(vars(part))) for part in module.modules()]
        self._inside = [(c, copy(c)) for _, own in self._parts for c in own.values() if isinstance(c, CONTAINERS)]

    def has_changed(self) -> bool:
        """Whether an attribute is another object now, or a container holds others."""
        return any(
            own.keys() != vars(part).keys() or not all(vars(part)[name] is value for name, value in own.items())
            for part, own in self._parts
        ) or any(not _same_objects(container, before) for container, before in self._inside)

    def restore(self) -> None:
        """Put them back."""
        for part, own in self._parts:
            vars(part).clear()
            vars(part).update(own)
        for container, before in self._inside:
            if not _same_objects(container, before):
                container.clear()
                (container.extend if isinstance(container, list | deque) else container.update)(before)


def _same_objects(one: Any, other: Any) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
    return one == other if isinstance(one, set) else all(a is b for a, b in zip(one, other, strict=True))


def _agree(given: Sequence[Tensor], truth: Sequence[Tensor]) -> bool:
    """Whether tensors are the same to half of their digits, lane by lane, as a norm; or both not finite."""
    for one, other in zip(given, truth, strict=True):
        if not one.is_floating_point():
            if not torch.equal(one, other):
                return False
            continue
        lanes = len(one) if one.dim() else 1
        one, other = one.reshape(lanes, -1).double(), other.reshape(lanes, -1).double()
        bound = torch.finfo(truth[0].dtype).eps ** 0.5 * other.norm(dim=1)
        far = (one - other).norm(dim=1) > bound  # False where one of them is nan
        if (far & torch.isfinite(bound)).any() or (torch.isfinite(one) != torch.isfinite(other)).any():
            return False
    return True
