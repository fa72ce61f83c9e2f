"""A small training on real digits, with what may go wrong in it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import etascope as eta
from etascope.watching import Watch

HORIZON = 300
PIXELS, DIGITS = (torch.from_numpy(a) for a in load_digits(return_X_y=True))
PIXELS, DIGITS = PIXELS.float() / 16, DIGITS.long()


class Batches:
    """Fresh batches by number, so that a resumed run goes on where it was.

    Args:
        bad: the numbers of batches that are noise.
        shuffled: the numbers of batches whose labels are shuffled.
        at: the number of the next batch.
    """

    def __init__(self, bad: Any = (), shuffled: Any = (), at: int = 0) -> None:
        self.bad, self.shuffled, self.at = bad, shuffled, at

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            number, self.at = self.at, self.at + 1
            generator = torch.Generator().manual_seed(number)
            rows = torch.randint(len(PIXELS), (32,), generator=generator)
            x, y = PIXELS[rows], DIGITS[rows]
            if number in self.bad:
                x = 100 * torch.randn(x.shape, generator=generator)
            if number in self.shuffled:
                y = y[torch.randperm(len(y), generator=generator)]
            yield x, y


class Training:
    """Model, optimizer, handle and scaler, made anew by a seed."""

    def __init__(self, seed: int = 0, norm: bool = False, scaled: bool = False, handle: bool = True, **schedule: Any):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(64, 48), nn.BatchNorm1d(48)] if norm else [nn.Linear(64, 48)]
        self.model = nn.Sequential(*layers, nn.ReLU(), nn.Dropout(0.1), nn.Linear(48, 10))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scaler = torch.amp.GradScaler("cpu") if scaled else None
        given = schedule.pop("schedule", eta.warmup("5%") >> eta.cosine(to=0.05))
        self.handle = eta.attach(given, self.optimizer, horizon=HORIZON) if handle else None

    def watch(self, **options: Any) -> Watch:
        """A watch on it."""
        options = {"schedule": self.handle, "scaler": self.scaler, "horizon": HORIZON, "log": None, **options}
        return eta.watch(self.model, self.optimizer, **options)

    def step(self, x: Tensor, y: Tensor, w: Watch | None, before: Any = None) -> float:
        """One update."""
        loss = F.cross_entropy(self.model(x), y)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        if before is not None:
            before(self)
        if w is not None:
            w.observe(loss)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad()
        return loss.item()

    def run(self, w: Watch, batches: Batches, before: Any = None) -> list[float]:
        """To the end; the losses of all batches."""
        losses = []
        with w:
            for x, y in w.batches(batches):
                losses.append(self.step(x, y, w, None if before is None else lambda t: before(t, batches.at - 1)))
        return losses

    def final(self) -> float:
        """The loss on all digits."""
        self.model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(self.model(PIXELS), DIGITS).item()
        self.model.train()
        return loss

    def state(self) -> list[Tensor]:
        """Every tensor of model and optimizer."""
        own = list(self.model.state_dict().values())
        for parameter in self.model.parameters():
            own += [v for v in self.optimizer.state[parameter].values() if isinstance(v, torch.Tensor)]
        return [tensor.clone() for tensor in own]


def main() -> None:
    """A run that saves every 50 batches, and dies where it is told to: FOLDER, batch of death or -1, resume or not."""
    torch.set_num_threads(1)
    folder, death, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"
    training = Training()
    batches = Batches(bad={135, 136, 175}, shuffled=range(205, 225))
    w = training.watch(act=True, log=folder / "run.jsonl", policies=(eta.rewind(), eta.pearce_hall()))
    if resume:
        saved = torch.load(folder / "checkpoint.pt", weights_only=False)
        training.model.load_state_dict(saved["model"])
        training.optimizer.load_state_dict(saved["optimizer"])
        assert training.handle is not None
        training.handle.load_state_dict(saved["handle"])
        w.load_state_dict(saved["watch"])
        torch.set_rng_state(saved["random"])
        batches.at = saved["at"]
    with w:
        for x, y in w.batches(batches):
            training.step(x, y, w)
            if batches.at == death:
                os.kill(os.getpid(), signal.SIGKILL)
            if batches.at % 50 == 0:
                assert training.handle is not None
                torch.save(
                    {
                        "model": training.model.state_dict(),
                        "optimizer": training.optimizer.state_dict(),
                        "handle": training.handle.state_dict(),
                        "watch": w.state_dict(),
                        "random": torch.get_rng_state(),
                        "at": batches.at,
                    },
                    folder / "checkpoint.part",
                )
                (folder / "checkpoint.part").replace(folder / "checkpoint.pt")
    print(training.final().hex())


if __name__ == "__main__":
    main()
