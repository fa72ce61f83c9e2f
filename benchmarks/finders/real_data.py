"""The data of the finders' workloads, each read once; all need `ETASCOPE_DATA` but scikit-learn's digits."""

import csv
import os
import sys
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))

from outside import images, unpacked

NUMBERS = (0, 2, 4, 10, 11, 12)  # columns of the census table
RATINGS = 2000  # of the most rated books


@cache
def fashion():
    return images("train").tensors


@cache
def census_columns():
    """The census table's columns as words; the last is the income."""
    lines = [line.split(", ") for line in unpacked("adult/adult.data.gz").decode().splitlines() if line]
    return list(zip(*lines, strict=True))


@cache
def census():
    """x and y of the census table: numbers standardised, words as indicators; whether income exceeds 50K."""
    columns, parts = census_columns(), []
    for i, column in enumerate(columns[:-1]):
        if i in NUMBERS:
            values = np.array(column, float)
            parts.append(((values - values.mean()) / values.std())[:, None])
        else:
            parts.append(np.eye(len(set(column)))[np.unique(column, return_inverse=True)[1]])
    return torch.from_numpy(np.hstack(parts)).float(), torch.tensor([int(label == ">50K") for label in columns[-1]])


@cache
def bicycle_hours():
    """The bicycle table's rows in order of time, as words."""
    return list(csv.DictReader(unpacked("bike-sharing/hour.csv.gz").decode().splitlines()))


@cache
def bicycles():
    """x and y of the bicycle table: the hour as sine and cosine, weather and calendar; rents, standardised."""
    rows = bicycle_hours()
    hours = np.array([float(r["hr"]) for r in rows]) * 2 * np.pi / 24
    waves = [f(k * hours) for f in (np.sin, np.cos) for k in (1, 2, 3)]
    names = ("temp", "hum", "windspeed", "workingday", "holiday", "yr", "mnth", "weathersit")
    x = np.column_stack([*waves, *([float(r[name]) for r in rows] for name in names)])
    x, y = (x - x.mean(0)) / x.std(0), np.array([float(r["cnt"]) for r in rows])
    return torch.from_numpy(x).float(), torch.from_numpy((y - y.mean()) / y.std()).float()


@cache
def characters():
    text = Path(os.environ["ETASCOPE_DATA"], "tinyshakespeare/input.txt").read_text("ascii")
    alphabet = sorted(set(text))
    return torch.tensor([alphabet.index(c) for c in text]), len(alphabet)


def windows(length, count):
    ids, size = characters()
    return ids[: count * (length + 1)].view(count, length + 1), size


def next_character(model, batch):
    return F.cross_entropy(model(batch[0][:, :-1]).flatten(0, 1), batch[0][:, 1:].flatten())


def digits_tensors():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy(x).float() / 16, torch.from_numpy(y).long()


@cache
def messages():
    """Each message's first 24 words, hashed to 1 ... 4,999, 0 behind its end; whether it is spam."""
    lines = [line.split("\t", 1) for line in unpacked("sms-spam/SMSSpamCollection.gz").decode().split("\n") if line]
    ids = torch.zeros(len(lines), 24, dtype=torch.long)
    for i, (_, text) in enumerate(lines):
        words = text.lower().split()[:24]
        ids[i, : len(words)] = torch.tensor([zlib.crc32(word.encode()) % 4999 + 1 for word in words])
    spam = torch.tensor([int(label == "spam") for label, _ in lines])
    return ids, spam


@cache
def ratings():
    """Reader, book and rating, of the most rated books."""
    table = np.genfromtxt(unpacked("goodbooks-10k/ratings.csv.gz").decode().splitlines()[1:], delimiter=",", dtype=int)
    books, counts = np.unique(table[:, 1], return_counts=True)
    table = table[np.isin(table[:, 1], books[np.argsort(-counts, kind="stable")[:RATINGS]])]
    user, book = (torch.from_numpy(np.unique(table[:, i], return_inverse=True)[1]) for i in (0, 1))
    return user, book, torch.from_numpy(table[:, 2]).float()
