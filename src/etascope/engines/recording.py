"""A function of tensors as a list of torch operations, replayed without the Python in between.

Under `vmap` and `grad` a small model's step is mostly Python and dispatch, and a replay is without them. Where much
is to be trained the operations can be compiled, too (`compiled.py`).

Three things are left out of the operations, and none of them changes what they compute: what nobody reads, copies of
what nobody changes, and the allocation of results that fit over an operand read for the last time. Views of tensors
that stay the same objects are taken once, and so is what follows from nothing: masks, positions.

What Python does beside the operations happens once, while they are recorded. Where a function asks a tensor for its
value, as a branch does, a replay looks whether it is the same, and raises `Otherwise` if not. A function that is seen
to draw from Python's or NumPy's randomness, or to have shapes that follow from values, is not recorded.
Other ways to change its mind cannot be seen: so whoever replays compares with the function itself now and then
(`replay.py`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from .compiled import Graph, Kernels
from .tape import Slot, Step, Tape, Watch, slots

__all__ = ["Function", "NotRecorded", "Recording", "Tensors", "record"]

aten = torch.ops.aten
Tensors: TypeAlias = tuple[Tensor, ...]
Function: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]

NO_CHANGE = {aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.detach.default, aten.alias.default}
TIMES = {aten.mul.Scalar, aten.mul.Tensor}
# Pointwise operations of a tensor and, for some, others that broadcast to it; and what writes the result over it.
IN_PLACE: dict[Any, Any] = {
    aten.add.Tensor: aten.add_.Tensor,
    aten.sub.Tensor: aten.sub_.Tensor,
    aten.mul.Tensor: aten.mul_.Tensor,
    aten.div.Tensor: aten.div_.Tensor,
    aten.add.Scalar: aten.add_.Scalar,
    aten.mul.Scalar: aten.mul_.Scalar,
    aten.div.Scalar: aten.div_.Scalar,
    aten.masked_fill.Scalar: aten.masked_fill_.Scalar,
    **{
        getattr(aten, name).default: getattr(aten, f"{name}_").default
        for name in ("exp", "neg", "relu", "rsqrt", "sigmoid", "sqrt", "tanh")
    },
}
FEW = 64  # numbers: as many as lanes, mostly
COMMUTATIVE = {aten.add.Tensor, aten.mul.Tensor}  # of which the result may go over the second operand too
GRADIENTS: dict[Any, Any] = {  # the same by an argument `grad_input`
    getattr(aten, name).default: getattr(aten, name).grad_input
    for name in ("gelu_backward", "sigmoid_backward", "tanh_backward", "threshold_backward")
}


class NotRecorded(Exception):
    """The function does something that a list of operations cannot say; the message names it."""


def record(function: Function, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> tuple[Tensors, Recording]:
    """Call the function, and record it.

    Args:
        function: of two lists of tensors; returns tensors.
        stable: its first argument: tensors that are mostly the same objects at every call.
        fresh: its second: others.

    Returns:
        What it returned, and the recording.

    Raises:
        NotRecorded: it cannot be recorded; by then it has run, in which it may have changed its arguments.
    """
    # Aliases, since what is given twice, or is also had from elsewhere, need not be the same another time.
    given, also = [t.detach() for t in stable], [t.detach() for t in fresh]
    tape, drawn = Tape([*given, *also]), _drawn()
    with tape, Watch(tape):
        results = tuple(function(given, also))
    if tape.refused or drawn != _drawn():
        raise NotRecorded(tape.refused or "it draws from Python's or NumPy's randomness")
    return results, Recording(tape, len(stable), len(fresh), [tape.slot(t).number for t in results])


class Recording:
    """Operations in order, as a function of the tensors that they begin with.

    `changes` are the tensors from elsewhere that it changes in place; `operations` is their number.

    Args:
        tape: what was recorded.
        stable: how many tensors are mostly the same objects at every call; they have the tape's first slots.
        fresh: how many are not; they have the next ones.
        results: the slots of what the function returned.
    """

    def __init__(self, tape: Tape, stable: int, fresh: int, results: Sequence[int]) -> None:
        first, second = range(stable), range(stable, stable + fresh)
        steps = _without_copies(tape, _needed(tape.steps, results), results)
        once, steps = _once(tape, steps, {*first, *tape.constants}, results)
        kept = sorted(frozenset().union(*(step.makes for step in once)))
        self._plan = tape, once, steps, kept, (first, second), list(results)
        steps = _in_place(tape, steps, {*first, *second, *tape.constants, *kept, *results})
        self.operations = len(steps)
        written = {tape.memory(n) for step in steps for n in step.writes}
        self.changes = [t for n, t in tape.constants.items() if tape.memory(n) in written]
        self._once = _as_function(tape, once, (first,), kept)
        self._run = _as_function(tape, steps, (first, kept, second), results)
        self._kernels: Kernels | None = None
        self._seen: list[Tensor] | None = None
        self._kept: Tensors = ()

    def __call__(self, stable: Sequence[Tensor], fresh: Sequence[Tensor], *, compiled: bool = False) -> Tensors:
        """The function's results on these tensors, of the recorded shapes; it may change them as the function does.

        Args:
            stable: the function's first argument.
            fresh: its second.
            compiled: by the compiled kernels, where there are some.

        Raises:
            Otherwise: a value that the function asks for is another; it may have changed tensors by then.
        """
        # Torch's recurrent kernels look at the mode, not at their arguments, for whether a gradient will be taken.
        with torch.enable_grad():
            self._see(stable)
            if compiled and self._kernels is not None:
                return self._kernels(self._for_kernels(stable, fresh))
            return self._run(stable, self._kept, fresh)

    @property
    def is_compiled(self) -> bool:
        """Whether there are compiled kernels."""
        return self._kernels is not None

    def compile(self, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> None:
        """Make kernels for tensors like these, which takes some seconds.

        Raises:
            NotCompiled: there can be none; the message says why.
        """
        tape, once, steps, kept, (first, second), results = self._plan
        # What the kernels write, they must be given by one name alone.
        written = {tape.memory(n) for step in steps for n in step.writes}
        inside = [step for step in once if any(tape.memory(n) in written for n in step.makes)]
        own = frozenset().union(*(step.makes for step in inside))
        self._outside = [i for i, n in enumerate(kept) if n not in own]
        given = [*first, *(kept[i] for i in self._outside), *second]
        before, steps, made = _few_first(tape, [*inside, *steps], given, results)
        self._few = _as_function(tape, before, (given,), made)
        self._see(stable)
        graph = Graph(tape.constants, steps, [*given, *made], results)
        self._kernels = graph.compiled(self._for_kernels(stable, fresh))

    def forget_kernels(self) -> None:
        """Have no kernels, since they fail."""
        self._kernels = None

    def _for_kernels(self, stable: Sequence[Tensor], fresh: Sequence[Tensor]) -> list[Tensor]:
        given = [*stable, *(self._kept[i] for i in self._outside), *fresh]
        return [*given, *self._few(given)]

    def _see(self, stable: Sequence[Tensor]) -> None:
        """Take once what follows from the stable tensors, if they are others than at the last call."""
        if self._seen is None or len(self._seen) != len(stable) or not all(map(_is, self._seen, stable)):
            self._seen, self._kept = None, ()  # let go of the former ones first
            self._seen, self._kept = list(stable), self._once(stable)


def _is(one: Tensor, other: Tensor) -> bool:
    return one is other


def _drawn() -> tuple[Any, ...]:
    """Where Python's and NumPy's generators stand."""
    _, keys, position, *_ = np.random.get_state()
    return random.getstate(), bytes(keys), position  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- what is left out


def _needed(steps: Sequence[Step], results: Sequence[int]) -> list[Step]:
    """The steps without those whose results nobody reads; what writes, draws or only checks stays."""
    wanted, kept = set(results), list[Step]()
    for step in reversed(steps):
        if step.makes & wanted or step.writes or _draws(step) or not step.makes:
            kept.append(step)
            wanted |= step.reads
    return kept[::-1]


def _draws(step: Step) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(step.call, "tags", ())


def _without_copies(tape: Tape, steps: Sequence[Step], results: Sequence[int]) -> list[Step]:
    """The steps without copies and views that change nothing: who reads them reads what they are of."""
    written = {tape.memory(n) for step in steps for n in step.writes} | {tape.memory(n) for n in results}
    same: dict[int, Slot] = {}
    kept = []
    for step in steps:
        args, kwargs = _renamed(step.args, same), _renamed(step.kwargs, same)
        source, out = args[0] if args else None, step.out
        if isinstance(source, Slot) and isinstance(out, Slot) and out.number not in results:
            is_copy = step.call is aten.clone.default or (step.call in TIMES and args[1] == 1)
            untouched = written.isdisjoint((tape.memory(source.number), tape.memory(out.number)))
            alike = tape.likeness(source.number) == tape.likeness(out.number)
            if alike and (step.call in NO_CHANGE or (is_copy and untouched)):
                same[out.number] = source
                tape.join(source.number, out.number)
                continue
        kept.append(Step(step.call, args, kwargs, out, step.writes, step.is_view))
    return kept


def _renamed(value: Any, same: dict[int, Slot]) -> Any:
    if isinstance(value, Slot):
        return same.get(value.number, value)
    if isinstance(value, list):
        return [_renamed(v, same) for v in value]
    return {k: _renamed(v, same) for k, v in value.items()} if isinstance(value, dict) else value


def _once(tape: Tape, steps: Sequence[Step], stable: set[int], results: Sequence[int]) -> tuple[list[Step], list[Step]]:
    """Steps to take once while the stable tensors stay the same, and the others.

    That is: views of these, and what follows from nothing, is not changed, and is no result, which others may change.
    """
    once, others, known = list[Step](), list[Step](), set(stable)
    written = {tape.memory(n) for step in steps for n in step.writes} | {tape.memory(n) for n in results}
    for step in steps:
        stays = all(tape.is_fixed(n) and tape.memory(n) not in written for n in step.makes) and step.makes
        if step.reads <= known and not step.writes and (step.is_view or stays):
            once.append(step)
            known |= step.makes
        else:
            others.append(step)
    return once, others


def _few_first(
    tape: Tape, steps: Sequence[Step], given: Sequence[int], results: Sequence[int]
) -> tuple[list[Step], list[Step], list[int]]:
    """Steps that make a few numbers of a few numbers, the others, and what these read of the first.

    A kernel would compute such a number again for each of the many that it is used for: β₂ᵗ for each parameter.
    """
    written = {tape.memory(n) for step in steps for n in step.writes} | {tape.memory(n) for n in results}
    known = {n for n in (*given, *tape.constants) if tape.memory(n) not in written}
    first, others = list[Step](), list[Step]()
    for step in steps:
        touched = step.reads | step.makes
        few = all(tape.size(n) <= FEW and tape.memory(n) not in written for n in touched) and not _draws(step)
        if few and step.reads and step.reads <= known and not step.is_view:
            first.append(step)
            known |= step.makes
        else:
            others.append(step)
    read = frozenset().union(*(step.reads for step in others))
    return first, others, sorted(read & frozenset().union(*(step.makes for step in first)))


def _in_place(tape: Tape, steps: Sequence[Step], lasting: Iterable[int]) -> list[Step]:
    """The steps, with results written over operands that nobody reads again: less memory to go through."""
    last: dict[int, int] = {}  # the last step that touches a memory
    for i, step in enumerate(steps):
        for number in step.reads | step.makes:
            last[tape.memory(number)] = i
    lasts = {tape.memory(number) for number in lasting}
    out = []
    for i, step in enumerate(steps):
        if (operand := _to_write_over(tape, step, i, last, lasts)) is not None:
            over, result = tape.memory(operand.number), tape.memory(step.out.number)
            end, stays = max(i, last.get(result, i)), result in lasts
            tape.join(operand.number, step.out.number)
            last[tape.memory(over)] = end
            if stays:
                lasts.add(tape.memory(over))
            step = _over(step, operand)
        out.append(step)
    return out


def _to_write_over(tape: Tape, step: Step, i: int, last: dict[int, int], lasts: set[int]) -> Slot | None:
    """The operand of step i that its result can be written over."""
    if not (step.call in IN_PLACE or step.call in GRADIENTS) or not isinstance(step.out, Slot):
        return None
    for operand in step.args[: 2 if step.call in COMMUTATIVE and not step.kwargs else 1]:
        if isinstance(operand, Slot):
            memory = tape.memory(operand.number)
            others = {tape.memory(n) for n in step.reads - {operand.number}}
            fits = tape.likeness(operand.number) == tape.likeness(step.out.number)
            if fits and last[memory] == i and memory not in lasts | others:
                return operand
    return None


def _over(step: Step, operand: Slot) -> Step:
    if step.call in GRADIENTS:
        return replace(step, call=GRADIENTS[step.call], kwargs={**step.kwargs, "grad_input": operand})
    others = list(step.args)
    others.remove(operand)
    return replace(step, call=IN_PLACE[step.call], args=[operand, *others])


# ------------------------------------------------------------------------------------------------- replaying


def _as_function(
    tape: Tape, steps: Sequence[Step], given: Sequence[Sequence[int]], results: Sequence[int]
) -> Callable[..., Tensors]:
    """The steps as one Python function of lists of tensors, which lets go of each tensor after its last reader."""
    names: dict[str, Any] = {f"t{number}": tensor for number, tensor in tape.constants.items()}
    calls: dict[Any, str] = {}
    last = {number: i for i, step in enumerate(steps) for number in step.reads | step.makes}
    held = {*results, *(number for several in given for number in several), *tape.constants}

    def text(value: Any) -> str:
        if isinstance(value, Slot):
            return f"t{value.number}"
        if isinstance(value, list) and slots(value):
            return f"[{', '.join(map(text, value))}]"
        if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            return repr(value)
        names[f"c{len(names)}"] = value
        return f"c{len(names) - 1}"

    lines = [f"{_all(several)} = given{i}" for i, several in enumerate(given) if several]
    for i, step in enumerate(steps):
        name = calls.setdefault(step.call, f"f{len(calls)}")
        arguments = ", ".join([*map(text, step.args), *(f"{key}={text(value)}" for key, value in step.kwargs.items())])
        into = ""
        if isinstance(step.out, Slot) and step.out.number not in step.reads:  # else it worked in place
            into = f"t{step.out.number} = "
        elif isinstance(step.out, list) and step.out:
            own = (slot is not None and slot.number not in step.reads for slot in step.out)
            into = (
                ", ".join(f"t{slot.number}" if new else "_" for slot, new in zip(step.out, own, strict=True)) + ", = "
            )
        lines.append(f"{into}{name}({arguments})")
        if dead := [f"t{n}" for n in sorted(step.reads | step.makes) if last[n] == i and n not in held]:
            lines.append(f"del {', '.join(dead)}")
    lines.append(f"return {_all(results)}")
    names |= {name: getattr(call, "_op", call) for call, name in calls.items()}  # past a layer of Python
    header = f"def run({', '.join(f'given{i}' for i in range(len(given)))}):"
    exec(compile("\n    ".join([header, *lines]), "<a recording>", "exec"), names)  # of names and numbers alone
    run: Callable[..., Tensors] = names["run"]
    return run


def _all(numbers: Sequence[int]) -> str:
    return f"({''.join(f't{number}, ' for number in numbers)})"
