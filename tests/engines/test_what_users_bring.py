"""What users bring, on several optimizers: lanes are held to the loop, gradients at its own state and losses.

In float64, unless the task itself asks for autocast: there a lane's matrices are multiplied in another order, and each
product is rounded to 8 (bf16) or 11 (fp16) bits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from small_tasks import (
    CLASSES,
    CPU,
    WORDS,
    Square,
    batches,
    convnet,
    engine,
    lanes_of,
    largest_gap,
    off_at_the_loops_state,
    setting,
    small_task,
    train,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adagrad, AdamW, RMSprop

from etascope.engines.loop import Loop
from etascope.engines.prepared import Prepared
from etascope.engines.refusals import refusal
from etascope.engines.stack import Stack, quiet
from etascope.records import Engine as Ran

RULES: dict[str, tuple[Callable[..., Any], float]] = {  # optimizer, and the largest of the lanes' lrs
    "sgd": (partial(SGD, momentum=0.9, weight_decay=1e-3), 0.05),
    "adamw": (AdamW, 1e-2),
    "rmsprop": (RMSprop, 1e-3),
    "adagrad": (Adagrad, 0.03),
}
LANES = 4


# ------------------------------------------------------------------------------------------- models


class Words(nn.Module):
    """A recurrent net over words; its embedding leaves word 0 out, and is the head's weight too where tied."""

    def __init__(self, kind: type[nn.RNNBase] = nn.GRU, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 8, padding_idx=0)
        self.net = kind(8, 8, num_layers=2, batch_first=True, bidirectional=False)
        self.head = nn.Linear(8, WORDS)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(self.embed(x))[0]).flatten(0, 1)


class LoRA(nn.Module):
    """A frozen linear map and a trained product of two thin ones."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features, dtype=base.weight.dtype) / rank)
        self.b = nn.Parameter(torch.randn(base.out_features, rank, dtype=base.weight.dtype) / 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


def with_lora() -> nn.Module:
    """A frozen stem with buffers that stand still and a frozen normalisation in eval mode, and adapters."""

    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    stem = Frozen(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh())
    for q in stem.parameters():
        q.requires_grad_(False)
    return nn.Sequential(stem, LoRA(nn.Linear(8, 8)), nn.Tanh(), LoRA(nn.Linear(8, CLASSES)))


class OwnFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(Square.apply(self.a(x)))


@dataclasses.dataclass
class Output:
    loss: Tensor
    logits: Tensor


class Says(nn.Module):
    """Returns a dict or a dataclass."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.net, self.kind = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, CLASSES)), kind

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.net(x)
        return self.kind(loss=F.cross_entropy(logits, labels), logits=logits)


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def hugging_face(kind: str, lora: bool = False) -> nn.Module:
    """A tiny model from a configuration, without dropout."""
    t = pytest.importorskip("transformers")
    small = {"vocab_size": 30, "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    rest = {"intermediate_size": 16, "max_position_embeddings": 16}
    if kind == "bert":
        off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        return t.BertForMaskedLM(t.BertConfig(**small, **rest, **off)).double()
    if kind == "gpt2":
        off = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
        sizes = {"vocab_size": 30, "n_layer": 1, "n_embd": 8, "n_head": 2, "n_positions": 16}
        model = t.GPT2LMHeadModel(t.GPT2Config(**sizes, **off))
    else:
        model = t.LlamaForCausalLM(t.LlamaConfig(**small, **rest))
    if lora:
        peft = pytest.importorskip("peft")
        model = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_dropout=0.0, target_modules=["c_attn"]))
    return model.double()


def texts() -> list[dict[str, Tensor]]:
    g = torch.Generator().manual_seed(3)
    ids = [torch.randint(1, 30, (n, 6), generator=g) for n in (4, 4, 3)]
    return [{"input_ids": x, "attention_mask": torch.ones_like(x), "labels": x} for x in ids]


