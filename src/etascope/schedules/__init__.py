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
>>> Schedule.from_json(s.to_json()) == s
True
"""

from .base import Bound, Schedule, Shape, Then, Times
from .foreign import Foreign, as_schedule
from .shapes import constant, cosine, exponential, hold, linear, step_decay, warmup

__all__ = [
    # the algebra
    "Schedule",
    "Bound",
    "as_schedule",
    # the members
    "constant",
    "cosine",
    "exponential",
    "hold",
    "linear",
    "step_decay",
    "warmup",
    # for those who write their own
    "Foreign",
    "Shape",
    "Then",
    "Times",
]
