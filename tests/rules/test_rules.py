"""Every rule against torch.optim, on the same fixed gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.rules.lions import Lion
from torch import Tensor
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from etascope import rules
from etascope.rules import UnknownRule, Update, read

L, STEPS = 8, 30
LRS = [10 ** (-4 + 0.5 * lane) for lane in range(L)]
GROUPS = [[(3, 4), (4,)], [(2, 3, 2), ()]]  # shapes of the tensors of each param group
P = 12 + 4 + 12 + 1

CASES: list[tuple[type[Optimizer], dict[str, Any]]] = [
    (SGD, {}),
    (SGD, {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.02}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.02}),
    (SGD, {"momentum": 0.5, "maximize": True, "weight_decay": 0.02}),
    (Adagrad, {}),
    (Adagrad, {"lr_decay": 0.01, "weight_decay": 0.02, "initial_accumulator_value": 0.1, "eps": 1e-3}),
    (Adagrad, {"maximize": True}),
    (RMSprop, {}),
    (RMSprop, {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.02}),
    (RMSprop, {"centered": True}),
    (RMSprop, {"momentum": 0.9, "centered": True, "maximize": True, "weight_decay": 0.02}),
    (Adam, {}),
    (Adam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02}),
    (Adam, {"amsgrad": True, "weight_decay": 0.02}),
    (Adam, {"maximize": True, "betas": (0.0, 0.9)}),
    (Adam, {"decoupled_weight_decay": True, "weight_decay": 0.02}),
    (AdamW, {}),
    (AdamW, {"betas": (0.8, 0.95), "weight_decay": 0.1, "amsgrad": True}),
    (AdamW, {"maximize": True, "weight_decay": 0.0}),
    (Adadelta, {}),
    (Adadelta, {"rho": 0.7, "eps": 1e-3, "weight_decay": 0.02}),
    (Adadelta, {"maximize": True, "eps": 1e-2}),
    (Adamax, {}),
    (Adamax, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02}),
    (Adamax, {"maximize": True, "betas": (0.0, 0.9)}),
    (NAdam, {}),
    (NAdam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02, "momentum_decay": 0.1}),
    (NAdam, {"decoupled_weight_decay": True, "weight_decay": 0.02, "maximize": True}),
    (RAdam, {}),
    (RAdam, {"betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.02}),
    (RAdam, {"decoupled_weight_decay": True, "weight_decay": 0.02, "maximize": True}),
    (RAdam, {"betas": (0.9, 0.5)}),  # never adaptive
    (ASGD, {}),
    (ASGD, {"lambd": 0.1, "alpha": 0.5, "t0": 3, "weight_decay": 0.02, "maximize": True}),
    (Lion, {}),
    (Lion, {"betas": (0.8, 0.95), "weight_decay": 0.1, "maximize": True}),
]

# What the second group, and each lane, have of their own.
OTHER_GROUP = {
    SGD: {"momentum": 0.0, "dampening": 0.5},
    Adagrad: {"lr_decay": 0.1, "eps": 1e-2},
    RMSprop: {"alpha": 0.7, "momentum": 0.3},
    Adam: {"betas": (0.5, 0.6), "eps": 1e-2},
    AdamW: {"betas": (0.5, 0.6), "eps": 1e-2},
    Adadelta: {"rho": 0.5, "eps": 1e-2},
    Adamax: {"betas": (0.5, 0.6), "eps": 1e-2},
    NAdam: {"betas": (0.5, 0.6), "momentum_decay": 0.05},
    RAdam: {"betas": (0.5, 0.6), "eps": 1e-2},
    ASGD: {"lambd": 0.3, "alpha": 0.9},
    Lion: {"betas": (0.5, 0.6)},
}
VARIANTS = ["one group", "groups", "other options", "lanes"]


def tensors(seed: int) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator, dtype=torch.float64) for shape in g] for g in GROUPS]


def flat(groups: list[list[Tensor]]) -> Tensor:
    return torch.cat([x.detach().reshape(-1) for group in groups for x in group])


def lane(cls: type[Optimizer], options: dict[str, Any], variant: str, lr: float) -> Optimizer:
    params = [[torch.nn.Parameter(x) for x in group] for group in tensors(0)]
    groups: list[dict[str, Any]] = [{"params": params[0]}, {"params": params[1]}]
    if variant == "one group":
        groups = [{"params": params[0] + params[1]}]
    if variant != "one group":
        groups[1] |= {"lr": 0.3 * lr, "weight_decay": 0.3}
    if variant == "other options":
        groups[1] |= OTHER_GROUP[cls] if not options.get("nesterov") else {}
    if variant == "lanes":
        groups[0] |= {"weight_decay": lr**0.5}
        groups[1] |= {"lr": 0.01}
    return cls(groups, lr=lr, **options)


def in_torch(opt: Optimizer, factors: list[float]) -> Tensor:
    peaks = [group["lr"] for group in opt.param_groups]
    params = [p for group in opt.param_groups for p in group["params"]]
    for t, factor in enumerate(factors):
        for group, peak in zip(opt.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        for p, g in zip(params, [x for group in tensors(1 + t) for x in group], strict=True):
            p.grad = g
        opt.step()
    return flat([params])


def in_lanes(update: Update, factors: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    params_LP = flat(tensors(0)).repeat(L, 1).to(dtype)
    lr_L1 = torch.tensor(LRS, dtype=dtype)[:, None]
    state = update.init(params_LP)
    for t, factor in enumerate(factors):
        grads_LP = flat(tensors(1 + t)).repeat(L, 1).to(dtype)
        params_LP, state = update(params_LP, grads_LP, state, lr_L1 * factor, t)
        assert params_LP.shape == (L, P) and params_LP.dtype == dtype
        assert all(x.shape in ((L, P), (L, 1)) for x in state.values())
    return params_LP


def off(found: Tensor, truth: Tensor) -> float:
    """The largest difference, relative to its lane's largest parameter."""
    return float(((found - truth).abs().amax(1) / truth.abs().amax(1)).max())