def words(model: Callable[[], nn.Module]) -> dict[str, Any]:
    data = batches("lstm")
    for x, y in data:
        x[:, :2], y[:2] = 0, 0
    return {"model": lambda: model().double(), "train": data, "val": None}


def own_loss(model: Callable[[], nn.Module], data: list[Any] | None = None) -> dict[str, Any]:
    said = data or [{"x": x, "labels": y} for x, y in batches("linear", dtype=torch.float64)]
    return {"model": model, "loss": None, "train": said, "val": None}


def of_the_dict(model: nn.Module, batch: Any) -> Tensor:
    return model(**batch)["loss"]


def next_word(model: nn.Module, batch: Any) -> Tensor:
    logits = model(batch["input_ids"]).logits  # its own loss is taken in float32
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten())


def groups(model: nn.Module) -> list[dict[str, Any]]:
    rest = [q for name, q in model.named_parameters() if not name.startswith("net.0")]
    return [{"params": model.net[0].parameters(), "lr_scale": 0.1}, {"params": rest, "lr_scale": 2.0}]


def ragged() -> list[Any]:
    return batches("linear", dtype=torch.float64)


BROUGHT: dict[str, Callable[[], dict[str, Any]]] = {
    "groups with their own lr ratios": lambda: {"model": lambda: Normed().double(), "params": groups},
    "batch normalisation, accumulated": lambda: {"model": lambda: Normed().double(), "accumulate": 2},
    "clipped by norm": lambda: {"clip_norm": 0.05},
    "clipped by value": lambda: {"clip_value": 0.005},
    "a convnet": lambda: {"model": lambda: convnet().double(), "train": batches("conv-bn", dtype=torch.float64)},
    "a frozen base with buffers, and LoRA": lambda: {"model": lambda: with_lora().double()},
    "tied weights": lambda: words(lambda: Words(tied=True)),
    "gru": lambda: words(Words),
    "lstm": lambda: words(lambda: Words(nn.LSTM)),
    "an own function": lambda: {"model": lambda: OwnFunction().double()},
    "a dataclass": lambda: own_loss(lambda: Says(Output).double()),
    "a dict": lambda: own_loss(lambda: Says(dict).double()) | {"loss": of_the_dict},
    "bert": lambda: own_loss(lambda: hugging_face("bert"), texts()),
    "gpt2": lambda: own_loss(lambda: hugging_face("gpt2"), texts()) | {"loss": next_word},
    "llama": lambda: own_loss(lambda: hugging_face("llama"), texts()),
    "peft lora on gpt2": lambda: own_loss(lambda: hugging_face("gpt2", lora=True), texts()) | {"loss": next_word},
}


def brought(what: str, rule: str) -> tuple[Any, list[float]]:
    optimizer, largest = RULES[rule]
    task = small_task("linear", torch.float64, **{"optimizer": optimizer, "val": None} | BROUGHT[what]())
    return task, [largest * 10 ** (-k / 2) for k in reversed(range(LANES))]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("what", BROUGHT)
class TestEverythingOnEveryRule:
    def test_gradients_and_buffers(self, what: str, rule: str) -> None:
        task, lrs = brought(what, rule)
        assert refusal(Prepared(task, CPU), 0) is None
        gap, buffer_gap = off_at_the_loops_state(task, lrs, steps=5)
        # a Llama computes its norms in float32, whatever it is asked
        assert gap <= (1e-6 if what == "llama" else 1e-12)
        assert buffer_gap <= 1e-12

    def test_losses(self, what: str, rule: str) -> None:
        task, lrs = brought(what, rule)
        steps = 15 if what in ("bert", "gpt2", "llama", "peft lora on gpt2") else 50
        found, truth = (train(name, task, lrs, steps) for name in ("lanes", "loop"))
        assert all(len(c.train) == steps and c.diverged_at is None for c in (*found, *truth))
        assert largest_gap(found, truth) <= (1e-5 if what == "llama" else 1e-9)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("what", BROUGHT)
