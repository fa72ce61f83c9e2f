"""What torch does for a lane that has it by itself, and not under `vmap`.

That is: rates of dropout and of label smoothing as tensors, since they differ from lane to lane; and normalisations in
mixed precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["LaneFunctions", "dropout"]


class LaneFunctions(TorchFunctionMode):
    """While it is entered, torch's dropout takes a tensor as `p`, and its cross entropy one as `label_smoothing`.

    Normalisations take an input of less precision than their weights.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take the place of a function that was given such a tensor; leave any other call as it is."""
        kwargs = kwargs or {}
        if func in _DROPOUT and isinstance(kwargs.get("p"), Tensor):
            return dropout(args[0], kwargs["p"], kwargs["training"], _DROPOUT[func](args[0]))
        if func is F.cross_entropy and isinstance(smoothing := kwargs.get("label_smoothing"), Tensor):
            # it is linear in the smoothing
            plain, smooth = (func(*args, **kwargs | {"label_smoothing": end}) for end in (0.0, 1.0))
            return plain + smoothing.to(plain.dtype) * (smooth - plain)
        if func in _NORMS and args[0].dtype in (torch.float16, torch.bfloat16):
            # in float32 as torch does inside; on CUDA, autocast has it so but for batch normalisation
            x = args[0] if args[0].is_cuda and func is not F.batch_norm else args[0].float()
            out = func(x, *args[1:], **kwargs)
            return out.to(args[0].dtype) if x is not args[0] else out
        return func(*args, **kwargs)


def dropout(x: Tensor, p: Tensor, training: bool, shape: torch.Size) -> Tensor:
    """x with a share p of its entries set to 0, the others times 1 / (1 − p).

    Args:
        x: any tensor.
        p: the rate, of no dimension.
        training: False returns x as it is.
        shape: of the mask; ones where entries are dropped together.
    """
    if not training:
        return x
    keep = 1 - p
    mask = torch.rand(shape, device=x.device) < keep
    return x * (mask / keep.clamp(min=torch.finfo(keep.dtype).tiny)).to(x.dtype)


def _channels(unbatched: int | None) -> Callable[[Tensor], torch.Size]:
    """The mask's shape where whole channels are dropped; `unbatched`: dimensions of an input without a batch."""

    def shape(x: Tensor) -> torch.Size:
        leading = 1 if x.dim() == unbatched else 2
        return torch.Size([*x.shape[:leading], *[1] * (x.dim() - leading)])

    return shape


_DROPOUT: dict[Any, Callable[[Tensor], torch.Size]] = {
    F.dropout: lambda x: x.shape,
    F.dropout1d: _channels(2),
    F.dropout2d: _channels(None),  # three dimensions are taken as a batch of (C, L), as torch does
    F.dropout3d: _channels(4),
}
_NORMS = {F.batch_norm, F.group_norm, F.layer_norm}
