"""What is known of a run before its first step, and what its probes bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._json import decode_fields, encode

__all__ = ["LayerProbe", "Probe", "Run"]


@dataclass(frozen=True)
class Run:
    """The facts of a run that checks and policies go by.

    Attributes:
        horizon: updates of the complete run; None where it is not known.
        rule: the optimizer's class in lower case, as "adamw".
        peak: the peak lr of the first param group; None where no handle drives it.
        warmup: updates of warmup in the schedule; None where the schedule is not known.
        scaled: whether a gradient scaler is there, which skips updates of gradients that are not finite.
        lag: observations by which decisions come late, as where a device is not to be waited for.
        act: whether decisions are carried out.
    """

    horizon: int | None = None
    rule: str = ""
    peak: float | None = None
    warmup: int | None = None
    scaled: bool = False
    lag: int = 0
    act: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: encode(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str = "") -> Run:
        """The inverse of `to_json`; `where` is what errors call it."""
        read: Run = decode_fields(cls, data, where)
        return read


@dataclass(frozen=True)
class LayerProbe:
    """One layer (the module that owns the tensors) at one look.

    Attributes:
        update_ratio: norm of the update over the norm of the weights.
        effective_lr: norm of the update over the norm of the gradient.
        sign: mean of sign(update) · sign(update before) over its weights, −1 to 1.
    """

    update_ratio: float
    effective_lr: float
    sign: float


@dataclass(frozen=True)
class Probe:
    """What is sampled now and then.

    Attributes:
        layers: each layer that is trained, by name.
        noise_scale: tr Σ / |G|², the gradient's noise against its signal, in batches; None where it cannot be told.
        alignment: cosine of the gradient after an update with the way that update went, downhill positive: −1 to 1.
        sharpness: critical sharpness 2 / (the lr at which the step leaves the loss as it was); None without a closure.
        bound: the largest stable lr · sharpness under the optimizer's rule; None where it is not known.
    """

    layers: dict[str, LayerProbe] = field(default_factory=dict, hash=False)
    noise_scale: float | None = None
    alignment: float | None = None
    sharpness: float | None = None
    bound: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; what does not apply is left out."""
        data = {name: value for name, value in vars(self).items() if name != "layers" and value is not None}
        return data | {"layers": {name: dict(vars(layer)) for name, layer in self.layers.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Probe:
        """The inverse of `to_json`, from what `exact` made of it."""

        def number(name: str) -> float | None:
            return None if data.get(name) is None else float(data[name])

        layers = {
            str(name): LayerProbe(*(float(own.get(key, "nan")) for key in ("update_ratio", "effective_lr", "sign")))
            for name, own in dict(data.get("layers") or {}).items()
        }
        return cls(layers, number("noise_scale"), number("alignment"), number("sharpness"), number("bound"))
