"""Explicit randomness: seeds derived by name, and a border that leaves the user's random states alone."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = [
    "Source",
    "derive",
    "kept",
    "modes",
    "put_back",
    "seed_all",
    "set_modes",
    "start_cuda",
    "states",
    "undisturbed",
]


def derive(*parts: object) -> int:
    """A seed in [0, 2³¹) from any values: the same on every machine and in every process.

    >>> derive("data", 3, 100) == derive("data", 3, 100) != derive("data", 4, 100)
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") & 0x7FFF_FFFF


def seed_all(*parts: object) -> None:
    """Seed Python's, NumPy's and torch's (every started device's) generators from `derive(*parts)`.

    Not by `torch.manual_seed`: before CUDA is started that queues a seed for it, in place of one that the user queued.
    """
    seed = derive(*parts)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)


_cuda_at_start: list[torch.Tensor] = []  # what a border that was drawn before `start_cuda` gives back


def start_cuda() -> None:
    """Start CUDA, if nobody has, and note its states: only then has it any."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.init()  # type: ignore[no-untyped-call]
        _cuda_at_start[:] = torch.cuda.get_rng_state_all()


def states() -> tuple[Any, ...]:
    """Where all global generators stand."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda


def put_back(at: tuple[Any, ...]) -> None:
    """Set all global generators to where they stood."""
    python, numpy, cpu, cuda = at
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda or _cuda_at_start:
        torch.cuda.set_rng_state_all(cuda or _cuda_at_start)


@contextmanager
def kept() -> Iterator[None]:
    """Give back every global random state as it was, whatever happens."""
    before = states()
    try:
        yield
    finally:
        put_back(before)


class Source:
    """Global randomness of its own, from `derive(*parts)`: what is drawn inside goes on where it stopped last.

    So an augmentation that draws from the global generators neither moves the training's noise nor depends on it.
    """

    def __init__(self, *parts: object) -> None:
        self._parts = parts
        self._at: tuple[Any, ...] | None = None

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Draw from this source; the outer states stand still."""
        with kept():
            if self._at is None:
                seed_all(*self._parts)
            else:
                put_back(self._at)
            yield
            self._at = states()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Give back every global random state, torch's thread count, grad and denormal mode as they were, whatever happens.

    Inside, denormals are flushed to zero: learning rates that are too large or too small are full of them, and a CPU
    takes up to fifteen times as long over each (an LSTM of 94k parameters at lr 0.1: 49.5 s against 3.4 s).
    """
    before = states()
    threads, grad, flushed = torch.get_num_threads(), torch.is_grad_enabled(), _flushes_denormals()
    try:
        torch.set_flush_denormal(True)
        with torch.enable_grad():
            yield
    finally:
        put_back(before)
        torch.set_grad_enabled(grad)
        torch.set_flush_denormal(flushed)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def modes() -> tuple[Any, ...]:
    """What of torch's global state decides types and rounding, for a process that is to compute the same."""
    return (
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        _flushes_denormals(),
    )


def set_modes(dtype: torch.dtype, precision: str, deterministic: bool, warns: bool, flushes: bool) -> None:
    """Compute as the process does whose `modes()` these are."""
    torch.set_default_dtype(dtype)
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(deterministic, warn_only=warns)
    torch.set_flush_denormal(flushes)


def _flushes_denormals() -> bool:
    return bool(torch.tensor(1e-39, dtype=torch.float32).mul(1.0) == 0)  # torch has no getter
