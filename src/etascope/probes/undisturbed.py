"""Running a model for a look at it, and leaving everything as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["undisturbed", "write_over"]


@contextlib.contextmanager
def undisturbed(parameters: Sequence[Tensor], model: nn.Module | None) -> Iterator[Callable[[], None]]:
    """Whatever happens within, parameters, buffers and random states are put back to the bit, in place.

    Gives a function that puts buffers and random states back within, so that a second pass sees what the first did.

    Args:
        parameters: put back at the end only.
        model: the one whose buffers are put back; None if there are none to care for.
    """
    saved = [parameter.detach().clone() for parameter in parameters]
    buffers = [
        (module._buffers, name, tensor, tensor.detach().clone())
        for module in (model.modules() if model is not None else ())
        for name, tensor in module._buffers.items()
        if tensor is not None and not tensor.is_meta
    ]
    of_torch, of_python, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    devices = sorted({p.device.index or 0 for p in parameters if p.is_cuda})
    of_cuda = [torch.cuda.get_rng_state(device) for device in devices]

    @torch.no_grad()
    def again() -> None:
        for own, name, tensor, values in buffers:
            write_over(tensor, values)
            own[name] = tensor
        torch.set_rng_state(of_torch)
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        for device, state in zip(devices, of_cuda, strict=True):
            torch.cuda.set_rng_state(state, device)

    try:
        yield again
    finally:
        again()
        with torch.no_grad():
            for parameter, values in zip(parameters, saved, strict=True):
                write_over(parameter, values)


def write_over(tensor: Tensor, values: Tensor) -> None:
    """Copy into a tensor, one that was expanded included: it has only as many elements as lie in memory."""
    tensor = tensor.detach()
    for dim, (stride, size) in enumerate(zip(tensor.stride(), tensor.shape, strict=True)):
        if stride == 0 and size > 1:
            tensor, values = tensor.narrow(dim, 0, 1), values.narrow(dim, 0, 1)
    tensor.copy_(values)
