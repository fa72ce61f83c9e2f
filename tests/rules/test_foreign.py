"""Classes that are not torch's: taken where a few steps show that they do what the rule of their name does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.rules.lions import Lion, cautious, matrices_twice, raising, smooth, variant
from torch.optim import Optimizer

from etascope import rules
from etascope.rules import UnknownRule, read

LRS = [1e-4, 1e-3, 1e-2]


def lanes(cls: type[Optimizer], **options: Any) -> list[Optimizer]:
    """Of two param groups, with weight decay of each lane's own."""
    made = []
    for lr in LRS:
        weight, bias, scale = (torch.nn.Parameter(torch.randn(s)) for s in ((300, 20), (20,), ()))
        groups = [{"params": [weight], "weight_decay": 0.01 / lr}, {"params": [bias, scale], "lr": 0.1 * lr}]
        made.append(cls(groups, lr=lr, **options))  # type: ignore[call-arg]
    return made


def test_lion_is_read_with_its_options() -> None:
    update = read(lanes(Lion, betas=(0.95, 0.98)), LRS)
    assert isinstance(update.rule, rules.Lion) and update.rule.betas == (0.95, 0.98)
    assert update.rule.weight_decay[:, 0].tolist() == [100, 10, 1]  # type: ignore[index]
    assert update.rule.weight_decay[:, -1].tolist() == [0, 0, 0]  # type: ignore[index]


def test_timms_lion_is_taken_and_its_other_updates_are_not() -> None:
    timm = pytest.importorskip("timm.optim")
    assert isinstance(read(lanes(timm.Lion, betas=(0.95, 0.98)), LRS).rule, rules.Lion)
    assert isinstance(read(lanes(timm.Lion, foreach=False, maximize=True), LRS).rule, rules.Lion)
    for option in ("caution", "corrected_weight_decay"):
        with pytest.raises(UnknownRule, match=r"Lion of timm\.optim\.lion does not step as the rule of that name"):
            read(lanes(timm.Lion, **{option: True}), LRS)


@pytest.mark.parametrize("move", [cautious, smooth, matrices_twice])
def test_what_only_bears_the_name_is_refused(move: Any) -> None:
    with pytest.raises(UnknownRule, match=r"optimizer Lion .* does not step as the rule of that name does") as error:
        read(lanes(variant(move)), LRS)
    assert "loop" in error.value.next_move


def test_what_one_lane_does_otherwise_is_seen() -> None:
    cls = variant(lambda self, p, blend, group: (cautious if group["tuned"] else Lion.move)(self, p, blend, group))
    optimizers = lanes(cls)
    for opt in optimizers:
        for group in opt.param_groups:
            group["tuned"] = False
    assert isinstance(read(optimizers, LRS).rule, rules.Lion)
    optimizers[2].param_groups[1]["tuned"] = True
    with pytest.raises(UnknownRule, match="does not step"):
        read(optimizers, LRS)


def test_what_cannot_be_tried_is_refused() -> None:
    with pytest.raises(UnknownRule, match="could not be tried on small tensors: RuntimeError: triton is not inst"):
        read(lanes(variant(raising)), LRS)


def test_what_has_stepped_is_refused() -> None:
    optimizers = lanes(Lion)
    for p in (p for group in optimizers[1].param_groups for p in group["params"]):
        p.grad = torch.ones_like(p)
    optimizers[1].step()
    with pytest.raises(UnknownRule, match="has taken steps before"):
        read(optimizers, LRS)


def test_trying_leaves_all_as_it_was() -> None:
    optimizers = lanes(Lion)
    torch.optim.lr_scheduler.LambdaLR(optimizers[0], lambda t: 1.0)  # wraps `step` of the optimizer itself
    before = [repr((opt.state_dict(), opt.param_groups, dict(opt.state))) for opt in optimizers]
    noise = torch.get_rng_state()
    read(optimizers, LRS)
    assert [repr((opt.state_dict(), opt.param_groups, dict(opt.state))) for opt in optimizers] == before
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(p.grad is None for opt in optimizers for group in opt.param_groups for p in group["params"])