FACTORS = [(t + 1) / 5 if t < 4 else 1 - t / STEPS for t in range(STEPS)]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("cls", "options"), CASES, ids=lambda x: getattr(x, "__name__", None) or str(x))
class TestEveryRule:
    def test_agrees_with_torch(self, cls: type[Optimizer], options: dict[str, Any], variant: str) -> None:
        update = read([lane(cls, options, variant, lr) for lr in LRS], LRS)
        truth_LP = torch.stack([in_torch(lane(cls, options, variant, lr), FACTORS) for lr in LRS])
        assert off(in_lanes(update, FACTORS), truth_LP) <= 1e-12
        if not options.get("centered"):  # v − m² cancels in float32, in torch as here
            assert off(in_lanes(update, FACTORS, torch.float32).double(), truth_LP) <= 1e-4

    def test_lanes_never_touch(self, cls: type[Optimizer], options: dict[str, Any], variant: str) -> None:
        update = read([lane(cls, options, variant, lr) for lr in LRS], LRS)
        runs = []
        for spoil in (False, True):
            params_LP = flat(tensors(0)).repeat(L, 1)
            state, lr_L1 = update.init(params_LP), torch.tensor(LRS, dtype=torch.float64)[:, None]
            for t in range(5):
                grads_LP = flat(tensors(1 + t)).repeat(L, 1)
                if spoil and t == 1:
                    grads_LP[3], params_LP[5] = float("nan"), float("inf")
                params_LP, state = update(params_LP, grads_LP, state, lr_L1, t)
            runs.append((params_LP, state))
        (clean, kept), (spoilt, left) = runs
        others = [lane for lane in range(L) if lane not in (3, 5)]
        assert torch.equal(clean[others], spoilt[others])
        assert spoilt[3].isnan().all() or (spoilt != clean)[3].any()  # the sign of nan is 0, for Lion
        assert all(torch.equal(kept[key][others], left[key][others]) for key in kept)

    def test_lr_zero_moves_nothing(self, cls: type[Optimizer], options: dict[str, Any], variant: str) -> None:
        update = read([lane(cls, options, variant, lr) for lr in LRS], LRS)
        params_LP = flat(tensors(0)).repeat(L, 1)
        after, _ = update(params_LP.clone(), params_LP.sign(), update.init(params_LP), torch.zeros(L, 1), 0)
        assert torch.equal(after, params_LP)


