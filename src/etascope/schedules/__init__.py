"""Learning-rate schedules: frozen values from step to multiplier of the peak lr. Loads no torch.

>>> import numpy as np
>>> s = warmup("5%") >> cosine(to=0.1)
>>> s
warmup('5%') >> cosine(to=0.1)
>>> b = s.bind(horizon=100)
>>> [round(b(t), 3) for t in (0, 4, 5, 99, 100, 1000)]
[0.167, 0.833, 1.0, 0.1, 0.1, 0.1]
>>> b(np.arange(3)).round(3)
array([0.167, 0.333, 0.5  ])
>>> Schedule.from_json(s.to_json()) == s == Schedule.parse("warmup(5%) >> cosine(to=0.1)")
True
"""

from . import extend  # noqa: F401  # enters its kind, for from_json
from .base import Bound, Schedule, Shape, Then, Times
from .batch import batch_sizes
from .cycles import exp_range, one_cycle, restarts, triangular, wave
from .drops import multistep, piecewise, step_decay
from .foreign import Foreign, as_schedule
from .jitter import noise
from .linting import Remark
from .recipes import flat_cosine, noam, tri_stage, triangular2, wsd
from .shapes import (
    anneal,
    constant,
    cosine,
    exponential,
    hold,
    inverse_sqrt,
    inverse_time,
    linear,
    polynomial,
    sqrt_cooldown,
    tanh,
    warmup,
)

__all__ = [
    # the algebra
    "Bound",
    "Schedule",
    "as_schedule",
    # the shapes: smooth
    "anneal",
    "constant",
    "cosine",
    "exponential",
    "hold",
    "inverse_sqrt",
    "inverse_time",
    "linear",
    "polynomial",
    "sqrt_cooldown",
    "tanh",
    "warmup",
    # with drops
    "multistep",
    "piecewise",
    "step_decay",
    # in cycles
    "exp_range",
    "one_cycle",
    "restarts",
    "triangular",
    "wave",
    # at random
    "noise",
    # recipes: compositions with a name
    "flat_cosine",
    "noam",
    "tri_stage",
    "triangular2",
    "wsd",
    # what goes with the lr
    "batch_sizes",
    # what they give, and for those who write their own
    "Foreign",
    "Remark",
    "Shape",
    "Then",
    "Times",
]
