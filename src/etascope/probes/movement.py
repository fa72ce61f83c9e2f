"""How far the parameters of each layer go in a step, whether they turn back, and how noisy the gradients are.

Shapes stand in the names: N coordinates looked at (of all layers on one device, joined), L layers, K sums over each:
‖θ_{t+1}‖², ‖Δ_{t+1}‖², ‖g_{t+1}‖², Σ sign(Δ_t) · sign(Δ_{t+1}), g_t · g_{t+1}, ‖g_t − g_{t+1}‖².
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Movement"]

Index = tuple[Tensor, ...]  # of the coordinates looked at in a tensor, one per dimension

K = 8


class Movement:
    """What two successive updates say of every layer, from three looks: before the first, between them, and after.

    With parameters θ, gradients g and moves Δ_t = θ_{t+1} − θ_t, of the coordinates of one layer:

        update_ratio = ‖Δ_{t+1}‖ / ‖θ_{t+1}‖           how far a step goes beside what there is
        effective_lr = ‖Δ_{t+1}‖ / ‖g_{t+1}‖           how far it goes for a unit of gradient, under any rule
        sign = mean of sign(Δ_t) · sign(Δ_{t+1})       −1: every coordinate turns back; 1: all go on

    and of all layers together, the noise scale in batches:

        alignment = −g_{t+1} · Δ_t / (‖g_{t+1}‖ ‖Δ_t‖)   1: the next gradient still points the way that the step went
        noise_scale = tr Σ / |G|²,  |G|² ≈ g_t · g_{t+1},  tr Σ ≈ ‖g_t − g_{t+1}‖² / 2

    G is the mean gradient and Σ the covariance of a batch's. Both estimates are unbiased for two independent batches
    at the same θ; the move in between adds its share of the curvature to tr Σ, and clipped gradients belong to no
    batch. Numerator and denominator are smoothed over probes before they are divided. Of tensors with more than
    `sample` coordinates, `sample` are drawn once, and stand for all: a norm is then off by about 1 / √(2 · sample).

    Nothing is changed, no random number is drawn from torch's generators, and a GPU is waited for only in `result`.
    The gradients must be unscaled: those of a `GradScaler` are after `scaler.unscale_`, and where a step hook looks;
    for others give their scale.

    Args:
        model: the module, or (name, parameter) pairs. A layer is the module that owns the tensors.
        optimizer: only parameters that it updates are looked at; None: all that require gradients.
        sample: coordinates of each tensor, at most; default 4,096.
        smoothing: weight of the past in the exponential means of the noise scale's two parts, in 0…1; default 0.9.

    Source: McCandlish et al. 2018, An Empirical Model of Large-Batch Training, arXiv 1812.06162 (noise scale); the
    sign agreement is that of Rprop, Riedmiller & Braun 1993.

    >>> net = nn.Linear(1, 1, bias=False)
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.25)
    >>> movement = Movement(net, sgd)
    >>> with torch.no_grad():
    ...     _ = net.weight.fill_(1.0)
    >>> for _ in range(3):
    ...     net.weight.grad = 2 * net.weight.detach().clone()  # the loss θ²
    ...     movement.look()
    ...     sgd.step()
    >>> movement.result()["layers"]
    {'weight': {'update_ratio': 0.5, 'effective_lr': 0.25, 'sign': 1.0}}
    """

    def __init__(
        self,
        model: nn.Module | Iterable[tuple[str, Tensor]],
        optimizer: torch.optim.Optimizer | None = None,
        sample: int = 4096,
        smoothing: float = 0.9,
    ) -> None:
        named = model.named_parameters() if isinstance(model, nn.Module) else model
        updated = None if optimizer is None else {id(p) for g in optimizer.param_groups for p in g["params"]}
        layers: dict[str, list[Tensor]] = {}
        for name, parameter in named:
            name = name.replace("_orig_mod.", "")  # of torch.compile
            looked_at = parameter.requires_grad if updated is None else id(parameter) in updated
            if looked_at and parameter.numel() and not parameter.is_meta:
                layers.setdefault(name.rpartition(".")[0] or name, []).append(parameter)
        self._layers, self._owned = list(layers), layers
        self._parts = [
            _Part(device, self._layers, layers, sample)
            for device in dict.fromkeys(p.device for own in layers.values() for p in own)
        ]
        self._smoothing = smoothing
        self._noise = self._signal = self._weight = 0.0
        self._looks = 0

    @property
    def layers(self) -> list[str]:
        """The names of the layers that are looked at."""
        return list(self._layers)

    @property
    def looks(self) -> int:
        """How many there were since the last result: of three."""
        return self._looks

    @torch.no_grad()
    def look(self, scale: float | Tensor = 1.0) -> None:
        """Note where the parameters are, and their gradients; right before an update. One too many is ignored.

        Args:
            scale: what the gradients were multiplied by; default 1.
        """
        if self._looks < 3:
            for part in self._parts:
                part.look(self._looks, scale)
            self._looks += 1

    def reset(self) -> None:
        """Forget the looks, after a rewind or a skipped update; what was smoothed stays."""
        self._looks = 0
        for part in self._parts:
            part.reset()

    def ready(self) -> bool:
        """Whether there were three looks, and `result` would not have to wait for a GPU."""
        return self._looks == 3 and all(part.ready() for part in self._parts)

    def result(self) -> dict[str, Any]:
        """What was seen, as the `probe` entry of a run's log has it; the next look is a first one again.

        Returns:
            {"layers": {name: {"update_ratio", "effective_lr", "sign"}}, "noise_scale", "alignment"}; a key is left out
            where it would divide by zero, or |G|² is not positive. {} before the third look.
        """
        if self._looks < 3:
            return {}
        sums = {name: [0.0] * K for name in self._layers}
        counts = dict.fromkeys(self._layers, 0)
        for part in self._parts:
            for name, count, own in zip(part.layers, part.counts, part.sums(), strict=True):
                sums[name] = [a + b for a, b in zip(sums[name], own, strict=True)]
                counts[name] += count
        self.reset()
        layers = {}
        for name, (param, move, gradient, turn, *_) in sums.items():
            if not any(parameter.requires_grad for parameter in self._owned[name]):  # frozen, at present
                continue
            layers[name] = {"update_ratio": math.sqrt(move / param)} if param else {}
            if gradient:
                layers[name]["effective_lr"] = math.sqrt(move / gradient)
            layers[name]["sign"] = turn / counts[name]
        self._smooth(sum(own[5] for own in sums.values()) / 2, sum(own[4] for own in sums.values()))
        found: dict[str, Any] = {"layers": layers}
        if (noise_scale := self.noise_scale) is not None:
            found["noise_scale"] = noise_scale
        gradient, before, agree = (sum(own[k] for own in sums.values()) for k in (2, 6, 7))
        if (norms := math.sqrt(gradient * before)) > 0:
            found["alignment"] = -agree / norms
        return found

    @property
    def noise_scale(self) -> float | None:
        """tr Σ / |G|² in batches, from the smoothed parts; None where |G|² is not positive, or before a result."""
        return self._noise / self._signal if self._signal > 0 else None

    def state_dict(self) -> dict[str, float]:
        """What is smoothed, as plain data."""
        return {"noise": self._noise, "signal": self._signal, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a saved state."""
        self._noise, self._signal, self._weight = (float(state[key]) for key in ("noise", "signal", "weight"))

    def _smooth(self, noise: float, signal: float) -> None:
        if not (math.isfinite(noise) and math.isfinite(signal)):
            return
        self._weight = self._smoothing * self._weight + 1.0
        self._noise += (noise - self._noise) / self._weight
        self._signal += (signal - self._signal) / self._weight