def test_it_is_replayed_all_the_same(what: str, alone: bool) -> None:
    task, lrs = brought(what, next(iter(RULES)))
    stack = Stack(Prepared(task, CPU), lanes_of(lrs[:1] if alone else lrs), alone=alone)
    batches = stack.batches(0)
    with quiet():
        for t in range(4):
            stack.step([next(batches) for _ in range(task.accumulate)], 1.0, t)
    assert stack.replay is not None
    assert all(known.recording is not None and known.misses == 0 for known in stack.replay.known)


# ------------------------------------------------------------------------------- held once for all lanes


def test_what_does_not_change_is_held_once() -> None:
    task = small_task("linear", torch.float64, model=lambda: with_lora().double())
    stack = Stack(Prepared(task, CPU), lanes_of([0.01, 0.02, 0.03]))
    frozen = {name for name, q in stack.objective.named_parameters() if not q.requires_grad}
    still = {name for name, _ in stack.objective.named_buffers()}
    assert stack.shared.keys() == frozen | still
    assert not stack.buffers
    assert stack.params_LP.shape[1] == 2 * (8 + 8) + 2 * (8 + CLASSES)
    own = dict(stack.objective.named_parameters()) | dict(stack.objective.named_buffers())
    assert all(t.data_ptr() == own[name].data_ptr() for name, t in stack.shared.items())


