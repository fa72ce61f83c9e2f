"""`etascope tasks`: the built-in tasks."""

from __future__ import annotations

from .output import say

__all__ = ["tasks"]


def tasks() -> None:
    """List the built-in tasks."""
    from ..workloads import TASKS

    width = max(map(len, TASKS))
    say("\n".join(f"{entry.name:<{width}}  {entry.summary}" for entry in TASKS.values()))
