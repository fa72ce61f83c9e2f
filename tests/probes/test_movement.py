"""Movement against whole tensors, and against noise of a known covariance."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etascope.probes import Movement


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 30), nn.BatchNorm1d(30), nn.Tanh(), nn.Linear(30, 5, bias=False))


def steps(model: nn.Module, optimizer: torch.optim.Optimizer, n: int, before: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.randn(8, 40, generator=generator)).square().mean().backward()
        before()
        optimizer.step()


class Twin:
    """The same, from whole tensors in float64, as it is written down."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.where: list[dict[str, Tensor]] = []
        self.gradients: list[dict[str, Tensor]] = []

    def look(self) -> None:
        named = dict(self.model.named_parameters())
        self.where.append({k: p.detach().double().clone() for k, p in named.items()})
        self.gradients.append({k: p.grad.double().clone() for k, p in named.items() if p.grad is not None})

    def result(self) -> dict[str, Any]:
        layers: dict[str, dict[str, float]] = {}
        of: dict[str, list[str]] = {}
        for name in self.where[0]:
            of.setdefault(name.rpartition(".")[0], []).append(name)
        for layer, names in of.items():
            a, b, c = (torch.cat([where[n].flatten() for n in names]) for where in self.where)
            g = torch.cat([self.gradients[1][n].flatten() for n in names])
            layers[layer] = {
                "update_ratio": float((c - b).norm() / b.norm()),
                "effective_lr": float((c - b).norm() / g.norm()),
                "sign": float((torch.sign(b - a) * torch.sign(c - b)).mean()),
            }
        g, h = (torch.cat([t.flatten() for t in own.values()]) for own in self.gradients[:2])
        return {"layers": layers, "noise_scale": float((g - h).square().sum() / 2 / (g @ h))}


def close(result: dict[str, Any], twin: dict[str, Any], tolerance: float) -> None:
    assert result["layers"].keys() == twin["layers"].keys()
    for name, own in twin["layers"].items():
        assert result["layers"][name] == pytest.approx(own, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("scatter", [False, True], ids=["blas", "scatter"])
@pytest.mark.parametrize("sample", [4096, 400])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_it_equals_its_slow_twin(kind: Any, sample: int, scatter: bool) -> None:
    model = net()
    optimizer = kind(model.parameters(), lr=0.05)
    looks, twin = Movement(model, optimizer, sample), Twin(model)
    for part in looks._parts:
        part._by_blas = not scatter  # which is what other devices take
    for _ in range(2):
        twin.where.clear(), twin.gradients.clear()
        steps(model, optimizer, 3, lambda: (looks.look(), twin.look()))
        assert looks.ready()
        result = looks.result()
        if sample == 4096:
            close(result, twin.result(), 1e-5)
        else:  # 400 of 1,200 coordinates: within four deviations
            close(result, twin.result(), 4 / math.sqrt(sample))
    assert looks.result() == {}


def test_the_first_noise_scale_is_the_twins_and_later_ones_are_smoothed() -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    looks, twin = Movement(model, optimizer, smoothing=0.5), Twin(model)
    steps(model, optimizer, 3, lambda: (looks.look(), twin.look()))
    first = looks.result()["noise_scale"]
    assert first == pytest.approx(twin.result()["noise_scale"], rel=1e-4)
    other = Movement(model, optimizer, smoothing=0.5)
    other.load_state_dict(looks.state_dict())
    assert other.noise_scale == first
    steps(model, optimizer, 3, lambda: (looks.look(), other.look()))
    assert looks.result() == other.result() and looks.state_dict() == other.state_dict()


def test_the_noise_scale_of_a_known_problem() -> None:
    # G = 1 in each of 1,000 coordinates; Σ = diag(1 … 4): tr Σ / |G|² = 2.5, in each pair within about
    # √(2 · Σσ⁴) / Σσ² ≈ 7%, and within 1.5% over the past of 50 pairs
    deviations = torch.linspace(1, 4, 1000).sqrt()
    parameter = nn.Parameter(torch.zeros(1000))
    movement = Movement([("w", parameter)], smoothing=0.99)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        for _ in range(3):
            parameter.grad = 1 + deviations * torch.randn(1000, generator=generator)
            movement.look()
        result = movement.result()
        assert result["layers"] == {"w": {"effective_lr": 0.0, "sign": 0.0}}
    assert result["noise_scale"] == pytest.approx(2.5, rel=0.03)


def test_no_noise_scale_where_the_gradients_disagree() -> None:
    parameter = nn.Parameter(torch.ones(2))
    looks = Movement([("w", parameter)])
    for sign in (1.0, -1.0, 1.0):
        parameter.grad = torch.full((2,), sign)
        looks.look()
    assert "noise_scale" not in looks.result() and looks.noise_scale is None
    for value in (1.0, math.nan, 1.0):
        parameter.grad = torch.full((2,), value)
        looks.look()
    looks.result()
    assert all(map(math.isfinite, looks.state_dict().values()))


def test_it_leaves_everything_as_it_was_and_forgets_on_reset() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters())
    other = copy.deepcopy(model)
    same = torch.optim.Adam(other.parameters())
    looks = Movement(model, optimizer, sample=10)
    random_state = torch.get_rng_state()
    steps(model, optimizer, 4, looks.look)
    assert looks.looks == 3  # a fourth is ignored
    looks.result()
    steps(other, same, 4, lambda: None)
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert torch.equal(random_state, torch.get_rng_state())
    looks.look()
    looks.reset()
    assert looks.looks == 0 and not looks.ready()


def test_odd_tensors() -> None:
    tensors = {
        "half": nn.Parameter(torch.ones(3, dtype=torch.bfloat16)),
        "phase": nn.Parameter(torch.ones(200, dtype=torch.complex64)),
        "turned": nn.Parameter(torch.arange(600.0).view(20, 30).t()),
        "idle": nn.Parameter(torch.ones(2)),
        "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
        "none": nn.Parameter(torch.ones(0)),
        "table": nn.Parameter(torch.ones(4, 2)),
    }
    model = nn.ModuleDict({"inner": nn.ModuleDict({"of_" + k: nn.ParameterList([v]) for k, v in tensors.items()})})
    parameters = {name.split(".")[1][3:]: p for name, p in model.named_parameters()}
    looks = Movement(model, sample=100)
    for _ in range(3):
        for name, p in parameters.items():
            if name not in ("idle", "none", "frozen"):
                p.grad = torch.ones_like(p.detach().contiguous())
        parameters["table"].grad = torch.ones(4, 2).to_sparse()
        looks.look(scale=2.0)
        with torch.no_grad():
            for name in ("half", "phase", "turned", "table"):
                parameters[name].add_(0.5)
    layers = looks.result()["layers"]
    assert list(layers) == [f"inner.of_{name}" for name in ("half", "phase", "turned", "idle", "table")]
    for name in ("half", "phase", "turned", "table"):
        assert layers[f"inner.of_{name}"]["effective_lr"] == pytest.approx(1.0)
    assert layers["inner.of_half"] == {"update_ratio": pytest.approx(1 / 3), "effective_lr": 1.0, "sign": 1.0}
    assert layers["inner.of_idle"] == {"update_ratio": 0.0, "sign": 0.0}
