"""Short looks at a model on torch: sharpness, noise scale, how far a step goes."""

from .movement import Movement
from .sharpness import CriticalLr, critical_lr, sharpness
from .stability import bound

__all__ = ["CriticalLr", "Movement", "bound", "critical_lr", "sharpness"]
