"""Nested plain data with tensors in it: taken apart into plain values and a flat dict of tensors, and put back.

A tree is nested dicts, lists and tuples with plain values at the ends; a tensor is a `Ref` into the flat dict.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..records.run import exact

__all__ = ["LEFT", "Ref", "Take", "from_json", "put_back", "take_apart", "to_json"]

Take = Callable[[str, Tensor], "Ref"]


class Ref:
    """Where in the flat dict a tensor is."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class _Left:
    """In place of a value that a file cannot hold (a function, say): it stays what it is."""


LEFT = _Left()
_ENDS = {float, int, bool, str, type(None)}


def take_apart(value: Any, key: str, take: Take) -> Any:
    """The tree of a value: containers are copied, tensors given to `take`, other objects kept as they are."""
    if isinstance(value, Tensor):
        return take(key, value)
    if type(value) in _ENDS:
        return value
    if isinstance(value, dict):
        return {k: take_apart(v, f"{key}.{k}", take) for k, v in value.items()}
    if isinstance(value, list):
        return [take_apart(v, f"{key}.{i}", take) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return tuple(take_apart(v, f"{key}.{i}", take) for i, v in enumerate(value))
    return copy.deepcopy(value) if isinstance(value, np.ndarray | set) else value


def put_back(now: Any, then: Any, fill: Callable[[Any, Ref], Tensor]) -> Any:
    """The value that a tree stands for, made out of what is there now wherever possible.

    Args:
        now: the present value; its dicts and lists are changed in place.
        then: the tree.
        fill: given the present value and a `Ref`, writes into it, or returns another tensor.
    """
    if isinstance(then, Ref):
        return fill(now, then)
    if isinstance(then, dict):
        into: Any = now if isinstance(now, dict) else {}
        for key in into.keys() - then.keys():
            del into[key]
        for key, value in then.items():
            if value is not LEFT or key in into:
                into[key] = put_back(into.get(key), value, fill)
        return into
    if isinstance(then, list):
        if not (isinstance(now, list) and len(now) == len(then)):
            return [put_back(None, value, fill) for value in then]
        now[:] = [put_back(n, t, fill) for n, t in zip(now, then, strict=True)]
        return now
    if isinstance(then, tuple):
        same = isinstance(now, tuple) and len(now) == len(then)
        values = [put_back(n, t, fill) for n, t in zip(now if same else [None] * len(then), then, strict=True)]
        return type(then)(*values) if hasattr(then, "_fields") else tuple(values)
    if then is LEFT:
        return now
    return copy.deepcopy(then) if isinstance(then, np.ndarray | set) else then


def to_json(tree: Any) -> Any:
    """A tree as JSON; what JSON has no form for becomes `LEFT`."""
    if tree is None or isinstance(tree, str | bool):
        return tree
    if isinstance(tree, float):
        text = exact(float(tree))
        return text if isinstance(text, float) else {"float": text}
    if isinstance(tree, int):
        return int(tree)
    if isinstance(tree, np.generic):
        return to_json(tree.item())
    if isinstance(tree, Ref):
        return {"tensor": tree.key}
    if isinstance(tree, dict):
        return {"dict": [[to_json(key), to_json(value)] for key, value in tree.items()]}
    if isinstance(tree, list):
        return [to_json(value) for value in tree]
    if isinstance(tree, tuple) and not hasattr(tree, "_fields"):
        return {"tuple": [to_json(value) for value in tree]}
    if isinstance(tree, torch.dtype | torch.device):
        return {type(tree).__name__: str(tree).removeprefix("torch.")}
    return {"left": True}


def from_json(data: Any) -> Any:
    """The inverse of `to_json`."""
    if isinstance(data, list):
        return [from_json(value) for value in data]
    if not isinstance(data, dict):
        return data
    ((kind, own),) = data.items()
    if kind == "float":
        return float(own)
    if kind == "tensor":
        return Ref(own)
    if kind == "dict":
        return {from_json(key): from_json(value) for key, value in own}
    if kind == "tuple":
        return tuple(from_json(value) for value in own)
    if kind == "dtype":
        return getattr(torch, own)
    return torch.device(own) if kind == "device" else LEFT
