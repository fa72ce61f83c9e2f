"""Faults of a training that are not its lr: what `diagnose.py` breaks runs with whose lr lies inside the zone.

shuffled   the targets belong to other examples (for characters alone: each row's characters in a random order)
clipped    every gradient is clipped, to a hundredth of its norm at init
dead       one hidden layer gives zeros, and gets no gradient
corrupt    every tenth batch is broken: numbers times 1,000, words or characters at random
unzeroed   gradients are never zeroed, so each update has all earlier ones in it
sorted     the data comes in the order of its targets, unshuffled
decay      weight decay takes a twentieth of every weight at each step at the peak lr
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta

__all__ = ["KINDS", "Broken", "NotHere", "fault"]

KINDS = ("shuffled", "clipped", "dead", "corrupt", "unzeroed", "sorted", "decay")
SGD = ("SGD",)


class NotHere(Exception):
    """This kind of fault cannot be had on this task."""


@dataclass(frozen=True)
class Broken:
    """How a run is broken.

    Args:
        task: what is trained in the place of the task.
        batch: (step, batch) -> what is trained on at that step.
        val: whether validation data is broken as well, in the log; what a run is worth is taken on the sound data.
        clip: the gradient's norm, as a share of that at init; None for the task's own clipping.
        zero: whether gradients are zeroed.
        decay: lr times weight decay; None for the task's own.
        layer: takes the model and kills a layer of it.
    """

    task: eta.Task
    batch: Callable[[int, Any], Any] = lambda step, batch: batch
    val: bool = False
    clip: float | None = None
    zero: bool = True
    decay: float | None = None
    layer: Callable[[nn.Module], str] | None = None


def fault(kind: str, name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    """A task with a fault.

    Args:
        kind: one of `KINDS`, or "" for none.
        name: the workload's.
        task: the workload.
        optimizer: the name of its class.
        seed: of what is random about the fault.

    Raises:
        NotHere: it has no such fault, or it would do nothing, as clipping does where a rule divides by the gradient.
    """
    if not kind:
        return Broken(task)
    return globals()[f"_{kind}"](name, task, optimizer, seed)


def _shuffled(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    # A list's batches come again and again: their targets stay with the wrong examples, as they would.
    again = isinstance(task.train, Sequence)

    def batch(step: int, tensors: Any) -> Any:
        generator = torch.Generator().manual_seed(seed if again else seed * 100_003 + step)
        *inputs, targets = tensors
        if name == "goodbooks-towers":  # what was liked, and what was not
            swap = torch.rand(len(targets), generator=generator) < 0.5
            user, book = inputs
            return [user, torch.where(swap, targets, book), torch.where(swap, book, targets)]
        if inputs:
            return [*inputs, targets[torch.randperm(len(targets), generator=generator)]]
        order = torch.rand(targets.shape, generator=generator).argsort(1)
        return [targets.gather(1, order)]

    first = next(iter(task.train))
    if len(first) == 1 and first[0].is_floating_point():
        raise NotHere("an autoencoder's targets are its inputs")
    return Broken(task, batch, val=bool(seed % 2))


def _clipped(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    if optimizer not in SGD:
        raise NotHere("the rule divides by the gradient's size")
    return Broken(task, clip=(0.01, 0.003)[seed % 2])


def _dead(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    def kill(model: nn.Module) -> str:
        layers = [(n, m) for n, m in model.named_modules() if hasattr(m, "weight") and m.weight.dim() > 1]
        layers = [(n, m) for n, m in layers if not isinstance(m, nn.Embedding)]
        hidden = layers[:-1]
        if not hidden:
            raise NotHere("there is no hidden layer")
        said, layer = hidden[(len(hidden) - 1) // 2 if seed % 2 else len(hidden) - 1]
        for tensor in layer.parameters(recurse=False):
            tensor.data.zero_()
            tensor.register_hook(torch.zeros_like)
        layer.register_forward_hook(lambda module, given, out: out * 0)
        return said

    return Broken(task, layer=kill)


def _corrupt(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    def broken(tensor: Tensor, step: int) -> Tensor:
        if tensor.is_floating_point():
            return tensor * 1000
        generator = torch.Generator().manual_seed(seed * 100_003 + step)
        # By column: those of a table have words of their own.
        most = tensor.amax(0, keepdim=True) + 1
        return (torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * most).long()

    def batch(step: int, tensors: Any) -> Any:
        if step % 10 != 9:
            return tensors
        if len(tensors) == 1:
            return [broken(tensors[0], step)]
        *inputs, targets = tensors
        return [*(broken(t, step) for t in inputs), targets]

    return Broken(task, batch)


def _unzeroed(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    return Broken(task, zero=False)


def _sorted(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    data = getattr(task.train, "dataset", None)
    if not isinstance(data, TensorDataset) or len(data.tensors) < 2 or data.tensors[-1].dim() > 1:
        raise NotHere("there is nothing to sort by")
    order = data.tensors[-1].argsort(stable=True)
    if name == "goodbooks-towers":  # by the book that was liked
        order = data.tensors[1].argsort(stable=True)
    rows = TensorDataset(*(t[order] for t in data.tensors))
    return Broken(replace(task, train=DataLoader(rows, batch_size=task.train.batch_size)))


def _decay(name: str, task: eta.Task, optimizer: str, seed: int) -> Broken:
    return Broken(task, decay=0.05)