def one(cls: Any, params: Any = None, **options: Any) -> Optimizer:
    opt: Optimizer = cls(params or [torch.nn.Parameter(torch.zeros(3))], **options)
    return opt


def test_what_is_read_is_as_small_as_can_be() -> None:
    a, b = (torch.nn.Parameter(torch.zeros(n)) for n in (2, 3))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.2, "weight_decay": 0.5}]
    update = read([one(SGD, [dict(g) for g in groups], lr=0.1)], [0.1])
    assert isinstance(update.rule, rules.SGD) and update.rule.momentum == 0.0
    assert isinstance(update.lr_scale, Tensor) and isinstance(update.rule.weight_decay, Tensor)
    assert update.lr_scale.tolist() == [[1, 1, 2, 2, 2]]
    assert update.rule.weight_decay.tolist() == [[0, 0, 0.5, 0.5, 0.5]]

    by_lane = read([one(Adam, [a], lr=lr, weight_decay=lr, betas=(0.9, 1 - lr)) for lr in (0.1, 0.2)], [0.1, 0.2])
    assert isinstance(by_lane.rule, rules.Adam) and by_lane.lr_scale == 1.0
    assert by_lane.rule.weight_decay.tolist() == [[0.1], [0.2]]  # type: ignore[union-attr]
    assert by_lane.rule.betas[0] == 0.9 and by_lane.rule.betas[1].shape == (2, 1)  # type: ignore[union-attr]

    lrs = [0.1 * 1.37**lane for lane in range(20)]
    assert read([one(SGD, [{"params": [a], "lr": 0.1 * lr}], lr=lr) for lr in lrs], lrs).lr_scale == pytest.approx(0.1)


def test_adam_and_adamw_are_told_apart_by_what_they_do() -> None:
    assert type(read([one(Adam, decoupled_weight_decay=True)], [1e-3]).rule) is rules.AdamW
    assert type(read([one(Adam)], [1e-3]).rule) is rules.Adam
    assert type(read([one(AdamW)], [1e-3]).rule) is rules.AdamW


HOW = [
    (cls, flag) for cls in OTHER_GROUP if cls is not Lion for flag in ("foreach", "fused") if flag in one(cls).defaults
]


@pytest.mark.usefixtures("double")  # torch's own ways to compute ASGD differ by that rounding
@pytest.mark.parametrize(("cls", "flag"), HOW)
def test_what_only_says_how_to_compute_is_ignored(cls: type[Optimizer], flag: str) -> None:
    options = {"weight_decay": 0.02, flag: True}
    update = read([lane(cls, options, "groups", lr) for lr in LRS], LRS)
    truth_LP = torch.stack([in_torch(lane(cls, options, "groups", lr), FACTORS) for lr in LRS])
    assert off(in_lanes(update, FACTORS), truth_LP) <= 1e-12


@pytest.mark.parametrize("cls", [cls for cls in OTHER_GROUP if "capturable" in one(cls).defaults])
def test_a_step_that_a_cuda_graph_may_capture_is_the_same_step(cls: type[Optimizer]) -> None:
    # torch takes such steps on accelerators alone
    assert repr(read([one(cls, capturable=True)], [1e-3])) == repr(read([one(cls)], [1e-3]))


