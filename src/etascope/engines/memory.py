"""What memory training takes, told from the tensors of a task and one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from ..records import Engine as Ran
from .base import Setting
from .blame import user_code
from .data import CACHE_BYTES, tensors
from .prepared import Prepared
from .randomness import kept

__all__ = ["Need", "keep_freed", "memory", "need_of"]

BLOCK_BYTES = 2**25 - 2**16  # the largest whose freeing moves glibc's thresholds, less a margin
COPIES = 6  # of what is optimized: parameters, gradients, two states and two passing copies


@dataclass(frozen=True)
class Need:
    """Bytes of a stack of lanes.

    Args:
        shared: of what is held once: parameters that are not optimized, and buffers.
        lane: of what each lane has its own: parameters, gradients, optimizer state, and what backward needs.
        step: of the batches of one step, where they are not the user's own tensors.
    """

    shared: int
    lane: int
    step: int

    def lanes(self, most_bytes: int) -> int:
        """As many lanes as fit; at least one."""
        return max(1, (most_bytes - self.shared) // self.lane)


def need_of(prepared: Prepared, seeds: Sequence[int]) -> Need:
    """What training under these seeds takes, as the first one shows."""
    with kept():
        objective = prepared.objective(seeds[0])
        optimizer, _ = prepared.optimizer(objective.model, 1e-3)
        optimized = {id(q) for group in optimizer.param_groups for q in group["params"]}
        named = dict([*objective.named_parameters(), *objective.named_buffers()])
        other = {} if _is_same(prepared, seeds) else dict(prepared.objective(seeds[1]).named_parameters())
        shared, own = 0, 0
        for name, tensor in named.items():
            if id(tensor) in optimized:
                own += COPIES * _bytes(tensor)
            elif name in other and not torch.equal(tensor, other[name]):
                own += _bytes(tensor)
            else:
                shared += _bytes(tensor)
        batch = next(prepared.batches(seeds[0], -1))
        own += 2 * _activation_bytes(prepared, objective, batch)  # and their gradients
    is_users = not callable(prepared.task.train) and isinstance(prepared.task.train, Sequence)
    copied = prepared.device.type != "cpu" or not is_users
    return Need(shared, own, sum(_bytes(t) for t in tensors(batch)) * prepared.task.accumulate * copied)


def memory(prepared: Prepared, ran: Ran, units: Sequence[Sequence[Setting]]) -> int:
    """About what memory training these units takes at most, in bytes, beside that of torch itself and of the data."""
    seeds = list(dict.fromkeys(s.seed for unit in units for s in unit))
    need, lanes = need_of(prepared, seeds), max(len(unit) for unit in units) if ran.engine == "lanes" else 1
    batches = min(CACHE_BYTES, prepared.horizon * need.step)
    return min(ran.workers, len(units)) * (need.shared + lanes * need.lane + batches)


@cache
def keep_freed() -> None:
    """Have the C library keep what a step frees, up to 64 MiB, for the next step to take.

    glibc gives freed memory at the end of the heap back to the system, and every page of it is then faulted in and
    cleared again: in every step, or in none, as the heap happens to lie (two starts of fourteen, which then took 1.8
    times as long). What it keeps grows with the largest block that was ever freed; so one is, of which no page is
    touched.
    """
    torch.empty(BLOCK_BYTES, dtype=torch.uint8, device="cpu")


def _is_same(prepared: Prepared, seeds: Sequence[int]) -> bool:
    return len(seeds) == 1 or isinstance(prepared.task.model, nn.Module)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _activation_bytes(prepared: Prepared, objective: nn.Module, batch: object) -> int:
    """Bytes that one forward pass keeps for its gradient, beside the model."""
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # held by the graph, so that no address is used twice

    with (
        user_code("loss"),
        prepared.autocast(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        _ = objective(batch)
    for own in (*objective.parameters(), *objective.buffers()):
        saved.pop(own.untyped_storage().data_ptr(), None)
    return sum(saved.values())
