"""`lstm-chars`: an LSTM with dropout on the characters of Python's help, Adam at a constant lr.

B batch, T characters, C channels, V characters in the alphabet.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..task import Task
from ._data import python_help, whole, windows

WINDOW = 48


def task() -> Task:
    """Build the task."""
    train, val, alphabet = python_help()
    return Task(
        name="lstm-chars",
        model=partial(CharLSTM, alphabet),
        loss=loss,
        optimizer=torch.optim.Adam,
        train=DataLoader(windows(train, WINDOW, every=WINDOW), batch_size=16, shuffle=True),
        # Every fourth window, as in `gpt-chars`.
        val=whole(windows(val, WINDOW, every=4 * WINDOW)),
        horizon=600,
    )


class CharLSTM(nn.Module):
    """Embedding, one LSTM layer, dropout, a linear head.

    Args:
        alphabet: number of characters (V).
        channels: width of embedding and LSTM (C).
        dropout: share of the LSTM's outputs that are zeroed in training.
    """

    def __init__(self, alphabet: int, channels: int = 96, dropout: float = 0.1) -> None:
        super().__init__()
        self.characters = nn.Embedding(alphabet, channels)
        self.lstm = nn.LSTM(channels, channels, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, alphabet)

    def forward(self, characters_BT: Tensor) -> Tensor:
        """Scores of each next character, (B, T, V)."""
        states_BTC, _ = self.lstm(self.characters(characters_BT))
        logits_BTV: Tensor = self.head(self.dropout(states_BTC))
        return logits_BTV


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross-entropy per character, in nats."""
    characters_BT, next_BT = batch
    return F.cross_entropy(model(characters_BT).flatten(0, 1), next_BT.flatten())
