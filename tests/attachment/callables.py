"""Functions that are objects: prints the handle's state after some steps, or goes on from one.

python callables.py save | python callables.py load
"""

import json
import sys
from dataclasses import dataclass
from functools import partial

import torch
from torch.optim.lr_scheduler import CyclicLR, MultiplicativeLR

import etascope as eta
from etascope.integrations import from_torch


@dataclass(frozen=True)
class Fading:
    fn: object
    by: float

    def __call__(self, step):
        return self.fn(step) * self.by


class Plain:
    def __call__(self, step):
        return 1 / (step + 1)


def power(base, step, *, of=1.0, others=()):
    return of * base**step


def fade(step):
    return 0.9


def sgd():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)


def schedules():
    return [
        Fading(lambda t: 0.5**t, 2.0),
        Plain(),
        partial(power, 0.5, of=2.0, others=[fade, {"a": Plain()}]),
        partial(Fading(fade, 3.0)),
        from_torch(MultiplicativeLR(sgd(), fade)).schedule,
        from_torch(CyclicLR(sgd(), 0.01, 0.1, 3, scale_fn=fade)).schedule,
    ]


def handles():
    kept = [sgd() for _ in schedules()]
    return [(o, eta.attach(s, o, lr=0.1, horizon=20)) for o, s in zip(kept, schedules(), strict=True)]


if __name__ == "__main__":
    if sys.argv[1] == "save":
        noise = [object() for _ in range(1000)]  # so that addresses are others
        pairs = handles()
        for o, _ in pairs:
            o.step()
        print(json.dumps([handle.state_dict() for _, handle in pairs]))
    else:
        pairs = handles()
        for (_, handle), state in zip(pairs, json.load(sys.stdin), strict=True):
            handle.load_state_dict(state)
        print(json.dumps([[handle.step, *handle.lrs] for _, handle in pairs]))
