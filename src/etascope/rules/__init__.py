"""Update rules over a leading lane axis: L trainings, each with its own lr, updated as one (L, P) tensor.

>>> import torch
>>> w = torch.nn.Parameter(torch.zeros(3))
>>> update = read([torch.optim.SGD([w], lr=lr) for lr in (0.1, 1.0)], lrs=[0.1, 1.0])
>>> params_LP, lr_L1 = torch.zeros(2, 3), torch.tensor([[0.1], [1.0]])
>>> params_LP, state = update(params_LP, torch.ones(2, 3), update.init(params_LP), lr_L1, t=0)
>>> params_LP[:, 0].tolist()
[-0.1..., -1.0]
"""

from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam
from .adamax import Adamax
from .adamw import AdamW
from .asgd import ASGD
from .base import Number, Rule, State
from .held import adaptive, held
from .lion import Lion
from .nadam import NAdam
from .radam import RAdam
from .reader import UnknownRule, Update, UpdateFunction, by_parts, read
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "ASGD",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "NAdam",
    "Number",
    "RAdam",
    "RMSprop",
    "Rule",
    "State",
    "UnknownRule",
    "Update",
    "UpdateFunction",
    "adaptive",
    "by_parts",
    "held",
    "read",
]
