"""Buffers are put back without a batch that is left out, and those that hold still are not copied again and again."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from etascope.watching.hands import LARGE, Buffers


def made(**buffers: Tensor | None) -> nn.Module:
    module = nn.Module()
    for name, buffer in buffers.items():
        module.register_buffer(name, buffer)
    return module


def copied(buffers: Buffers, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What `keep` copies."""
    seen: list[Tensor] = []
    copy = torch._foreach_copy_
    with monkeypatch.context() as patch:
        patch.setattr(torch, "_foreach_copy_", lambda to, of: (seen.extend(of), copy(to, of)))
        buffers.keep()
    return seen


def test_what_holds_still_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = made(mask=torch.ones(LARGE + 1), mean=torch.zeros(3), none=None)
    buffers = Buffers([module])
    for call in range(9):
        module.mean += 1
        seen = copied(buffers, monkeypatch)
        assert [id(t) for t in seen] == [id(module.mean)] * (call > 0)
    module.mean += 1
    buffers.put_back()
    assert module.mean.tolist() == [9.0] * 3 and module.mask._version == 0
    module.mask[0] = 0
    assert [id(t) for t in copied(buffers, monkeypatch)] == [id(module.mask), id(module.mean)]
    module.mask[0] = 7
    buffers.put_back()
    assert module.mask[0] == 0


@pytest.mark.parametrize("late", [0, 70])
def test_running_statistics_are_put_back(late: int) -> None:
    """Torch does not count what it writes there; and in fine-tuning they may begin to move late."""
    norm = nn.BatchNorm1d(3)
    buffers = Buffers([norm])
    for call in range(late + 2):
        norm.train(call >= late)
        norm(torch.randn(8, 3, generator=torch.Generator().manual_seed(call)))
        buffers.keep()
    before = norm.running_mean.clone(), norm.running_var.clone(), norm.num_batches_tracked.clone()
    norm(torch.full((8, 3), torch.nan))
    buffers.put_back()
    now = norm.running_mean, norm.running_var, norm.num_batches_tracked
    assert all(map(torch.equal, before, now)) and norm.running_mean.abs().sum() > 0


def test_what_torch_does_not_count_is_seen_by_its_values() -> None:
    module = made(codes=torch.zeros(3))
    buffers = Buffers([module])
    for _ in range(6):
        module.codes.data.add_(1)
        buffers.keep()
    module.codes.data.add_(100)
    buffers.put_back()
    assert module.codes.tolist() == [6.0] * 3


def test_what_begins_late_to_be_written_unseen_is_not_set_back_far() -> None:
    module = made(codes=torch.zeros(3))
    buffers = Buffers([module])
    for call in range(7):
        module.codes.data.fill_(max(0, call - 4))
        buffers.keep()
    buffers.put_back()  # it is not known yet that it changes
    assert module.codes.tolist() == [2.0] * 3


@pytest.mark.parametrize("kind", ["replaced", "resized", "sparse", "inference", "expanded", "meta", "gone", "come"])
def test_odd_buffers(kind: str) -> None:
    before: dict[str, Any] = {
        "sparse": torch.ones(3).to_sparse(), "expanded": torch.ones(1).expand(3), "meta": torch.ones(3, device="meta"),
        "come": None,
    }  # fmt: skip
    with torch.inference_mode(kind == "inference"):
        module = made(own=before.get(kind, torch.ones(3)))
    buffers = Buffers([module])
    for _ in range(4):
        if kind == "replaced":
            module.own = module.own + 1
        elif kind == "inference":
            with torch.inference_mode():
                module.own.add_(1)
        buffers.keep()
    if kind == "replaced":
        module.own = module.own + 1
    elif kind == "inference":
        with torch.inference_mode():
            module.own.add_(1)
    elif kind == "resized":
        module.own = torch.zeros(5)
    elif kind == "gone":
        module.own = None
    elif kind == "come":
        module.own = torch.ones(3)
    with torch.inference_mode(kind == "inference"):
        buffers.put_back()
    if kind == "come":
        assert module.own is None
    elif kind != "meta":
        wanted = 5.0 if kind in ("replaced", "inference") else 1.0
        assert module.own.to_dense().tolist() == [wanted] * 3
