"""What a method answers."""

from typing import NamedTuple


class Answer(NamedTuple):
    """An lr, or for a method without one the loss that its training ended with.

    Attributes:
        lr: the lr that it suggests; None where it has none.
        cost: steps trained, in complete runs.
        reason: why there is no lr.
        loss: what the training ended with, for a method that trains in place of the task's optimizer.
    """

    lr: float | None
    cost: float
    reason: str = ""
    loss: float | None = None
