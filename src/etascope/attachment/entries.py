"""The entries of a param group that a schedule can drive: numbers, one-element tensors, and the two betas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from ..errors import OptionError

__all__ = ["PEAK", "Group", "entry", "keep_tensors", "lr_scale", "read", "replace_tensors", "writer"]

Group: TypeAlias = dict[str, Any]

# Where a handle leaves the peak of a group's lr: it travels in copies and saved states, which hold the lr of some step.
PEAK = "peak_lr"

_BETAS = {"beta1": 0, "beta2": 1}


def entry(group: Group, key: str) -> Any:
    """What the group has under the key; None if that is no number. "beta1" and "beta2" mean those of "betas"."""
    value = group.get(key)
    if key in _BETAS and key not in group:
        betas = group.get("betas")
        value = betas[_BETAS[key]] if isinstance(betas, tuple | list) and len(betas) > _BETAS[key] else None
    if isinstance(value, torch.Tensor):
        return value if value.numel() == 1 and value.is_floating_point() else None
    return value if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool) else None


def read(group: Group, key: str, index: int) -> float:
    """The value as a float.

    Raises:
        OptionError: the group has no such number; lists those that it has.
    """
    if (value := entry(group, key)) is not None:
        if math.isfinite(number := float(value)):
            return number
        raise OptionError(f"{key!r} of param group {index} is {number}.", "Set a finite number first.")
    has = [name for name in [*group, *_BETAS] if name not in ("params", PEAK) and entry(group, name) is not None]
    wrong = f"{group[key]!r}, which is no number" if key in group else "not there"
    raise OptionError(f"{key!r} of param group {index} is {wrong}.", f"The numbers of that group are {', '.join(has)}.")


def lr_scale(group: Group, index: int) -> float:
    """What an explicit peak lr is multiplied by in this group; 1 unless it says otherwise."""
    return read({"lr_scale": 1.0, **group}, "lr_scale", index)


def writer(group: Group, key: str) -> Callable[[float], object] | None:
    """What writes the entry; None for a plain number, which `group[key] = value` writes.

    A tensor is written in place, so that nothing that was compiled or captured with it has to be made anew.
    """
    value = entry(group, key)
    if isinstance(value, torch.Tensor):
        return value.fill_
    if key in group or key not in _BETAS:
        return None
    at = _BETAS[key]

    def write(value: float) -> None:
        betas = list(group["betas"])
        betas[at] = value
        group["betas"] = type(group["betas"])(betas)

    return write


def keep_tensors(group: Group, keys: Sequence[str]) -> dict[str, torch.Tensor]:
    """The group's tensors under these keys, each now a clone that nothing else holds (`defaults` and others do)."""
    found = {key: value for key in keys if isinstance(value := entry(group, key), torch.Tensor)}
    own = {key: value.detach().clone() for key, value in found.items()}
    replace_tensors(group, own)
    return own


def replace_tensors(group: Group, tensors: dict[str, torch.Tensor]) -> None:
    """Put these where the group has a tensor now."""
    for key, tensor in tensors.items():
        if not isinstance(entry(group, key), torch.Tensor):
            continue
        if key in group:
            group[key] = tensor
        else:
            betas = list(group["betas"])
            betas[_BETAS[key]] = tensor
            group["betas"] = type(group["betas"])(betas)
