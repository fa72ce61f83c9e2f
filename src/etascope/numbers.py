"""Numbers as people write them: learning rates, losses, percentages, durations, steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

__all__ = [
    "cost",
    "duration",
    "exact",
    "loss",
    "lr",
    "lr_range",
    "options",
    "percent",
    "plural",
    "size",
    "steps",
    "ticks",
]


def lr(value: float, digits: int = 2) -> str:
    """A learning rate: plain from 0.1 up to 1000, with a short exponent elsewhere.

    >>> [lr(v) for v in (2.1e-3, 1e-5, 0.012, 0.1, 3, 120, 1e4)]
    ['2.1e-3', '1e-5', '1.2e-2', '0.1', '3', '120', '1e4']
    """
    if not math.isfinite(value) or value <= 0:
        return str(value)
    mantissa, exponent = _scientific(value, digits)
    if -1 <= exponent < 3:
        return _plain(float(f"{mantissa}e{exponent}"), max(0, digits - 1 - exponent))
    return f"{mantissa}e{exponent}"


def exact(value: float) -> str:
    """A learning rate that reads back as the very same float, as short as that allows.

    >>> exact(2.1e-3), exact(0.00123456)
    ('2.1e-3', '1.23456e-3')
    """
    return next((s for d in range(2, 17) if float(s := lr(value, d)) == value), repr(value))


def options(named: Mapping[str, object]) -> str:
    """What a setting differs in beside seed and lr.

    >>> options({"weight_decay": 0.1, "betas": [0.9, 0.99], "schedule": "cosine()"})
    'weight_decay=0.1, betas=(0.9, 0.99), schedule=cosine()'
    """
    return ", ".join(f"{name}={_value(value)}" for name, value in named.items())


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_value, value))})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def lr_range(ends: tuple[float, float]) -> str:
    """Two learning rates.

    >>> lr_range((5.4e-3, 0.023)), lr_range((0.05, 0.2)), lr_range((0.1, 0.1))
    ('5.4e-3 to 2.3e-2', '5e-2 to 0.2', '0.1')
    """
    low, high = lr(ends[0]), lr(ends[1])
    return low if low == high else f"{low} to {high}"


def loss(value: float | None) -> str:
    """A loss or metric, three or four significant digits; a dash where there is none.

    >>> [loss(v) for v in (2.302585, 0.12345, 26004.2, 0.000321, float("inf"))]
    ['2.303', '0.123', '26,004', '3.21e-4', '–']
    """
    if value is None or not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if 1000 <= size < 1e6:
        return f"{value:,.0f}".replace("-", "−")
    if 1e-3 <= size < 1000:
        return f"{value:.{4 if size >= 1 else 3}g}".replace("-", "−")
    mantissa, exponent = _scientific(size, 3)
    return f"{'−' if value < 0 else ''}{mantissa}e{exponent}"


def ticks(values: Sequence[float]) -> list[str]:
    """Losses on an axis, with as many digits as tell them apart.

    >>> ticks([0.5, 1.0]), ticks([2.3021, 2.3022])
    (['0.5', '1'], ['2.3021', '2.3022'])
    """
    texts = [loss(v) for v in values]
    if len(set(texts)) == len(texts):
        return texts
    gap = min(abs(b - a) for a, b in pairwise(values))
    decimals = max(0, math.ceil(-math.log10(gap) - 1e-9)) if gap > 0 else 0
    return [f"{v:.{min(decimals, 12)}f}".replace("-", "−") for v in values]


def percent(fraction: float) -> str:
    """A fraction of something.

    >>> [percent(v) for v in (0.234, 0.04, 0.003, 0.0)]
    ['23%', '4%', 'less than 1%', '0%']
    """
    if not math.isfinite(fraction):
        return "–"
    if 0 < fraction < 0.01:
        return "less than 1%"
    return f"{fraction * 100:.0f}%"


def duration(seconds: float) -> str:
    """A time span.

    >>> [duration(v) for v in (0.31, 41.2, 125, 4321)]
    ['0.3 s', '41 s', '2 min 5 s', '1 h 12 min']
    """
    if not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def steps(count: int) -> str:
    """A number of steps.

    >>> steps(1), steps(20000)
    ('1 step', '20,000 steps')
    """
    return plural(count, "step")


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "rung"), plural(3, "rung")
    ('1 rung', '3 rungs')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def size(count: float) -> str:
    """Memory as it is told in advance, to two digits.

    >>> size(3e5), size(118.3e6), size(7.26e9)
    ('less than 1 MB', 'about 120 MB', 'about 7.3 GB')
    """
    if count < 1e6:
        return "less than 1 MB"
    mega = float(f"{count / 1e6:.1e}")
    return f"about {mega:g} MB" if mega < 1000 else f"about {mega / 1000:g} GB"


def cost(runs: float) -> str:
    """A cost in complete runs.

    >>> cost(0.982), cost(1.0), cost(75.0), cost(0.00312)
    ('0.98 complete runs', '1 complete run', '75 complete runs', '0.0031 complete runs')
    """
    if 0 < runs < 0.1:
        number = _plain(float(f"{runs:.1e}"), 12)
    else:
        number = f"{runs:.2f}".rstrip("0").rstrip(".") if runs < 100 else f"{runs:,.0f}"
    return f"{number} complete run" + ("" if number == "1" else "s")


def _scientific(value: float, digits: int) -> tuple[str, int]:
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa, int(exponent)


def _plain(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
