"""Every torch operation that a function runs, written down in order.

Under a dispatch mode torch hands over each operation below autograd, `vmap` and autocast: on plain tensors, after these
have done their part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Likeness", "Otherwise", "Slot", "Step", "Tape", "Watch", "slots"]

aten = torch.ops.aten
Likeness: TypeAlias = tuple[object, ...]

MOST = 20_000  # operations; code that is unrolled further is not slow for its Python
# Normalisations whose schemas do not say that in training they move the running statistics.
MOVING_NORMS = {
    getattr(aten, name).default
    for name in ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
    if hasattr(aten, name)
}
STATISTICS, IS_TRAINING = slice(3, 5), 5  # of their arguments
STRIDING = {aten.as_strided.default, aten.as_strided_.default}
WHERE = ("self", "size", "stride")  # their arguments, before the offset
# What shapes a tensor anew in place, and the view that is the same.
SHAPING = {
    aten.as_strided_.default: aten.as_strided.default,
    aten.transpose_.default: aten.transpose.int,
    aten.t_.default: aten.t.default,
    aten.squeeze_.dim: aten.squeeze.dim,
    aten.unsqueeze_.default: aten.unsqueeze.default,
}
# Ways to a tensor's numbers that are no operations.
TO_PYTHON = {"tolist", "numpy", "__array__", "__dlpack__"}
RECURRENT = {"lstm", "gru", "rnn_tanh", "rnn_relu"}


class Otherwise(Exception):
    """A value that the function asks for is another than when it was recorded: it may take another branch."""


@dataclass(frozen=True)
class Expect:
    """Of a tensor of one number: that it is this one, still.

    Raises:
        Otherwise: it is not.
    """

    value: float | bool

    def __call__(self, tensor: Tensor) -> None:
        """Look."""
        now = tensor.item()
        if now != self.value and (now == now or self.value == self.value):  # nan is nan
            raise Otherwise


@dataclass(frozen=True)
class Slot:
    """A tensor of the function, by its number."""

    number: int


@dataclass(frozen=True)
class Step:
    """One operation.

    Args:
        call: what is called.
        args: with slots in the place of tensors.
        kwargs: as well.
        out: as the operation returns: a slot, a list of slots and None, or None.
        writes: the slots of arguments that it changes.
        is_view: whether what it returns lies in an argument's memory.
    """

    call: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    out: Any
    writes: frozenset[int] = frozenset()
    is_view: bool = False
    reads: frozenset[int] = field(init=False)
    makes: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reads", slots([self.args, list(self.kwargs.values())]))
        object.__setattr__(self, "makes", slots(self.out))


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation while it is entered.

    Args:
        given: the function's arguments; they get the first slots.
    """

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.constants: dict[int, Tensor] = {}  # tensors that the function has from elsewhere
        self.refused = ""  # why the steps do not say what the function does
        self._likeness: list[Likeness] = []
        self._within: list[int] = []  # the slot in whose memory a slot lies
        self._fixed: set[int] = set()  # slots whose numbers follow from nothing but the operations
        self._numbers: MutableMapping[Tensor, int] = WeakTensorKeyDictionary()
        self._given = len(given)
        for tensor in given:
            self._new(tensor)

    def slot(self, tensor: Tensor) -> Slot:
        """The slot of a tensor that the function meets."""
        number = self._numbers.get(tensor)
        if number is None:
            number = self._new(tensor)
            self.constants[number] = tensor.detach()
        return Slot(number)

    def likeness(self, number: int) -> Likeness:
        """A slot's shape, strides, dtype and device."""
        return self._likeness[number]

    def size(self, number: int) -> int:
        """How many numbers a slot has."""
        shape = self._likeness[number][0]
        assert isinstance(shape, torch.Size)
        return shape.numel()

    def memory(self, number: int) -> int:
        """The first slot of all that share this one's memory."""
        while self._within[number] != number:
            number = self._within[number]
        return number

    def is_fixed(self, number: int) -> bool:
        """Whether a slot has the same numbers at every call: made from nothing, as a mask or positions are."""
        return number in self._fixed

    def join(self, one: int, other: int) -> None:
        """Note that two slots have come to share their memory."""
        one, other = sorted((self.memory(one), self.memory(other)))
        self._within[other] = one

    def _new(self, tensor: Tensor, within: int | None = None) -> int:
        number = len(self._likeness)
        if not _is_plain(tensor):
            self.refuse(f"it has a {type(tensor).__name__} of layout {tensor.layout}")
            self._likeness.append(())
        else:
            self._likeness.append(_likeness(tensor))
        self._within.append(number if within is None else within)
        self._numbers[tensor] = number
        return number

    def refuse(self, reason: str) -> None:
        """Note that the steps do not say what the function does."""
        self.refused = self.refused or reason

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and write it down."""
        kwargs = kwargs or {}
        if len(self.steps) == MOST:
            self.refuse(f"it has more than {MOST} operations")
        if self.refused:
            return func(*args, **kwargs)
        said = self._slotted(args), self._slotted(kwargs)
        is_fixed = _is_repeatable(func) and slots([*said[0], *said[1].values()]) <= self._fixed
        if func in STRIDING and len(args) > len(WHERE):  # in a replay its memory may be another's, and begin elsewhere
            if args[len(WHERE)] not in (None, args[0].storage_offset()):
                self.refuse(f"{func} says where in a memory it begins")
            said = said[0][: len(WHERE)], said[1]
        out = func(*args, **kwargs)
        if func is aten._local_scalar_dense.default:
            if not is_fixed:
                self.steps.append(Step(Expect(out), *said, None))
        elif _depends_on_values(func, args) and not is_fixed:
            self.refuse(f"what {func} returns depends on values")
        elif any(isinstance(v, torch.Generator) for v in _leaves([args, list(kwargs.values())])):
            self.refuse(f"{func} draws from a generator of its own")
        elif not _is_tensors(out):
            self.refuse(f"{func} returns a {type(out).__name__}")
        elif func in SHAPING and self._is_own(said[0][0]):  # from here on the tensor is the view
            view = Slot(self._new(out, within=said[0][0].number))
            self._add(Step(SHAPING[func], *said, view, is_view=True), is_fixed)
        else:
            given = [t for t in _leaves([args, list(kwargs.values())]) if isinstance(t, Tensor)]
            slots_out, is_view = self._returned(out, given)
            writes = self._written(func, args, kwargs)
            self._add(Step(func, *said, slots_out, writes, is_view), is_fixed)
            if any(self.slot(t).number in writes and _likeness(t) != self.likeness(self.slot(t).number) for t in given):
                self.refuse(f"{func} changes a tensor's shape in place")
        return out

    def _add(self, step: Step, is_fixed: bool) -> None:
        self.steps.append(step)
        if is_fixed:
            self._fixed |= step.makes
        elif step.writes:
            moved = {self.memory(number) for number in step.writes}
            self._fixed -= {number for number in self._fixed if self.memory(number) in moved}

    def _is_own(self, slot: Slot) -> bool:
        """Whether the function has made a tensor itself."""
        return slot.number >= self._given and self.memory(slot.number) not in self.constants

    def _slotted(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.slot(value)
        if isinstance(value, list | tuple):
            return [self._slotted(v) for v in value]
        return {k: self._slotted(v) for k, v in value.items()} if isinstance(value, dict) else value

    def _written(self, func: Any, args: Any, kwargs: Any) -> frozenset[int]:
        written: list[Any] = list(args[STATISTICS]) if func in MOVING_NORMS and args[IS_TRAINING] else []
        if func._schema.is_mutable:
            for i, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    written.append(kwargs.get(argument.name, args[i] if i < len(args) else None))
        return frozenset(self.slot(t).number for t in _leaves(written) if isinstance(t, Tensor))

    def _returned(self, out: Any, given: Sequence[Tensor]) -> tuple[Any, bool]:
        """The slots of what an operation returned, and whether some lie in its arguments' memory."""
        if isinstance(out, Tensor):
            if (number := self._numbers.get(out)) is not None:
                return Slot(number), False  # it worked in place
            source = next((t for t in given if _share_memory(t, out)), None)
            within = None if source is None else self.slot(source).number
            return Slot(self._new(out, within)), within is not None
        if out is None:
            return None, False
        several = [self._returned(o, [*given, *filter(_is_tensor, out[:i])]) for i, o in enumerate(out)]
        return [slot for slot, _ in several], any(is_view for _, is_view in several)


