"""The critical lr on losses whose answer is known, and that nothing is disturbed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from etascope.errors import OptionError
from etascope.probes import critical_lr, sharpness

STARTS = [1e-5, 1e-3, 0.01, 0.1, 1.0, 10.0]


def quadratic(n: int = 6) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(n, n, generator=generator, dtype=torch.float64)
    hessian, theta = half @ half.T, torch.randn(n, generator=generator, dtype=torch.float64).requires_grad_()
    return hessian, theta, lambda: 0.5 * theta @ hessian @ theta


@pytest.mark.parametrize("start", STARTS)
def test_on_a_quadratic_it_is_the_directional_curvature(start: float) -> None:
    hessian, theta, loss = quadratic()
    g = hessian @ theta.detach()
    for u in (g, g.sign(), g / g.abs().sqrt()):
        true = float(2 * (g @ u) / (u @ hessian @ u))
        found = critical_lr(loss, [theta], [u], start)
        assert found.lr == pytest.approx(true, rel=0.05 if start < 1e-4 else 1e-6)
        assert found.sharpness == 2 / found.lr
        assert found.passes <= 9
        assert (found.low or 0) <= found.lr <= (found.high or math.inf)


def test_the_sharpness_is_the_top_eigenvalue_and_bounds_the_critical_one() -> None:
    hessian, theta, loss = quadratic()
    values, vectors = torch.linalg.eigh(hessian)
    assert sharpness(loss, [theta]) == pytest.approx(float(values[-1]), rel=1e-3)
    assert sharpness(lambda: -loss(), [theta]) == pytest.approx(-float(values[-1]), rel=1e-3)
    found = critical_lr(loss, [theta], [hessian @ theta.detach()], 0.1).sharpness
    assert found is not None and found <= float(values[-1]) * (1 + 1e-9)
    along = vectors[:, -1].clone().requires_grad_()  # there, the two are one
    found = critical_lr(lambda: 0.5 * along @ hessian @ along, [along], [hessian @ along.detach()], 0.1).sharpness
    assert found == pytest.approx(float(values[-1]))
    assert sharpness(lambda: theta.sum(), [theta]) == 0.0
    assert theta.grad is None


LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {  # loss, u, the critical lr from θ = 1
    "quartic": (lambda x: x**4, 4.0, 0.5),
    "cosh": (lambda x: torch.cosh(3 * x), 3 * math.sinh(3), 2 / (3 * math.sinh(3))),
    "overflows just beyond": (lambda x: x * x if abs(x) < 1.05 else x * math.inf, 2.0, 1.025),
    "a wall": (lambda x: x if x > -3 else x * math.nan, 1.0, 4.0),
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", LOSSES)
def test_on_other_losses_it_comes_close_in_less_than_ten_passes(name: str, start: float) -> None:
    loss, u, true = LOSSES[name]
    theta = torch.tensor([1.0], dtype=torch.float64)
    found = critical_lr(lambda: loss(theta).sum(), [theta], [torch.tensor([u], dtype=torch.float64)], start)
    far = abs(math.log10(start / true))
    assert found.lr == pytest.approx(true, rel=0.1 if far < 1.1 else 1.0)
    assert found.passes <= 9 and theta.item() == 1.0


def test_no_answer_where_there_is_none() -> None:
    theta = torch.tensor([1.0], dtype=torch.float64)
    u = torch.ones(1, dtype=torch.float64)
    up = critical_lr(lambda: -theta.sum(), [theta], [u], 0.1)
    assert up.lr is None and up.low is None and up.high is not None and up.high < 1e-3 and up.sharpness is None
    down = critical_lr(lambda: theta.sum(), [theta], [u], 0.1)
    assert down.lr is None and down.high is None and down.low is not None and down.low > 100
    lost = critical_lr(lambda: theta.sum() * math.nan, [theta], [u], 0.1)
    assert (lost.lr, lost.low, lost.high, lost.passes) == (None, None, None, 1)
    flat = critical_lr(lambda: 0 * theta.sum() + 1, [theta], [None], 0.1)
    assert flat.lr is None and flat.passes == 9


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": math.nan}, {"lr": 1.0, "passes": 2}])
def test_wrong_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        critical_lr(lambda: torch.ones(()), [torch.ones(1)], [torch.ones(1)], **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="1 parameters and 0 updates"):
        critical_lr(lambda: torch.ones(()), [torch.ones(1)], [], 0.1)


class Replaces(nn.Module):
    """Buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("wide", torch.ones(1).expand(3))
        self.register_buffer("none", None)

    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean + x.mean().detach()
        return x + random.gauss(0, 0.01) + np.random.normal(0, 0.01)


def test_nothing_is_disturbed() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh(), Replaces(), nn.Linear(8, 2))
    batch = torch.randn(16, 4)
    seen: list[float] = []

    def loss() -> Tensor:
        value: Tensor = model(batch).square().mean()
        seen.append(value.item())
        return value

    loss().backward()
    parameters = list(model.parameters())
    gradients = [p.grad.clone() for p in parameters]
    tensors = [(t, t.clone()) for t in [*parameters, *model.buffers()]]
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    seen.clear()
    found = critical_lr(loss, parameters, [p.grad for p in parameters], 0.1, model=model)
    assert found.lr is not None and found.passes == len(seen)
    first = seen[0]
    critical_lr(loss, parameters, [None, *(p.grad for p in parameters[1:])], 0.2, model=model)
    assert first in seen[found.passes :]  # the same random numbers in every pass
    sharpness(loss, parameters, model=model, iterations=2)

    def fails() -> Tensor:
        loss()
        if len(seen) % 2:
            raise RuntimeError("out of memory")
        return loss()

    with pytest.raises(RuntimeError):
        critical_lr(fails, parameters, [p.grad for p in parameters], 0.1, model=model)
    assert all(torch.equal(t, value) for t, value in tensors)
    assert [id(t) for t in [*parameters, *model.buffers()]] == [id(t) for t, _ in tensors]
    assert all(torch.equal(p.grad, g) for p, g in zip(parameters, gradients, strict=True))
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), str(np.random.get_state()))
    assert model.training