class Counts(nn.Module):
    """Begins to move a buffer at its fourth step: by what differs between lanes."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = nn.Linear(5, CLASSES), 0
        self.register_buffer("seen", torch.zeros(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x)
        self.calls += self.training
        if self.calls > 8:
            with torch.no_grad():
                self.seen.add_(out.detach().mean(0).to(self.seen.dtype))
        return out + 0.1 * self.seen


def test_a_buffer_that_begins_to_move_later_is_each_lanes_own_from_then_on() -> None:
    task = small_task("linear", torch.float64, model=lambda: Counts().double(), val=None)
    stack = Stack(Prepared(task, CPU), lanes_of([0.01, 0.02]))
    stream = stack.batches(0)
    for t in range(7):
        assert "model.seen" in stack.shared
        stack.step([next(stream)], 1.0, t)
    for t in range(7, 12):
        stack.step([next(stream)], 1.0, t)
    assert "model.seen" in stack.buffers
    assert not torch.equal(*stack.buffers["model.seen"])


# ---------------------------------------------------------------------------------------- mixed precision

CLOSE = {"bf16": 3e-2, "fp16": 4e-3}  # of a gradient's norm


def plain_net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, CLASSES))


def norms() -> nn.Module:
    """Normalisations of what a matrix product left in less precision; smooth, so that no unit is at a kink."""
    return nn.Sequential(
        *(nn.Linear(5, 16), nn.LayerNorm(16), nn.Linear(16, 16), nn.GroupNorm(2, 16), nn.Tanh()),
        *(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, CLASSES)),
    )


@pytest.mark.parametrize("precision", CLOSE)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("model", [plain_net, norms, OwnFunction], ids=["batch norm", "norms", "own function"])
def test_autocast(model: Callable[[], nn.Module], rule: str, precision: Any) -> None:
    optimizer, largest = RULES[rule]
    task = small_task(model=model, optimizer=optimizer, precision=precision)
    lrs = [largest * 10 ** (-k / 2) for k in reversed(range(LANES))]
    assert refusal(Prepared(task, CPU), 0) is None
    gap, buffer_gap = off_at_the_loops_state(task, lrs, steps=5)
    assert gap <= CLOSE[precision]
    assert buffer_gap <= CLOSE[precision]
    found, truth = (train(name, task, lrs, 15) for name in ("lanes", "loop"))
    assert largest_gap(found, truth) <= 10 * CLOSE[precision]
    full = train("loop", small_task(model=model, optimizer=optimizer), lrs, 15)
    assert largest_gap(found, full) > 0  # it was really asked for
    for f, t in zip(found, truth, strict=True):
        assert [v for _, v in f.val] == pytest.approx([v for _, v in t.val], rel=10 * CLOSE[precision])


def stressed(model: nn.Module, batch: Any, factor: float = 1.0) -> Tensor:
    """Its gradient overflows in fp16 where the factor is large."""
    return F.cross_entropy(model(batch[0]) * factor, batch[1]) * factor


FACTORS = [1.0, 8.0, 64.0, 2.0]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_lane_has_its_own_scale_as_the_loop_has(accumulate: int) -> None:
    task = small_task(loss=stressed, precision="fp16", val=None, accumulate=accumulate, optimizer=SGD)
    p, settings = Prepared(task, CPU), [setting(1e-4, factor=f) for f in FACTORS]
    stack, loop = Stack(p, settings), Loop(p, Ran("loop", 1, 1, "cpu"))
    built = [p.build(s.seed, s.lr, s.options) for s in settings]
    streams = [p.batches(0, 0) for _ in settings]
    feed = stack.batches(0)
    for t in range(6):
        losses_L = stack.step([next(feed) for _ in range(accumulate)], 1.0, t)
        truth = [loop.step(b, stream, b.setting.lr) for b, stream in zip(built, streams, strict=True)]
        assert losses_L.tolist() == pytest.approx(truth, rel=2e-2)
        assert stack.scaler is not None
        assert stack.scaler.scale_L.tolist() == [b.scaler.get_scale() for b in built]
    assert len(set(stack.scaler.scale_L.tolist())) > 1  # some have overflowed


def test_a_scale_grows_after_2000_good_updates() -> None:
    task = small_task(model=lambda: nn.Linear(5, CLASSES), precision="fp16")
    stack = Stack(Prepared(task, CPU), lanes_of([0.01, 0.02]))
    assert stack.scaler is not None
    before = stack.scaler.scale_L.clone()
    for t in range(2000):
        if t == 1000:
            stack.scaler.halve(torch.tensor([1]))
        stack.scaler.grow()
    assert stack.scaler.scale_L.tolist() == [2 * float(before[0]), float(before[1]) / 2]


@pytest.mark.parametrize("model", ["dropout", "batch norm"])
def test_an_overflow_touches_no_other_lane(model: str) -> None:
    kind: dict[str, Any] = {"kind": "dropout"} if model == "dropout" else {"model": plain_net}
    task = small_task(**kind, loss=stressed, precision="fp16")
    calm = [setting(0.01, factor=f) for f in (1.0, 1.001, 2.0, 1.002)]
    wild = [*calm[:2], setting(0.01, factor=256.0), calm[3]]
    a, b = (train("lanes", task, lanes, 20) for lanes in (calm, wild))
    for k in (0, 1, 3):
        assert a[k] == b[k]  # to the bit
    assert a[2] != b[2]
    assert b[2].trained == 20 or b[2].diverged_at is not None


def test_a_lane_whose_gradient_overflows_at_any_scale_diverges_as_on_the_loop() -> None:
    def hopeless(model: nn.Module, batch: Any, factor: float = 0.0) -> Tensor:
        weight = model[0].weight.sum()
        return (
            F.cross_entropy(model(batch[0]), batch[1]) + (weight - weight.detach()) * factor * 1e35
        )  # steep, not high

    task = small_task(loss=hopeless, precision="fp16", val=None)
    settings = [setting(0.01), setting(0.01, factor=1e35)]
    found, truth = (train(name, task, settings, 10) for name in ("lanes", "loop"))
    assert [c.diverged_at for c in found] == [c.diverged_at for c in truth] == [None, 0]
    assert engine("lanes", task).units(settings) == [settings]
    assert math.isinf(found[1].loss)
