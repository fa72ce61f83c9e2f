"""A schedule on an optimizer: what writes the lr at every update, and carries on after any resume.

>>> import torch
>>> from etascope.schedules import cosine, warmup
>>> optimizer = torch.optim.SGD([torch.zeros(3, requires_grad=True)], lr=0.1)
>>> handle = attach(warmup(3) >> cosine(), optimizer, horizon=20)
>>> handle.step, optimizer.param_groups[0]["lr"]
(0, 0.025)
>>> optimizer.step(); handle.step, optimizer.param_groups[0]["lr"]
(1, 0.05)
"""

from .attaching import attach, inner_optimizer
from .given import Absolute, absolute
from .handle import Handle

__all__ = ["Absolute", "Handle", "absolute", "attach", "inner_optimizer"]
