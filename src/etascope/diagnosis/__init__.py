"""Is it the learning rate? What the log of a run says.

reading     any log into a `RunLog`: `watch_log`, `tables`, `tensorboard`
features    a `RunLog` as numbers without a scale
model       features -> probabilities, by trees over the shipped `cases`
evidence    sentences with numbers, and the next move
"""

from .diagnosing import diagnose
from .log import Probe, RunLog, Series
from .reading import read

__all__ = ["Probe", "RunLog", "Series", "diagnose", "read"]
