"""What text may call: every shape and recipe, by its name."""

from __future__ import annotations

from collections.abc import Callable

from . import cycles, drops, jitter, recipes, shapes
from .base import Schedule, Shape

__all__ = ["NAMES", "SHAPES"]

SHAPES: dict[str, type[Shape]] = {
    name: value
    for room in (shapes, drops, cycles, jitter)
    for name in room.__all__
    if isinstance(value := getattr(room, name), type) and issubclass(value, Shape)
}
NAMES: dict[str, Callable[..., Schedule]] = {**SHAPES, **{name: getattr(recipes, name) for name in recipes.__all__}}
