"""The data of the built-in tasks, as tensors, split once and for all.

N samples, F features, T characters in a window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

# A fixed split: two runs of the same task, on any machine, judge the same validation samples.
SPLIT_SEED = 0


def classification(
    load: Callable[..., Any], val_share: float, *, standardise: bool
) -> tuple[TensorDataset, TensorDataset]:
    """Training and validation part of a scikit-learn classification set, stratified by class.

    Args:
        load: a loader of `sklearn.datasets` that takes `return_X_y`.
        val_share: fraction of the samples that are kept for validation.
        standardise: whether each feature gets mean 0 and deviation 1 (over the training part).

    Returns:
        Two sets of (features (F,), class) pairs.
    """
    from sklearn.model_selection import train_test_split

    x_NF, y_N = load(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        x_NF, y_N, test_size=val_share, random_state=SPLIT_SEED, stratify=y_N
    )
    if standardise:
        x_train, x_val = standardised(x_train, x_val)
    return (
        TensorDataset(floats(x_train), torch.as_tensor(np.asarray(y_train), dtype=torch.long)),
        TensorDataset(floats(x_val), torch.as_tensor(np.asarray(y_val), dtype=torch.long)),
    )


def digits() -> tuple[TensorDataset, TensorDataset]:
    """The 1,797 handwritten digits: 64 grey values from 0 to 1 each, a fifth kept for validation."""
    from sklearn.datasets import load_digits

    train, val = classification(load_digits, val_share=0.2, standardise=False)
    # The images count black dots per 4x4 block: 0 to 16.
    return (
        TensorDataset(train.tensors[0] / 16, train.tensors[1]),
        TensorDataset(val.tensors[0] / 16, val.tensors[1]),
    )


def python_help() -> tuple[Tensor, Tensor, int]:
    """The texts of CPython's `help()` topics as characters, sorted by topic.

    The text differs a little between versions of Python; within one it is always the same.

    Returns:
        The first nine tenths and the last tenth of the text as indices into its sorted alphabet, and the
        size of that alphabet.
    """
    from pydoc_data.topics import topics

    # Topics share whole sections ("while" is in "compound" too): unless each paragraph stands once, a
    # ninth of the validation text is in the training text.
    paragraphs = "\n\n".join(topics[key] for key in sorted(topics)).split("\n\n")
    text = "\n\n".join(dict.fromkeys(paragraphs))
    alphabet = sorted(set(text))
    index = {character: i for i, character in enumerate(alphabet)}
    characters = torch.tensor([index[character] for character in text])
    cut = len(text) * 9 // 10
    return characters[:cut], characters[cut:], len(alphabet)


def windows(characters: Tensor, length: int, *, every: int) -> TensorDataset:
    """Windows into a text, each with the same window one character later: what comes next.

    Args:
        characters: indices, one per character.
        length: characters per window (T).
        every: distance between the starts of two windows, in characters.

    Returns:
        A set of (window (T,), next characters (T,)) pairs.
    """
    both = characters.unfold(0, length + 1, every)
    return TensorDataset(both[:, :-1].contiguous(), both[:, 1:].contiguous())


def whole(dataset: TensorDataset) -> DataLoader[tuple[Tensor, ...]]:
    """A loader of one batch that holds the whole set, in order: for validation."""
    return DataLoader(dataset, batch_size=len(dataset))


def standardised(train_NF: np.ndarray, val_NF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both parts with the training part's mean taken off, in units of its deviation."""
    mean, deviation = train_NF.mean(axis=0), train_NF.std(axis=0)
    return (train_NF - mean) / deviation, (val_NF - mean) / deviation


def floats(array: np.ndarray) -> Tensor:
    """A float32 tensor with the values of the array."""
    return torch.as_tensor(np.asarray(array), dtype=torch.float32)