@pytest.mark.parametrize("cls", [cls for cls in OTHER_GROUP if "differentiable" in one(cls).defaults])
def test_a_differentiable_step_is_no_step_of_a_training(cls: type[Optimizer]) -> None:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        one(cls, [p], differentiable=True).step()
    with pytest.raises(UnknownRule, match=f"option differentiable of {cls.__name__} makes updates part of a graph"):
        read([one(cls, differentiable=True)], [1e-3])


class OwnSGD(SGD):
    pass


def hooked() -> Optimizer:
    opt = one(SGD)
    opt.register_step_post_hook(lambda *_: None)
    return opt


def stepped() -> Optimizer:
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.ones(3)
    opt = one(Adam, [p])
    opt.step()
    return opt


def with_option(**options: Any) -> Optimizer:
    opt = one(SGD, momentum=0.9)
    opt.param_groups[0] |= options
    return opt


@pytest.mark.parametrize(
    ("optimizers", "reason"),
    [
        ([one(OwnSGD)], "optimizer OwnSGD has no rule"),
        ([one(torch.optim.Adafactor)], "optimizer Adafactor has no rule: it sees whole matrices"),
        ([one(torch.optim.Rprop)], "optimizer Rprop has no rule: its first step alone takes the lr"),
        ([one(torch.optim.LBFGS)], "optimizer LBFGS has no rule"),
        ([one(SGD), one(Adam)], "optimizer Adam trains one lane, and SGD another"),
        ([hooked()], "step hooks"),
        ([stepped()], "has taken steps before"),
        ([one(SGD), one(SGD, [torch.nn.Parameter(torch.zeros(4))])], "from lane to lane"),
        ([one(SGD, [torch.nn.Parameter(torch.zeros(1, dtype=torch.complex64))])], "complex"),
        ([with_option(warp=3)], "option warp of SGD is not known to its rule"),
        ([with_option(decoupled_weight_decay=True)], "option decoupled_weight_decay of SGD is not known"),
        ([with_option(momentum=None)], "option momentum=None of SGD is not a number"),
        ([one(SGD, momentum=0.9), one(SGD, momentum=0.9, nesterov=True)], "option nesterov of SGD differs"),
    ],
)
def test_what_has_no_rule_says_why(optimizers: list[Optimizer], reason: str) -> None:
    with pytest.raises(UnknownRule, match=reason) as error:
        read(optimizers, [1e-3] * len(optimizers))
    assert "loop" in error.value.next_move


def test_reading_changes_nothing_and_forgets_nothing() -> None:
    opt = one(AdamW, lr=1e-3)
    before = repr(opt.state_dict())
    read([opt], [1e-3])
    assert repr(opt.state_dict()) == before
    group = with_option(lr_scale=2.0, initial_lr=1e-3)
    assert read([group], [1e-3]).lr_scale == 1.0


@pytest.mark.parametrize("cls", [ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop])
def test_groups_updated_each_by_itself_are_the_whole_stack_at_once(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(small: float) -> Tensor:
        monkeypatch.setattr("etascope.rules.reader.SMALL", small)
        lrs = [1e-3, 1e-2, 1e-1]
        own = [torch.nn.Parameter(torch.zeros(n, dtype=torch.float64)) for n in (4, 3, 5)]
        update = read(
            [
                cls(
                    [{"params": own[:1]}, {"params": own[1:2], "lr": 2 * lr, "weight_decay": 0.1}, {"params": own[2:]}],
                    lr,
                )
                for lr in lrs
            ],
            lrs,
        )
        assert len(update._groups) == 3
        g = torch.Generator().manual_seed(0)
        params_LP = torch.randn(3, 12, dtype=torch.float64, generator=g)
        state, lr_L1 = update.init(params_LP), torch.tensor(lrs, dtype=torch.float64)[:, None]
        for t in range(20):
            grads_LP = torch.randn(3, 12, dtype=torch.float64, generator=g)
            params_LP, state = update(params_LP, grads_LP, state, lr_L1, t)
        return torch.cat([params_LP, *(state[name].expand(3, 12) for name in sorted(state))])

    assert off(trained(0), trained(1e9)) <= 1e-12
