"""Every rule against torch.optim over 50 steps, with random options that differ from lane to lane."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.rules.lions import Lion
from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from etascope.rules import read

STEPS, SHAPES = 50, [(3, 2), (2,)]


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda x: round(x, 4))


decay, eps = between(0, 0.5), st.sampled_from([1e-10, 1e-8, 1e-4, 1e-2])
# A β₂ near 0 divides m by the last gradient alone: where that is near 0, torch itself moves by 1e-10 if it is rounded
# otherwise.
betas = st.tuples(between(0, 0.99), between(0.3, 0.999))
moments = {"betas": betas, "eps": eps, "weight_decay": decay}

# What may differ between lanes, and what is the same for all.
OPTIONS: dict[type[Optimizer], tuple[dict[str, Any], list[str]]] = {
    SGD: ({"momentum": between(0, 0.99), "dampening": between(0, 1), "weight_decay": decay}, []),
    Adagrad: (
        {
            "lr_decay": between(0, 0.5),
            "weight_decay": decay,
            "initial_accumulator_value": between(0, 1),
            "eps": eps,
        },
        [],
    ),
    RMSprop: (
        {"alpha": between(0.3, 0.99), "eps": eps, "weight_decay": decay, "momentum": between(0, 0.99)},
        ["centered"],
    ),
    Adam: (moments, ["amsgrad", "decoupled_weight_decay"]),
    AdamW: (moments, ["amsgrad"]),
    Adadelta: ({"rho": between(0, 0.999), "eps": eps, "weight_decay": decay}, []),
    Adamax: (moments, []),
    NAdam: ({**moments, "momentum_decay": between(0, 0.5)}, ["decoupled_weight_decay"]),
    RAdam: ({**moments, "betas": st.tuples(between(0, 0.99), between(0.3, 0.99))}, ["decoupled_weight_decay"]),
    ASGD: ({"lambd": between(0, 0.5), "alpha": between(0, 2), "weight_decay": decay}, []),
    Lion: ({"betas": betas, "weight_decay": decay}, []),
}


@st.composite
def lanes(draw: st.DrawFn, cls: type[Optimizer]) -> list[dict[str, Any]]:
    """The options of two or three lanes, lr included."""
    numbers, flags = OPTIONS[cls]
    same = {flag: draw(st.booleans()) for flag in [*flags, "maximize"]}
    if cls is SGD and draw(st.booleans()):
        same |= {"nesterov": True, "dampening": 0.0, "momentum": draw(between(0.1, 0.99))}
    if draw(st.booleans()):  # some options are the same for all, and so floats to the rule
        same |= {name: draw(values) for name, values in numbers.items() if name not in same and draw(st.booleans())}
    lr = st.floats(-4, -0.5).map(lambda x: 10**x)
    lane = st.fixed_dictionaries({"lr": lr, **{n: values for n, values in numbers.items() if n not in same}})
    return [{**own, **same} for own in draw(st.lists(lane, min_size=2, max_size=3))]


def tensors(generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def largest_gap(cls: type[Optimizer], options: list[dict[str, Any]], seed: int) -> float:
    """Between lanes and torch, of any parameter after any step, by the largest parameter where that is above 1."""
    generator = torch.Generator().manual_seed(seed)
    init = tensors(generator)
    params = [[torch.nn.Parameter(x.clone()) for x in init] for _ in options]
    optimizers = [cls(own, **chosen) for own, chosen in zip(params, options, strict=True)]
    peaks = [chosen["lr"] for chosen in options]
    update = read(optimizers, peaks)
    params_LP = torch.cat([x.flatten() for x in init]).repeat(len(options), 1)
    state, lr_L1 = update.init(params_LP), torch.tensor(peaks, dtype=torch.float64)[:, None]
    gap = 0.0
    for t in range(STEPS):
        multiplier = float(torch.rand((), generator=generator))
        gradients = tensors(generator)
        for own, optimizer, peak in zip(params, optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * multiplier
            for p, g in zip(own, gradients, strict=True):
                p.grad = g.clone()
            optimizer.step()
        grads_LP = torch.cat([g.flatten() for g in gradients]).repeat(len(options), 1)
        params_LP, state = update(params_LP, grads_LP, state, lr_L1 * multiplier, t)
        truth_LP = torch.stack([torch.cat([p.detach().flatten() for p in own]) for own in params])
        scale_L1 = truth_LP.abs().amax(1, keepdim=True).clamp(min=1.0)
        gap = max(gap, float(((params_LP - truth_LP).abs() / scale_L1).max()))
    return gap


@pytest.mark.parametrize("cls", OPTIONS)
@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_every_rule_agrees_with_torch(cls: type[Optimizer], data: st.DataObject, seed: int) -> None:
    assert largest_gap(cls, data.draw(lanes(cls)), seed) <= 1e-12


@settings(max_examples=25, deadline=None)
@given(beta2=between(0.99, 0.9999), seed=st.integers(0, 2**32))
def test_radam_with_one_long_memory_for_all_lanes(beta2: float, seed: int) -> None:
    # With β₂ so near to 1, one rounding of β₂ⁿ moves r by 1e-11; a float is raised as torch does, to the bit.
    assert largest_gap(RAdam, [{"lr": lr, "betas": (0.9, beta2)} for lr in (1e-3, 1e-1)], seed) <= 1e-12


@settings(max_examples=25, deadline=None)
@given(beta2s=st.tuples(between(0.99, 0.999), between(0.99, 0.999)), seed=st.integers(0, 2**32))
def test_radam_with_long_memories_of_lanes_own(beta2s: tuple[float, float], seed: int) -> None:
    options = [{"lr": 1e-2, "betas": (0.9, beta2)} for beta2 in beta2s]
    assert largest_gap(RAdam, options, seed) <= 1e-11
