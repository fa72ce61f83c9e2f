"""Schedules that have names of their own, written in the algebra: each returns what it stands for."""

from __future__ import annotations

from .base import Schedule
from .cycles import triangular
from .shapes import constant, cosine, exponential, hold, inverse_sqrt, sqrt_cooldown, warmup
from .units import Length

__all__ = ["flat_cosine", "noam", "tri_stage", "triangular2", "wsd"]


def wsd(up: Length = "5%", down: Length = "20%", to: float = 0.0) -> Schedule:
    """Warmup, stable, decay: warmup(up) >> constant() >> sqrt_cooldown(down, to=to).

    Use it for pretraining whose end is not fixed: the decay may begin from any checkpoint of the stable part.

    Source: Hu et al., MiniCPM, https://arxiv.org/abs/2404.06395.

    >>> wsd()
    warmup('5%') >> constant() >> sqrt_cooldown('20%')
    """
    return warmup(up) >> constant() >> sqrt_cooldown(down, to=to)


def flat_cosine(flat: Length = "75%", to: float = 0.0) -> Schedule:
    """Flat, then a cosine: constant(flat) >> cosine(to=to).

    Use it with optimizers that warm up by themselves (RAdam, Ranger).

    Source: fastai's fit_flat_cos.

    >>> flat_cosine()
    constant('75%') >> cosine()
    """
    return constant(flat) >> cosine(to=to)


def noam(up: Length) -> Schedule:
    """The first transformer's: warmup(up, start=0) >> inverse_sqrt(up), where the peak lr is 1 / √(width · up).

    Use it to repeat the first transformer, or where no horizon is known.

    Source: Vaswani et al., https://arxiv.org/abs/1706.03762.

    >>> noam(4000)
    warmup(4000, start=0.0) >> inverse_sqrt(4000)
    """
    return warmup(up, start=0) >> inverse_sqrt(up)


def tri_stage(
    up: Length = "10%", flat: Length = "40%", down: Length = "50%", start: float = 0.01, to: float = 0.05
) -> Schedule:
    """Three stages: a line from start, flat, an exponential to `to`, where it stays.

    It is warmup(up, start=start) >> constant(flat) >> exponential(down, to=to) >> hold().

    Use it for speech models, as fairseq does.

    Source: fairseq's tri_stage; Park et al., https://arxiv.org/abs/1904.08779.

    >>> tri_stage()
    warmup('10%', start=0.01) >> constant('40%') >> exponential('50%', to=0.05) >> hold()
    """
    return warmup(up, start=start) >> constant(flat) >> exponential(down, to=to) >> hold()


def triangular2(period: Length, low: float = 0.1) -> Schedule:
    """Triangles, each half as high above `low` as the one before: triangular(period, low, peak_factor=0.5).

    Use it like triangular, where the range should close quickly.

    Source: Smith, https://arxiv.org/abs/1506.01186.

    >>> triangular2("4ep")
    triangular('4ep', peak_factor=0.5)
    """
    return triangular(period, low, peak_factor=0.5)
