"""A stack's update as compiled kernels, checked against what they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..rules import State, Update, UpdateFunction, by_parts
from .compiled import NotCompiled
from .recording import record
from .replay import agree
from .tape import Otherwise

__all__ = ["compiled_update"]


def compiled_update(
    update: Update, params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int
) -> UpdateFunction:
    """The update as kernels for tensors like these; the update itself where there can be none.

    They serve every step, since its number is a tensor to them; where a rule asks what step it is, and would do
    something else, the update itself does it. Param groups have kernels of their own.
    """
    try:
        if not (parts := update.parts(params_LP, state)):
            return _kernels(update, params_LP, grads_LP, state, lr_L1, t)
        of_parts = [
            (at, _kernels(own, params_LP[:, at], grads_LP[:, at], {n: s[:, at] for n, s in state.items()}, lr_L1, t))
            for at, own in parts
        ]
        return partial(by_parts, of_parts)
    except Exception:  # whatever it is: the update itself does
        return update


def _kernels(
    update: Update, params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int
) -> UpdateFunction:
    """An update as kernels.

    Raises:
        NotRecorded: it asks for something that is no tensor operation.
        NotCompiled: the compiler failed, or its kernels give something else.
    """
    names = list(state)

    def of_tensors(_: Sequence[Tensor], fresh: Sequence[Tensor]) -> Sequence[Tensor]:
        params, grads, lr, at, *numbers = fresh
        given = dict(zip(names, numbers, strict=True))
        moved, new = update(params, grads.clone(), given, lr, at)  # type: ignore[arg-type]  # a tensor, for this
        return [moved, *(new[name] for name in names)]

    def tensors(params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int) -> list[Tensor]:
        at = torch.tensor(t, dtype=lr_L1.dtype, device=lr_L1.device)
        return [params_LP, grads_LP, lr_L1, at, *(state[name] for name in names)]

    def kernels(params_LP: Tensor, grads_LP: Tensor, state: State, lr_L1: Tensor, t: int, /) -> tuple[Tensor, State]:
        try:
            moved, *new = recording([], tensors(params_LP, grads_LP, state, lr_L1, t), compiled=True)
        except (Otherwise, AssertionError):  # either comes before anything is changed
            return update(params_LP, grads_LP, state, lr_L1, t)
        return moved, dict(zip(names, new, strict=True))

    def copies() -> list[Tensor]:
        """As they are, strides too."""
        return [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device).copy_(x) for x in given]

    given = tensors(params_LP, grads_LP, state, lr_L1, t)
    truth, recording = record(of_tensors, [], copies())
    recording.compile([], copies())
    if not agree(recording([], copies(), compiled=True), truth, exactly=False):
        raise NotCompiled("compiled kernels give something else")
    return kernels
