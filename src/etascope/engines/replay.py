"""A stack's gradient by recordings, and the check that they still say what the model does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import EtascopeError
from .apart import is_alike
from .compiled import COMPILED_AT, NotCompiled
from .data import map_tensors
from .randomness import put_back, states
from .recording import Function, NotRecorded, Recording, Tensors, record
from .tape import Otherwise

__all__ = ["BRIEF", "THOROUGH", "Drifted", "Memory", "Replay", "agree"]

MOST = 4  # recordings: one for each kind of batch
THOROUGH = frozenset(4**i for i in range(20))  # the uses of a recording at which it is compared
BRIEF = frozenset({1})  # once a whole training has shown no difference
CONTAINERS = (list, dict, set, deque)
DERIVED = {"_flat_weights", "_flat_weight_refs"}  # what recurrent modules renew at every call, from their parameters


class Drifted(EtascopeError):
    """A recording no longer gives what the model gives: what was trained by it is not to be trusted."""

    def __init__(self) -> None:
        super().__init__("the model changes from step to step in ways that are no tensors", "It is trained again.")


@dataclass
class Known:
    """A kind of batch.

    Args:
        batch: the first one, without its tensors.
        kinds: shapes, strides and dtypes of the function's fresh tensors.
        recording: of the function; None where there can be none.
        calls: how often it was met in this training.
        uses: how often it was replayed.
        misses: how often the function was called instead, since a value was another than when it was recorded.
        latest: the latest call that was replayed, as (function, fresh tensors).
    """

    batch: Any
    kinds: list[Any]
    recording: Recording | None
    calls: int = 0
    uses: int = 0
    misses: int = 0
    latest: tuple[Function, Sequence[Tensor]] | None = None


class Replay:
    """Calls a function by recordings of it, one for each kind of batch.

    Args:
        remembering: what may remember something from call to call, beside tensors.
        may_change: the tensors that the function may change.
        saved: what it may change beside its results, as it is now.
        restore: puts it back.
        compared: at which of its uses a recording is compared with the function.

    Attributes:
        compiles: whether the recording of the first kind of batch is compiled, after `COMPILED_AT` calls of a training.
        not_compiled: why it could not be.
    """

    def __init__(
        self,
        remembering: Callable[[], Sequence[Any]],
        may_change: Callable[[], Sequence[Tensor]],
        saved: Callable[[], list[Tensor]],
        restore: Callable[[list[Tensor]], None],
        *,
        compared: frozenset[int] = THOROUGH,
    ) -> None:
        self.compared = compared
        self._remembering, self._may_change, self._saved, self._restore = remembering, may_change, saved, restore
        self.known: list[Known] = []
        self.compiles, self.not_compiled = False, ""
        self._first: Known | None = None

    def begin(self) -> None:
        """Another training begins: each gets its first results from the same, whatever was trained before."""
        self._first = None
        for known in self.known:
            known.calls = 0

    @property
    def is_whole(self) -> bool:
        """Whether all kinds of batch that it knows are recorded."""
        return bool(self.known) and all(known.recording is not None for known in self.known)

    @property
    def operations(self) -> int:
        """How many the longest recording has."""
        return max((known.recording.operations for known in self.known if known.recording), default=0)

    def __call__(
        self, function: Function, batch: Any, stable: Sequence[Tensor], fresh: Sequence[Tensor], *, is_last: bool
    ) -> Tensors:
        """The function's results.

        Args:
            function: what to call, or replay.
            batch: what it reads; with other things in it that are no tensors, another batch is another recording.
            stable: the function's first argument.
            fresh: its second.
            is_last: compare all recordings with the function; else this one, at a few of its uses.

        Raises:
            Drifted: they differ.
        """
        kinds = [(t.shape, t.stride(), t.dtype) for t in fresh]
        known, compared = next((k for k in self.known if k.kinds == kinds and is_alike(k.batch, batch)), None), None
        if (is_new := known is None) and len(self.known) < MOST:
            known = Known(map_tensors(batch, lambda t: t.new_empty(0)), kinds, None)
            self.known.append(known)
        if known is not None:
            self._first = self._first or known
            known.calls += 1
        if known is not None and is_new:
            results = self._record(known, function, stable, fresh)
        elif known is None or known.recording is None:
            results = self._called(function, stable, fresh)
        else:
            misses = known.misses
            results = self._replayed(known, function, stable, fresh, check=is_last)
            compared = known if known.misses == misses else None
        for other in self.known if is_last else ():
            if other is not compared and other.latest is not None:
                before = self._saved()
                self._replayed(other, other.latest[0], stable, other.latest[1], check=True)
                self._restore(before)
        return results

    def _replayed(
        self, known: Known, function: Function, stable: Sequence[Tensor], fresh: Sequence[Tensor], *, check: bool
    ) -> Tensors:
        assert known.recording is not None
        before = self._saved()
        try:
            by_kernels = self._by_kernels(known, stable, fresh, before)
            results = by_kernels or known.recording(stable, fresh)
            known.uses, known.latest = known.uses + 1, (function, fresh)
        except Otherwise:
            self._restore(before)
            known.misses += 1
            if known.misses > known.uses:  # it asks for what is never the same
                known.recording = known.latest = None
            return self._called(function, stable, fresh)
        except Exception:
            results = ()
        if not results:  # the function says it better, with the user's own line, if it raises too
            self._restore(before)
            results = tuple(function(stable, fresh))
            known.recording = known.latest = None
        elif check or known.uses in self.compared:
            after = self._saved()
            self._restore(before)
            again, then = results, after
            if by_kernels:  # they round otherwise: what they were made of is compared
                again, then = known.recording(stable, fresh), self._saved()
                self._restore(before)
            truth = tuple(function(stable, fresh))
            if not (agree(again, truth) and agree(then, self._saved())):
                raise Drifted
            self._restore(after)
        return results

    def _by_kernels(
        self, known: Known, stable: Sequence[Tensor], fresh: Sequence[Tensor], before: list[Tensor]
    ) -> Tensors:
        """The results by compiled kernels; none where there are no kernels, or not yet."""
        assert known.recording is not None
        if not self.compiles or self.not_compiled or known is not self._first or known.calls <= COMPILED_AT:
            return ()
        try:
            if not known.recording.is_compiled:
                self._compile(known.recording, stable, fresh, before)
            return known.recording(stable, fresh, compiled=True)
        except Otherwise:
            raise
        except Exception as error:  # whatever it is: the operations themselves do
            self.not_compiled = str(error) or type(error).__name__
            known.recording.forget_kernels()
            self._restore(before)
            return ()

    def _compile(
        self, recording: Recording, stable: Sequence[Tensor], fresh: Sequence[Tensor], before: list[Tensor]
    ) -> None:
        """Compile a recording.

        Raises:
            NotCompiled: it cannot be, or its kernels give something else.
            Otherwise: a value that the function asks for is another; then it is not compiled yet.
        """
        truth = [*recording(stable, fresh), *self._saved()]
        self._restore(before)
        recording.compile(stable, fresh)
        given = [*recording(stable, fresh, compiled=True), *self._saved()]
        self._restore(before)
        if not agree(given, truth, exactly=False):
            raise NotCompiled("compiled kernels give something else")

    def _called(self, function: Function, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> Tensors:
        """The function's own results; if it remembers something of this call, no recording may know what it does."""
        memory = Memory(self._remembering() if any(known.recording for known in self.known) else ())
        results = tuple(function(stable, fresh))
        if memory.has_changed():
            for known in self.known:
                known.recording = known.latest = None
        return results

    def _record(self, known: Known, function: Function, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> Tensors:
        before, memory, drawn = self._saved(), Memory(self._remembering()), states()
        results = Tensors()
        try:
            results, recorded = record(function, stable, fresh)
            if memory.has_changed():
                raise NotRecorded("a module's attributes change")
            own = {t.untyped_storage().data_ptr() for t in self._may_change()}
            if any(t.untyped_storage().data_ptr() not in own for t in recorded.changes):
                raise NotRecorded("it changes a tensor that is none of its buffers")
            known.recording = recorded
        except Exception:  # whatever it is: the function says it better
            self._restore(before)
            memory.restore()
            put_back(drawn)
            results = tuple(function(stable, fresh))
        return results


class Memory:
    """What things remember beside parameters and buffers: their attributes, as they are now."""

    def __init__(self, things: Iterable[Any]) -> None:
        self._parts = [(part, _attributes(part)) for part in things if hasattr(part, "__dict__")]
        self._inside = [(c, copy(c)) for _, own in self._parts for c in own.values() if isinstance(c, CONTAINERS)]

    def has_changed(self) -> bool:
        """Whether an attribute is another object now, or a container holds others."""
        now = [_attributes(part) for part, _ in self._parts]
        return any(not _same_objects(a, own) for a, (_, own) in zip(now, self._parts, strict=True)) or any(
            not _same_objects(container, before) for container, before in self._inside
        )

    def restore(self) -> None:
        """Put them back."""
        for part, own in self._parts:
            for name in _attributes(part).keys() - own.keys():
                del vars(part)[name]
            vars(part).update(own)
        for container, before in self._inside:
            if not _same_objects(container, before):
                container.clear()
                (container.extend if isinstance(container, list | deque) else container.update)(before)


def _attributes(thing: Any) -> dict[str, Any]:
    derived = DERIVED if isinstance(thing, nn.RNNBase) else ()
    return {name: value for name, value in vars(thing).items() if name not in derived}


def _same_objects(one: Any, other: Any) -> bool:
    if len(one) != len(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
    return one == other if isinstance(one, set) else all(a is b for a, b in zip(one, other, strict=True))


def agree(given: Sequence[Tensor], truth: Sequence[Tensor], *, exactly: bool = True) -> bool:
    """Whether tensors are the same but for rounding, lane by lane, as a norm; or both not finite.

    Args:
        given: the tensors.
        truth: what they should be.
        exactly: but for the rounding of the same operations: memory that begins elsewhere may be summed up in other
            pieces, and on a GPU in any order. Else of others that compute the same, and no lane counts that is not
            finite in truth.
    """
    for one, other in zip(given, truth, strict=True):
        if not one.is_floating_point():
            if not torch.equal(one, other):
                return False
            continue
        eps, lanes = torch.finfo(other.dtype).eps, len(one) if one.dim() else 1
        one, other = one.reshape(lanes, -1).double(), other.reshape(lanes, -1).double()
        bound = eps ** (0.75 if exactly and not other.is_cuda else 0.5) * other.norm(dim=1)
        far = (one - other).norm(dim=1) > bound  # False where one of them is nan
        unlike = (torch.isfinite(one) != torch.isfinite(other)).any(dim=1)
        if not exactly:
            unlike &= torch.isfinite(other).all(dim=1)
        if ((far & torch.isfinite(bound)) | unlike).any():
            return False
    return True
