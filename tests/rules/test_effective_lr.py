"""The effective lr against what it says: update = −effective lr · gradient, or first moment."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.rules.lions import Lion
from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from etascope.rules import State, Update, read

L, P, STEPS = 3, 5, 12
LRS = [1e-3, 1e-2, 1e-1]
LR_L1 = torch.tensor(LRS, dtype=torch.float64)[:, None]

WITHOUT_MOMENTUM: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (SGD, {}),
    (Adagrad, {"lr_decay": 0.1, "eps": 1e-2}),
    (RMSprop, {}),
    (RMSprop, {"centered": True, "eps": 1e-2}),
    (Adam, {"betas": (0.0, 0.9)}),
    (Adam, {"betas": (0.0, 0.5), "amsgrad": True, "eps": 1e-2}),
    (AdamW, {"betas": (0.0, 0.9), "weight_decay": 0.0}),
    (Adamax, {"betas": (0.0, 0.9)}),
    (NAdam, {"betas": (0.0, 0.9), "eps": 1e-2}),
    (RAdam, {"betas": (0.0, 0.9), "eps": 1e-2}),  # adaptive from the sixth step on
    (ASGD, {"lambd": 0.0}),
]


def made(cls: type[Optimizer], per_lane: dict[str, list[float]] | None = None, **options: Any) -> Update:
    """Of two param groups, the second at a tenth of the lr."""
    optimizers = []
    for k, lr in enumerate(LRS):
        a, b = (torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (2, P - 2))
        own = {name: values[k] for name, values in (per_lane or {}).items()}
        groups = [{"params": [a]}, {"params": [b], "lr": 0.1 * lr}]
        optimizers.append(cls(groups, lr=lr, **options, **own))  # type: ignore[call-arg]
    return read(optimizers, LRS)


def step(update: Update, params_LP: Tensor, grads_LP: Tensor, state: State, lr: Tensor, t: int) -> tuple[Tensor, State]:
    """One update; what it returns shares nothing with what it takes."""
    return update(params_LP.clone(), grads_LP.clone(), {name: x.clone() for name, x in state.items()}, lr, t)


def test_every_rule_has_one() -> None:
    assert {cls for cls, _ in WITHOUT_MOMENTUM} | {Adadelta, Lion} == {
        ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Lion, NAdam, RAdam, RMSprop,
    }  # fmt: skip


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(("cls", "options"), WITHOUT_MOMENTUM, ids=lambda x: getattr(x, "__name__", None) or str(x))
def test_times_the_gradient_it_is_the_update(cls: type[Optimizer], options: dict[str, Any], maximize: bool) -> None:
    update = made(cls, **options, maximize=maximize)
    params_LP = torch.zeros(L, P, dtype=torch.float64)  # from zero, so that no update is rounded away
    state = update.init(params_LP)
    for t in range(STEPS):
        grads_LP = torch.randn(L, P, dtype=torch.float64)
        lr_L1 = LR_L1 * (1 - t / STEPS)
        after_LP, state = step(update, params_LP, grads_LP, state, lr_L1, t)
        kept = {name: x.clone() for name, x in state.items()}
        effective = update.effective_lr(state, lr_L1, t)
        assert all(torch.equal(state[name], x) for name, x in kept.items())
        assert torch.broadcast_shapes(effective.shape, (L, P)) == (L, P)
        expected = effective * grads_LP * (1 if maximize else -1)
        assert torch.allclose(after_LP, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cls", [Adam, AdamW, Adamax, RAdam])
def test_times_the_corrected_moment_it_is_the_update(cls: type[Optimizer]) -> None:
    beta1_L = [0.9, 0.5, 0.7]
    update = read(
        [
            cls([torch.nn.Parameter(torch.zeros(P))], lr=lr, betas=(beta1, 0.9), weight_decay=0.0)  # type: ignore[call-arg]
            for lr, beta1 in zip(LRS, beta1_L, strict=True)
        ],
        LRS,
    )
    zeros_LP, beta1_L1 = torch.zeros(L, P, dtype=torch.float64), torch.tensor(beta1_L, dtype=torch.float64)[:, None]
    state, moment_LP = update.init(zeros_LP), torch.zeros(L, P, dtype=torch.float64)
    for t in range(STEPS):
        grads_LP = torch.randn(L, P, dtype=torch.float64)
        moment_LP = beta1_L1 * moment_LP + (1 - beta1_L1) * grads_LP
        after_LP, state = step(update, zeros_LP, grads_LP, state, LR_L1, t)
        expected = -update.effective_lr(state, LR_L1, t) * moment_LP / (1 - beta1_L1 ** (t + 1))
        assert torch.allclose(after_LP, expected, rtol=1e-12, atol=0)


def test_of_adam_at_the_first_step() -> None:
    update = made(Adam, eps=1e-3)
    grads_LP = torch.randn(L, P, dtype=torch.float64)
    zeros_LP = torch.zeros_like(grads_LP)
    _, state = step(update, zeros_LP, grads_LP, update.init(zeros_LP), LR_L1, 0)
    ratio = torch.tensor([1, 1, 0.1, 0.1, 0.1], dtype=torch.float64)
    assert torch.allclose(update.effective_lr(state, LR_L1, 0), LR_L1 * ratio / (grads_LP.abs() + 1e-3), rtol=1e-12)


def test_of_adadelta_is_that_of_a_gradient_as_large_as_those_before() -> None:
    update = made(Adadelta, {"rho": [0.9, 0.5, 0.7]}, eps=1e-4)
    zeros_LP = torch.zeros(L, P, dtype=torch.float64)
    state = update.init(zeros_LP)
    for t in range(STEPS):
        _, state = step(update, zeros_LP, torch.randn(L, P, dtype=torch.float64), state, LR_L1, t)
        steady_LP = state["square"].sqrt()
        after_LP, _ = step(update, zeros_LP, steady_LP, state, LR_L1, t + 1)
        assert torch.allclose(after_LP, -update.effective_lr(state, LR_L1, t) * steady_LP, rtol=1e-12, atol=0)


def test_of_lion_is_what_every_parameter_moves_by() -> None:
    update = made(Lion, weight_decay=0.0)
    zeros_LP = torch.zeros(L, P, dtype=torch.float64)
    state = update.init(zeros_LP)
    for t in range(STEPS):
        after_LP, state = step(update, zeros_LP, torch.randn(L, P, dtype=torch.float64), state, LR_L1, t)
        assert torch.equal(after_LP.abs(), update.effective_lr(state, LR_L1, t).expand(L, P))


def test_it_has_the_dtype_of_the_state() -> None:
    for cls in (Adagrad, RMSprop, Adam, Adamax, NAdam, RAdam, Adadelta):
        update = made(cls)
        zeros_LP = torch.zeros(L, P)
        _, state = update(zeros_LP, torch.ones(L, P), update.init(zeros_LP), LR_L1, 0)
        effective = update.effective_lr(state, LR_L1, 0)
        assert effective.dtype == torch.float32 and effective.shape == (L, P)
