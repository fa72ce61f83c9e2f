"""Recorded operations as kernels that torch's inductor writes: many of them in one pass over memory.

The compiler gets a list of operations, not a model: nothing is traced again, and nothing is looked at in a call. That
takes 3 to 6 s for a small network and 7 to 12 s for a small transformer on two cores.
"""

from __future__ import annotations

import operator
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from .randomness import start_cuda
from .tape import Slot, Step, slots

__all__ = ["COMPILED_AT", "Graph", "Kernels", "NotCompiled", "seconds_to_compile"]

COMPILED_AT = 2  # steps of a training before its kernels: by the first it is recorded, by the second proven
CACHE_FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # the compiler sets it in the environment
# Noise as torch draws it uncompiled; and no processes beside this one to compile in.
OPTIONS = {"fallback_random": True, "compile_threads": 1}


class NotCompiled(Exception):
    """There are no kernels for these operations; the message says why."""


class Kernels:
    """Compiled operations.

    Args:
        run: takes arguments and constants, and returns what is new among the results.
        constants: tensors from elsewhere.
        results: where each result stands in the arguments followed by what is new.
    """

    def __init__(self, run: Callable[..., Sequence[Tensor]], constants: list[Tensor], results: list[int]) -> None:
        self._run, self._constants, self._results = run, constants, results

    def __call__(self, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The results on these arguments, some of which they may change."""
        with torch.no_grad():
            all_of_it = [*given, *self._run(*given, *self._constants)]
        return tuple(all_of_it[i] for i in self._results)


def seconds_to_compile(operations: int, updates: int = 1) -> float:
    """About how long a step takes to compile, of so many operations and updates of param groups.

    As measured on two cores: 71 operations and an update 5.6 s, 215 and two 11.9 s.
    """
    return 1 + 0.04 * operations + 1.5 * updates


class Graph:
    """Operations in order, to be compiled.

    Args:
        constants: tensors that they have from elsewhere, by their slots.
        steps: the operations.
        given: the slots of their arguments.
        results: the slots of what they return.
    """

    def __init__(
        self, constants: Mapping[int, Tensor], steps: Sequence[Step], given: Sequence[int], results: Sequence[int]
    ) -> None:
        self._constants, self._steps, self._given, self._results = constants, steps, given, results

    def compiled(self, given: Sequence[Tensor]) -> Kernels:
        """Kernels for arguments like these.

        Raises:
            NotCompiled: an operation is none of torch's, or the compiler fails: there may be none of C++.
        """
        for step in self._steps:
            if not isinstance(step.call, torch._ops.OpOverload):
                raise NotCompiled("the model asks tensors for their values")
        new = [number for number in self._results if number not in self._given]
        used = slots([[step.args, list(step.kwargs.values())] for step in self._steps]) | set(self._results)
        constants = [number for number in self._constants if number in used and number not in self._given]
        module = self._module([*self._given, *constants], new)
        tensors = [self._constants[number] for number in constants]
        examples: list[Any] = [tensor.detach() for tensor in [*given, *tensors]]
        try:
            run = _compile(module, examples)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            raise NotCompiled(f"the compiler failed ({type(error).__name__}: {first})") from error
        return Kernels(run, tensors, [[*self._given, *new].index(number) for number in self._results])

    def _module(self, arguments: Sequence[int], results: Sequence[int]) -> fx.GraphModule:
        graph = fx.Graph()
        nodes = {number: graph.placeholder(f"t{number}") for number in arguments}

        def noded(value: Any) -> Any:
            if isinstance(value, Slot):
                return nodes[value.number]
            return [noded(v) for v in value] if isinstance(value, list) else value

        for step in self._steps:
            kwargs = {name: noded(value) for name, value in step.kwargs.items()}
            node = graph.call_function(step.call, tuple(map(noded, step.args)), kwargs)
            if isinstance(step.out, Slot):
                nodes.setdefault(step.out.number, node)  # it is there already where the operation worked in place
            elif isinstance(step.out, list):
                for i, slot in enumerate(step.out):
                    if slot is not None and slot.number not in nodes:
                        nodes[slot.number] = graph.call_function(operator.getitem, (node, i))
        graph.output(tuple(nodes[number] for number in results))
        return fx.GraphModule({}, graph)


def _compile(module: fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
    """What inductor makes of a module, and nothing else changed of what it changes on its way."""
    import torch._inductor as inductor  # it takes a second to import
    from torch._inductor import config

    if torch.cuda.is_available():  # it would start it, also to compile for the CPU
        start_cuda()
    folder, recursion = os.environ.get(CACHE_FOLDER), sys.getrecursionlimit()
    try:
        with torch.no_grad(), warnings.catch_warnings(), config.patch(OPTIONS):
            warnings.simplefilter("ignore")
            run: Callable[..., Any] = inductor.compile(module, examples)
        return run
    finally:
        sys.setrecursionlimit(recursion)
        if folder is None:
            os.environ.pop(CACHE_FOLDER, None)
