"""`gpt-chars`: a 2-layer causal transformer on the characters of Python's help, AdamW, warmup and cosine.

B batch, T characters, C channels, H heads, V characters in the alphabet.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..schedules import cosine, warmup
from ..task import Task
from ._data import python_help, whole, windows

WINDOW = 64


def task() -> Task:
    """Build the task."""
    train, val, alphabet = python_help()
    return Task(
        name="gpt-chars",
        model=partial(GPT, alphabet),
        loss=loss,
        optimizer=partial(torch.optim.AdamW, betas=(0.9, 0.95), weight_decay=0.1),
        params=decay_matrices_only,
        train=DataLoader(windows(train, WINDOW, every=WINDOW), batch_size=16, shuffle=True),
        # Every fourth window: 12,000 characters are enough to tell the settings apart.
        val=whole(windows(val, WINDOW, every=4 * WINDOW)),
        horizon=400,
        schedule=warmup("5%") >> cosine(),
    )


class GPT(nn.Module):
    """A decoder: embeddings, blocks of attention and MLP behind layer norms, a linear head.

    Args:
        alphabet: number of characters (V).
        channels: width (C).
        heads: attention heads per block (H).
        layers: number of blocks.
        window: longest sequence (T).
    """

    def __init__(
        self, alphabet: int, channels: int = 64, heads: int = 4, layers: int = 2, window: int = WINDOW
    ) -> None:
        super().__init__()
        self.characters = nn.Embedding(alphabet, channels)
        self.positions = nn.Embedding(window, channels)
        self.blocks = nn.Sequential(*(Block(channels, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, alphabet)
        self.apply(gpt2_init)

    def forward(self, characters_BT: Tensor) -> Tensor:
        """Scores of each next character, (B, T, V)."""
        place_T = torch.arange(characters_BT.shape[1], device=characters_BT.device)
        x_BTC = self.characters(characters_BT) + self.positions(place_T)
        logits_BTV: Tensor = self.head(self.norm(self.blocks(x_BTC)))
        return logits_BTV


class Block(nn.Module):
    """Causal self-attention, then an MLP; each reads a layer norm and adds to the stream."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x_BTC: Tensor) -> Tensor:
        """The stream after this block."""
        x_BTC = x_BTC + self.attend(self.norm1(x_BTC))
        out: Tensor = x_BTC + self.mlp(self.norm2(x_BTC))
        return out

    def attend(self, x_BTC: Tensor) -> Tensor:
        """Attention to this and earlier characters."""
        q, k, v = self.qkv(x_BTC).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y_BHTD = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y_BTC: Tensor = self.out(y_BHTD.transpose(1, 2).flatten(-2))
        return y_BTC


def gpt2_init(module: nn.Module) -> None:
    """Small normal weights and zero biases, as in GPT-2."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def decay_matrices_only(model: nn.Module) -> list[dict[str, Any]]:
    """Two groups: weight decay for the linear layers' matrices, none for biases, norms and embeddings."""
    decayed = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    chosen = {id(weight) for weight in decayed}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [{"params": decayed}, {"params": rest, "weight_decay": 0.0}]


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy per character, in nats."""
    characters_BT, next_BT = batch
    return F.cross_entropy(model(characters_BT).flatten(0, 1), next_BT.flatten())
