"""The finder: engine → Finding. It knows engines by their protocol alone."""

from .progress import Progress
from .verbs import Plan, find, plan, sweep

__all__ = ["Plan", "Progress", "find", "plan", "sweep"]
