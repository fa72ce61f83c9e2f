"""A straight line through means of blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["slope_over"]


def slope_over(values: Sequence[float]) -> tuple[float, float]:
    """The least-squares slope per value, and its standard error.

    >>> slope_over([1.0, 2.0, 3.0])
    (1.0, 0.0)
    """
    y = np.asarray(values, dtype=float)
    x = np.arange(len(y)) - (len(y) - 1) / 2
    sxx = float((x * x).sum())
    slope = float((x * y).sum()) / sxx
    rest = y - y.mean() - slope * x
    return slope, float(np.sqrt((rest * rest).sum() / max(1, len(y) - 2) / sxx))
