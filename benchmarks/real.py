"""Two real trainings: the finding, and full runs with the answer, a third and three times it, and the zone's ends.

    ETASCOPE_DATA=... python benchmarks/real.py     # writes benchmarks/results/real.json

- Fashion-MNIST (`ETASCOPE_DATA`) through `DataLoader(num_workers=2)`, a convnet with BatchNorm, AdamW, 3,000 steps
- GPT-2 from a configuration through transformers' Trainer: `examples/huggingface_trainer.py`
"""

import gzip
import json
import math
import os
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta

HERE = Path(__file__).parent


def read(name, offset):
    path = Path(os.environ["ETASCOPE_DATA"], "fashion-mnist", name)
    return np.frombuffer(gzip.open(path).read(), np.uint8, offset=offset).copy()


def images(part):
    x = torch.from_numpy(read(f"{part}-images-idx3-ubyte.gz", 16)).view(-1, 1, 28, 28).float() / 255
    return TensorDataset((x - 0.286) / 0.353, torch.from_numpy(read(f"{part}-labels-idx1-ubyte.gz", 8)).long())


def convnet():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


def fashion():
    return eta.Task(
        name="fashion-mnist",
        model=convnet,
        loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        optimizer=torch.optim.AdamW,
        train=DataLoader(images("train"), batch_size=64, shuffle=True, num_workers=2),
        val=DataLoader(images("t10k"), batch_size=1000),
        horizon=3000,
        schedule=eta.warmup("5%") >> eta.cosine(),
    )


def gpt2():
    sys.path.insert(0, str(HERE.parent / "examples"))
    import huggingface_trainer

    return huggingface_trainer.trainer


def main():
    if not os.environ.get("ETASCOPE_DATA"):
        sys.exit("real.py needs Fashion-MNIST: set ETASCOPE_DATA to the folder that holds fashion-mnist/")
    rows = []
    for name, make, options in (("fashion-mnist", fashion, {}), ("gpt2-trainer", gpt2, {})):
        start = time.perf_counter()
        found = eta.find(make(), seed=0, name=name, **options)
        minutes = (time.perf_counter() - start) / 60
        print(f"{found}\n{minutes:.1f} minutes", flush=True)
        sweep = eta.sweep(
            make(),
            lrs=sorted([found.zone[0], found.lr / 3, found.lr, found.lr * 3, found.zone[1]]),
            seeds=(100,),
            name=name,
            **options,
        )
        losses = [v if math.isfinite(v) else None for v in sweep.losses[:, 0].tolist()]
        print("full runs:", dict(zip(sweep.lrs.tolist(), losses, strict=True)), flush=True)
        data = found.to_json()
        row = {k: data[k] for k in ("lr", "interval", "zone", "edge", "loss", "cost", "engine", "init_loss")}
        rows.append({"task": name, "minutes": minutes, **row, "runs": {"lrs": sweep.lrs.tolist(), "losses": losses}})
    result = {"date": str(date.today()), "cores": 2, "versions": data["versions"], "rows": rows}
    (HERE / "results/real.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
