"""Dataclasses to strict JSON and back, led by their own annotations.

What is read may have been cut, edited or made by somebody else, so every value is held to its annotation: a wrong one
is a `ValueError` that names it (`rungs[0].curves[3].lr is 'x', not a number`).
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

__all__ = ["Loss", "Lr", "decode", "decode_fields", "encode", "plain"]


def plain(value: float | None) -> float | None:
    """A float as strict JSON has it: None where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def encode(value: Any) -> Any:
    """Plain data: mappings, lists, text and finite numbers; what is none of these is left for `json` to refuse."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, float):
        return plain(value)
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [encode(v) for v in value]
    return value


def decode(kind: Any, value: Any, where: str) -> Any:
    """The inverse of `encode`: a value of the annotated kind.

    Args:
        kind: an annotation: a dataclass, a tuple or mapping of such, a scalar, a union with None.
        value: what `json` read.
        where: what errors call it.

    Raises:
        ValueError: the value is of another kind.
    """
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return args[1](value, where)
    if origin in (Union, types.UnionType):
        return None if value is None else decode(next(a for a in args if a is not type(None)), value, where)
    if origin is Literal:
        return value if value in args else _refuse(value, where, f"one of {', '.join(map(str, args))}")
    if origin is tuple:
        return _tuple(args, value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _must_be(dict, value, where)
        return {k: decode(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if is_dataclass(kind):
        data, own = _must_be(dict, value, where), getattr(kind, "from_json", None)
        return own(data, where) if own else decode_fields(kind, data, where)
    return _scalar(kind, value, where)


def decode_fields(cls: Any, data: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a mapping; keys that it does not know are those of a newer version, and passed over."""
    prefix = f"{where}." if where else ""
    hints = _hints(cls)
    return cls(
        **{
            f.name: decode(hints[f.name], data[f.name], prefix + f.name)
            for f in fields(cls)
            if f.name in data or _must_have(f, prefix)
        }
    )


def _loss(value: Any, where: str) -> float:
    return math.inf if value is None else _number(value, where)


def _lr(value: Any, where: str) -> float:
    lr = _number(value, where)
    return lr if 1e-100 < lr < 1e100 else _refuse(value, where, "a learning rate")


Loss = Annotated[float, _loss]  # a diverged loss is inf, for which JSON has no number: it is null there
Lr = Annotated[float, _lr]


_WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float:
        return _number(value, where)
    if kind is type(None):
        return value if value is None else _refuse(value, where, "null")
    return _must_be(kind, value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        _refuse(value, where, "a number")
    return float(value)


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    _must_be(list, value, where)
    kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
    if len(kinds) != len(value):
        _refuse(value, where, f"a list of {len(kinds)}")
    return tuple(decode(kind, v, f"{where}[{i}]") for i, (kind, v) in enumerate(zip(kinds, value, strict=True)))


def _must_be(kind: Any, value: Any, where: str) -> Any:
    fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return value if fits else _refuse(value, where, _WORDS[kind])


def _must_have(field: Field[Any], prefix: str) -> bool:
    if field.default is MISSING and field.default_factory is MISSING:
        raise ValueError(f"{prefix}{field.name} is missing")
    return False


def _refuse(value: Any, where: str, wanted: str) -> Any:
    said = repr(value)
    raise ValueError(f"{where or 'it'} is {said if len(said) < 40 else said[:36] + ' ...'}, not {wanted}")


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)
