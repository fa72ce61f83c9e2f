"""A schedule's JSON as the expression that makes it again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["schedule_code"]


def schedule_code(data: Mapping[str, Any]) -> tuple[str, set[str]] | None:
    """A schedule's JSON as the expression that makes it, and the names it needs; None if it is unknown here.

    >>> parts = [{"kind": "warmup", "length": "5%", "start": None}, {"kind": "cosine", "to": 0.0}]
    >>> code, names = schedule_code({"kind": "then", "parts": parts})
    >>> print(code, sorted(names))
    warmup(length="5%") >> cosine(to=0.0) ['cosine', 'warmup']
    """
    names: set[str] = set()
    try:
        return _expression(data, names), names
    except (KeyError, TypeError, ValueError):
        return None


def _expression(data: Mapping[str, Any], names: set[str]) -> str:
    kind = data["kind"]
    if kind == "then":
        return " >> ".join(_grouped(part, names, within="then") for part in data["parts"])
    if kind == "times":
        factors = [_grouped(part, names, within="times") for part in data["parts"]]
        if data["scale"] != 1.0:
            factors.append(_literal(data["scale"]))
        return " * ".join(factors)
    if kind == "bound":
        per_epoch = data.get("steps_per_epoch")
        full = data.get("full") or data["horizon"]
        code = f"{_grouped(data['schedule'], names, within='bound')}.bind({full:d}"
        code += f", steps_per_epoch={per_epoch:g})" if per_epoch else ")"
        return code + (f".rescale({data['horizon']:d})" if full != data["horizon"] else "")
    if not isinstance(kind, str) or not kind.isidentifier() or kind == "foreign":
        raise ValueError(kind)
    names.add(kind)
    args = {k: v for k, v in data.items() if k not in ("kind", "schema") and v is not None}
    return f"{kind}({', '.join(f'{k}={_literal(v)}' for k, v in args.items())})"


def _grouped(data: Mapping[str, Any], names: set[str], within: str) -> str:
    """An inner expression, in brackets where it binds less tightly than its surroundings."""
    code = _expression(data, names)
    loose = {"then": ("then",), "times": ("then", "times"), "bound": ("then", "times")}[within]
    return f"({code})" if data["kind"] in loose else code


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, bool) or not isinstance(value, (int, float, list, tuple)):
        raise TypeError(value)
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_literal(v) for v in value)},)"
    if not math.isfinite(value):
        raise ValueError(value)
    return repr(value)
