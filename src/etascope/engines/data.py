"""Batches: the user's data, read through loaders of our own.

A user's DataLoader is never iterated. One like it is built from the same dataset and `collate_fn`, with copies of
its samplers, reseeded for the setting: so neither its generator nor a sampler's position moves.
"""

from __future__ import annotations

import copy
import itertools
import mmap
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from ..errors import TaskError
from .base import Options
from .randomness import Source, derive

__all__ = ["Stream", "map_tensors", "nonfinite", "rebuild", "rows", "tensors"]

CACHE_BYTES = 512 * 2**20  # of one rung's training batches; larger streams are read again for each training
BLOCK_BYTES = 2**20  # of a shelf's first block; each further one has twice as many, up to the most
MOST_BLOCK_BYTES = 2**26
GATHERED_BYTES = 2**20  # of the rows that one lookup gathers, for many batches
ALIGNMENT = 64  # bytes, as torch's own tensors
# What is mapped is not shared with processes that are forked.
OWN: dict[str, int] = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


def map_tensors(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch of the same structure with every tensor changed: tuples, lists, dicts and other mappings, nested."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, tuple | list):
        changed = [map_tensors(value, change) for value in batch]
        return type(batch)(*changed) if hasattr(batch, "_fields") else type(batch)(changed)
    if isinstance(batch, Mapping):
        items = {key: map_tensors(value, change) for key, value in batch.items()}
        try:
            return type(batch)(items)  # type: ignore[call-arg]  # dict, and Hugging Face's BatchEncoding
        except TypeError:
            return items
    return batch


def tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, in order."""
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(batch, keep)
    return found


def rows(batch: Any) -> int:
    """The leading dimension of a batch's first tensor that has one: its number of examples."""
    return next((t.shape[0] for t in tensors(batch) if t.dim()), 1)


def nonfinite(batch: Any) -> str | None:
    """What is wrong with a batch's numbers, or None."""
    for i, tensor in enumerate(tensors(batch)):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            return f"tensor {i} (shape {tuple(tensor.shape)}) has {bad} of {tensor.numel()} values NaN or infinite"
    return None


class Shelf:
    """Keeps copies of tensors apart from the heap.

    A batch that stays, among the large tensors of a step that go, would lie in the way of the next step's: so the heap
    can grow by a part of a step's memory at every batch (by 10 GB in 5,258 steps of 16 matrix factorisations, which
    then took three times as long).
    """

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._bytes, self._used = BLOCK_BYTES // 2, 0

    def put(self, tensor: Tensor) -> Tensor:
        """A copy that stays; the tensor itself where it is none of plain numbers in a row on the CPU."""
        size = tensor.numel() * tensor.element_size()
        plain = type(tensor) is Tensor and tensor.layout == torch.strided and not tensor.is_quantized
        if not (plain and size and tensor.device.type == "cpu" and tensor.is_contiguous() and not tensor.requires_grad):
            return tensor
        if self._block is None or self._used + size > len(self._block):
            self._bytes = min(2 * self._bytes, MOST_BLOCK_BYTES)
            try:
                self._block, self._used = mmap.mmap(-1, max(self._bytes, size), **OWN), 0
            except OSError:  # no memory for a block; what there is already will do
                return tensor
        kept = torch.frombuffer(self._block, dtype=tensor.dtype, count=tensor.numel(), offset=self._used)
        self._used += -(-size // ALIGNMENT) * ALIGNMENT
        return kept.view(tensor.shape).copy_(tensor)


class Stream:
    """The training batches of one seed in one rung: the same again at every reading, while they fit in memory.

    Every reading gets the same objects, so a loss must be given copies.

    Args:
        data: the task's training data.
        seed: of its order and noise.
        device: where the batches go.
        options: what a function gets by name, beside the seed.
        keep: whether to hold batches in memory at all.
    """

    def __init__(self, data: Any, seed: int, device: torch.device, options: Options = (), *, keep: bool = True) -> None:
        self.data, self.seed, self.device, self.options = data, seed, device, dict(options)
        self.keep = keep
        self._gathers = _is_plain(data)
        self._kept: list[Any] = []
        self._shelf = Shelf()
        self._bytes = 0

    def batches(self) -> Iterator[Any]:
        """Endless batches on the device, from the first on; not to be changed."""
        most = CACHE_BYTES if self.keep else -1
        keep = self._bytes <= most
        kept = len(self._kept) if keep else 0
        yield from self._kept[:kept]
        source = Source("data", self.seed)
        inside = nullcontext if isinstance(self.data, Sequence) or self._gathers else source.inside
        read = itertools.islice(self._read(), kept, None)
        while True:
            with inside():
                batch = map_tensors(next(read), lambda t: t.to(self.device))
            if keep:
                if not (isinstance(self.data, Sequence) or self._gathers):  # the user holds them, or they are put away
                    batch = map_tensors(batch, self._shelf.put)
                self._kept.append(batch)
                self._bytes += sum(t.numel() * t.element_size() for t in tensors(batch))
                if not (keep := self._bytes <= most):
                    self._kept.clear()
                    self._shelf = Shelf()
            yield batch

    def _put_away(self, block: Tensor) -> Tensor:
        """Rows for many batches, apart from the heap where they may stay."""
        keeps = self.keep and self._bytes <= CACHE_BYTES and self.device.type == "cpu"
        return self._shelf.put(block) if keeps else block

    def _read(self) -> Iterator[Any]:
        own = rebuild(self.data, derive("data", self.seed)) if isinstance(self.data, DataLoader) else self.data
        for epoch in itertools.count():
            if isinstance(own, DataLoader):
                _set_epoch(own, epoch)
                if self._gathers:
                    yield from _some(_gathered(own, self._put_away), "train")
                    continue
            elif not isinstance(own, Sequence):
                epoch_data = own(derive("data", self.seed) + epoch, **self.options)
                yield from _some(epoch_data, "train (called with a seed)")
                continue
            yield from _some(own, "train")


def _is_plain(loader: Any) -> bool:
    """Whether it is a loader that does no more than put rows of tensors together, with no randomness but its order."""
    return (
        isinstance(loader, DataLoader)
        and type(loader.batch_sampler) is BatchSampler
        and type(loader.batch_sampler.sampler) in (RandomSampler, SequentialSampler)
        and type(loader.dataset) is TensorDataset
        and not hasattr(loader.dataset, "__getitems__")
        and loader.collate_fn is default_collate
        and loader.num_workers == 0
        and not loader.pin_memory
        and all(type(t) is Tensor and t.is_contiguous() and not t.requires_grad for t in loader.dataset.tensors)
    )


def _gathered(loader: DataLoader[Any], put_away: Callable[[Tensor], Tensor]) -> Iterator[list[Tensor]]:
    """What the loader would yield, by one lookup for many batches instead of one for each row.

    A small model's step takes as long as to put a batch together row by row.

    Args:
        loader: one that `_is_plain`.
        put_away: gets the rows of some batches, and gives what the batches are to be views of.
    """
    parts: Sequence[Tensor] = loader.dataset.tensors  # type: ignore[attr-defined]
    sampler = loader.batch_sampler
    assert isinstance(sampler, BatchSampler)
    size, row_bytes = sampler.batch_size, sum(part.shape[1:].numel() * part.element_size() for part in parts)
    for at in _numbers(sampler.sampler, size * max(1, GATHERED_BYTES // max(1, size * row_bytes))):
        at = at[: len(at) // size * size] if sampler.drop_last else at
        if len(at):
            blocks = [torch.split(put_away(part[at]), size) for part in parts]
            yield from map(list, zip(*blocks, strict=True))


def _numbers(sampler: Any, many: int) -> Iterator[Tensor]:
    """The numbers of the rows as the sampler gives them, so many at once; its generator moves as far."""
    if type(sampler) is RandomSampler and sampler.generator is not None and not sampler.replacement:
        n = len(sampler.data_source)
        if sampler.num_samples == n:  # as usual: no need to go through Python's numbers
            yield from torch.split(torch.randperm(n, generator=sampler.generator), many)
            torch.randperm(n, generator=sampler.generator)  # so torch does, to take none of it
            return
    numbers = iter(sampler)
    while some := list(itertools.islice(numbers, many)):
        yield torch.tensor(some)


def _some(batches: Iterable[Any], name: str) -> Iterator[Any]:
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise TaskError(
            f"{name} is empty: it has no batches.",
            "Check how the data is loaded; drop_last=True leaves nothing of a dataset smaller than a batch.",
        )


def rebuild(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    """A loader like the user's, over the same dataset, whose samplers and generators are copies seeded by `seed`."""
    generator = torch.Generator().manual_seed(seed)
    options: dict[str, Any] = {
        "num_workers": loader.num_workers,
        "collate_fn": loader.collate_fn,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "generator": generator,
    }
    if loader.num_workers:
        options |= {"prefetch_factor": loader.prefetch_factor, "persistent_workers": loader.persistent_workers}
    if isinstance(loader.dataset, IterableDataset):
        return DataLoader(loader.dataset, batch_size=loader.batch_size, drop_last=loader.drop_last, **options)
    if loader.batch_sampler is not None:
        return DataLoader(loader.dataset, batch_sampler=_own(loader.batch_sampler, loader, seed), **options)
    return DataLoader(loader.dataset, batch_size=None, sampler=_own(loader.sampler, loader, seed), **options)


def _own(sampler: Any, loader: DataLoader[Any], seed: int) -> Any:
    """A copy of a sampler, and of those inside it, that shares the dataset and draws from generators of its own."""
    memo: dict[int, Any] = {id(loader.dataset): loader.dataset}
    for level in _nested(sampler):
        for name in ("data_source", "dataset"):
            if (source := getattr(level, name, None)) is not None:
                memo[id(source)] = source
        for value in getattr(level, "__dict__", {}).values():
            if (fresh := _reseeded(value, derive("sampler", seed))) is not None:
                memo[id(value)] = fresh
    own = copy.deepcopy(sampler, memo)
    for level in _nested(own):
        if getattr(level, "generator", 0) is None:
            level.generator = torch.Generator().manual_seed(derive("sampler", seed))
        if hasattr(level, "set_epoch") and isinstance(getattr(level, "seed", None), int):
            level.seed = seed  # torch's DistributedSampler shuffles by seed + epoch
    return own


def _reseeded(value: Any, seed: int) -> Any:
    """A new generator of the same kind; None for what is no generator."""
    if isinstance(value, torch.Generator):
        return torch.Generator(value.device).manual_seed(seed)
    if isinstance(value, np.random.Generator):
        return np.random.default_rng(seed)
    if isinstance(value, np.random.RandomState):
        return np.random.RandomState(seed)
    return random.Random(seed) if isinstance(value, random.Random) else None


def _nested(sampler: Any) -> Iterator[Any]:
    while sampler is not None and not isinstance(sampler, list):
        yield sampler
        inner = getattr(sampler, "batch_sampler", None)
        sampler = getattr(sampler, "sampler", None) if inner is None else inner


def _set_epoch(loader: DataLoader[Any], epoch: int) -> None:
    for level in _nested(loader.sampler if loader.batch_sampler is None else loader.batch_sampler):
        if hasattr(level, "set_epoch"):
            level.set_epoch(epoch)