class Watch(TorchFunctionMode):
    """Has a tape refuse what reads a tensor's numbers without an operation."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self._tape = tape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function."""
        name = getattr(func, "__name__", "")
        if name in TO_PYTHON:
            self._tape.refuse(f"it calls {name}()")
        if func == Tensor.data.__set__:  # type: ignore[attr-defined]
            self._tape.refuse("it gives a tensor other data")
        if name in RECURRENT and isinstance(args[1], Tensor) and not args[1].is_floating_point():
            self._tape.refuse("it has packed sequences")  # their lengths are read by pointer
        return func(*args, **(kwargs or {}))


def slots(value: Any) -> frozenset[int]:
    """The numbers of all slots in nested lists."""
    return frozenset(v.number for v in _leaves(value) if isinstance(v, Slot))


def _is_repeatable(func: Any) -> bool:
    """Whether an operation gives the same at every call, of the same arguments."""
    return torch.Tag.nondeterministic_seeded not in func.tags and "empty" not in func._schema.name


def _depends_on_values(func: Any, args: Any) -> bool:
    if func is aten.index.Tensor:  # by numbers the shape is known, by a mask it is not
        return any(t is not None and t.dtype in (torch.bool, torch.uint8) for t in args[1])
    depending = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
    return func is aten._pack_padded_sequence.default or not depending.isdisjoint(func.tags)


def _likeness(tensor: Tensor) -> Likeness:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided


def _share_memory(one: Tensor, other: Tensor) -> bool:
    if not (_is_plain(one) and _is_plain(other)):
        return False
    address = other.untyped_storage().data_ptr()
    return address != 0 and one.untyped_storage().data_ptr() == address


def _is_tensors(out: Any) -> bool:
    if isinstance(out, list | tuple):
        return all(o is None or isinstance(o, Tensor) for o in out)
    return out is None or isinstance(out, Tensor)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for v in value:
            yield from _leaves(v)
    else:
        yield value
