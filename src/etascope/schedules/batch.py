"""The batch size that goes up where the learning rate would go down."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ScheduleError
from .base import Bound
from .units import as_count

__all__ = ["batch_sizes"]


def batch_sizes(bound: Bound, base: int, most: int | None = None, multiple_of: int = 1) -> NDArray[np.int64]:
    """The batch size of every step with which a constant lr has the noise that `bound` would have.

    The noise of SGD goes with lr / batch size, so instead of lr · m the batch is base · (largest m) / m, rounded to a
    multiple. Where m is 0, or the batch would be larger than `most`, it is `most`: from there on, lower the lr.

    Args:
        bound: what the lr would have been multiplied by, without a warmup.
        base: batch size at the largest multiplier.
        most: the largest batch; default 64 · base.
        multiple_of: batches are a multiple of it; default 1.

    Returns:
        int64 of shape (horizon,).

    Raises:
        ScheduleError: `base` or `most` is no multiple of `multiple_of`, or `most` is below `base`.

    Source: Smith et al., Don't decay the learning rate, increase the batch size, https://arxiv.org/abs/1711.00489.

    >>> from etascope.schedules import step_decay
    >>> batch_sizes(step_decay(2, factor=0.5).bind(6), base=32)
    array([ 32,  32,  64,  64, 128, 128])
    """
    if not isinstance(bound, Bound):
        raise ScheduleError(f"{bound!r} is not bound to a horizon.", "Bind it first: .bind(horizon=2000).")
    base, step = as_count(base, "base", least=1), as_count(multiple_of, "multiple_of", least=1)
    most = 64 * base if most is None else as_count(most, "most", least=1)
    if base % step or most % step or most < base:
        raise ScheduleError(
            f"base={base} and most={most} are no multiples of {step} with most ≥ base.",
            "Give sizes that fit, such as base=32, most=1024, multiple_of=8.",
        )
    m = np.maximum(bound.multipliers(), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(base * m.max() / m, nan=most, posinf=most)
    out: NDArray[np.int64] = np.clip(np.rint(np.minimum(size, most) / step) * step, base, most).astype(np.int64)
    return out