class _Part:
    """The parameters on one device."""

    def __init__(self, device: torch.device, names: list[str], layers: Mapping[str, list[Tensor]], sample: int) -> None:
        self._device, self._by_blas = device, device.type == "cpu"
        self._parameters: list[Tensor] = []
        self._indices: list[Index | None] = []
        self.layers: list[str] = []
        self.counts: list[int] = []  # coordinates of the layers, those that are not looked at included
        lengths, weights = [], []
        generator = torch.Generator().manual_seed(0)
        for name in names:
            length, count = 0, 0
            for parameter in layers[name]:
                if parameter.device != device:
                    continue
                size = parameter.numel()
                index: Index | None = None
                if size > sample:
                    flat = torch.randint(size, (sample,), generator=generator).sort().values
                    index = tuple(i.to(device) for i in (flat, *torch.unravel_index(flat, parameter.shape)))
                looked_at = min(size, sample) * (2 if parameter.is_complex() else 1)
                weights.append(torch.full((looked_at,), size / min(size, sample)))
                length, count = length + looked_at, count + looked_at // min(size, sample) * size
                self._parameters.append(parameter)
                self._indices.append(index)
            if length:
                self.layers.append(name)
                self.counts.append(count)
                lengths.append(length)
        sampled = any(index is not None for index in self._indices)
        self._weights_N = torch.cat(weights).to(device) if sampled else None
        self._whole = [i is None and not p.is_complex() for i, p in zip(self._indices, self._parameters, strict=True)]
        self._ends = list(itertools.accumulate(lengths, initial=0))
        self._layer_of_N = torch.repeat_interleave(torch.tensor(lengths)).to(device)
        self.reset()

    def reset(self) -> None:
        self._where: list[Tensor] = []
        self._gradients: list[Tensor] = []
        self._sums: list[list[float]] = []
        self._on_cpu: Tensor | None = None  # [L, K], on its way there
        self._copied: torch.cuda.Event | None = None

    def look(self, looks: int, scale: float | Tensor) -> None:
        self._where.append(self._joined(self._parameters))
        if looks < 2:
            gradients_N = self._joined([p.grad for p in self._parameters])
            self._gradients.append(gradients_N if isinstance(scale, float) and scale == 1.0 else gradients_N / scale)
            return
        pairs = self._pairs()
        self._where, self._gradients = [], []
        if self._by_blas:
            self._sums = _by_blas(pairs, self._ends)
            return
        sums_LK = _by_scatter(pairs, self._layer_of_N, len(self.layers))
        self._on_cpu = torch.empty_like(sums_LK, device="cpu", pin_memory=self._device.type == "cuda")
        self._on_cpu.copy_(sums_LK, non_blocking=self._device.type == "cuda")
        if self._device.type == "cuda":
            self._copied = torch.cuda.current_stream(self._device).record_event()

    def ready(self) -> bool:
        return self._copied is None or bool(self._copied.query())  # type: ignore[no-untyped-call]

    def sums(self) -> list[list[float]]:
        if self._on_cpu is not None:
            if self._copied is not None:
                self._copied.synchronize()
            self._sums = self._on_cpu.tolist()
        return self._sums

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The K pairs whose products are summed, every coordinate counted as often as it stands for others."""
        first, here, then = self._where
        gradient, next_gradient = self._gradients
        before, move, difference = here - first, then - here, gradient - next_gradient
        signs = before.sign(), move.sign()
        left = [here, move, next_gradient, signs[0], gradient, difference, before, next_gradient]
        right = [here, move, next_gradient, signs[1], next_gradient, difference, before, before]
        if self._weights_N is not None:
            left = [own * self._weights_N for own in left]
        return list(zip(left, right, strict=True))

    def _joined(self, tensors: Iterable[Tensor | None]) -> Tensor:
        """The coordinates that are looked at; zeros for a gradient that is not there."""
        chosen = [
            tensor.reshape(-1) if whole and tensor is not None and not tensor.is_sparse else self._some(i, tensor)
            for i, (tensor, whole) in enumerate(zip(tensors, self._whole, strict=True))
        ]
        joined = torch.cat(chosen)
        return joined if joined.dtype in (torch.float32, torch.float64) else joined.float()

    def _some(self, i: int, tensor: Tensor | None) -> Tensor:
        """The coordinates of one tensor, whatever it is."""
        index, parameter = self._indices[i], self._parameters[i]
        if tensor is None:
            size = parameter.numel() if index is None else len(index[0])
            return torch.zeros(size * (2 if parameter.is_complex() else 1), device=self._device)
        if tensor.is_sparse:
            tensor = tensor.to_dense()
        if index is not None:
            flat, *of_dims = index
            tensor = tensor.view(-1).index_select(0, flat) if tensor.is_contiguous() else tensor[tuple(of_dims)]
        return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)


def _by_blas(pairs: Sequence[tuple[Tensor, Tensor]], ends: Sequence[int]) -> list[list[float]]:
    """The sums [L, K] of the products; for the CPU, where a small operation of torch takes longer than the sum."""
    arrays = [(left.numpy(), right.numpy()) for left, right in pairs]
    return [[float(left[a:b].dot(right[a:b])) for left, right in arrays] for a, b in itertools.pairwise(ends)]


def _by_scatter(pairs: Sequence[tuple[Tensor, Tensor]], layer_of_N: Tensor, layers: int) -> Tensor:
    """The same, in a few operations whatever the number of layers."""
    products_NK = torch.stack([left * right for left, right in pairs], 1)
    return products_NK.new_zeros(layers, len(pairs)).index_add_(0, layer_of_N, products_NK)
