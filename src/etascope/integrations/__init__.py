"""One file per foreign framework, each thin: importers, exporters, drop-ins. Nothing in etascope leans on them.

    from_torch, from_transformers, from_timm, from_optax, from_keras     a foreign schedule, as ours
    to_optax, to_keras                                                   ours, as theirs
    ScheduleLR                                                           ours, as a torch LRScheduler
    huggingface, lightning (modules)                                     a trainer, as a training function; `eta.watch`
                                                                         as its callback: `WatchCallback`
    accelerate (module)                                                  `eta.watch` for loops with an `Accelerator`
    sinks (module)                                                       TensorBoard, MLflow, Weights & Biases

Names are loaded on first use, and with them the framework that they need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .imported import Imported
    from .keras import from_keras, to_keras
    from .optax import from_optax, to_optax
    from .timm import from_timm
    from .torch import ScheduleLR
    from .torch_schedulers import from_torch
    from .transformers import from_transformers

__all__ = [
    "Imported",
    "ScheduleLR",
    "from_keras",
    "from_optax",
    "from_timm",
    "from_torch",
    "from_transformers",
    "to_keras",
    "to_optax",
]

_HOMES = {
    "imported": ("Imported",),
    "keras": ("from_keras", "to_keras"),
    "optax": ("from_optax", "to_optax"),
    "timm": ("from_timm",),
    "torch": ("ScheduleLR",),
    "torch_schedulers": ("from_torch",),
    "transformers": ("from_transformers",),
}
_MODULES = ("accelerate", "huggingface", "lightning", "sinks")
_HOME = {name: file for file, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
