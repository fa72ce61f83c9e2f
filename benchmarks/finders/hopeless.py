"""Tasks that allow no honest answer, and the reason that a finder should give for each.

    python benchmarks/finders/hopeless.py       # seeds 10 to 14; results/hopeless.json

All use scikit-learn's digits or nothing, so they need no other data. `tests/finder/test_no_answer.py` runs each once.
"""

import json
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta
from etascope.finder.session import versions

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Hopeless:
    """A task without an answer.

    Args:
        kind: the reason to be given, as `Unanswered.kind` has it.
        subject: a function that makes the task, or a training function.
        options: of `find`.
    """

    kind: str
    subject: object
    options: dict = field(default_factory=dict)
    is_function: bool = False

    def find(self, seed):
        """What `find` says: the record of its refusal, or a finding, which is a failure."""
        task = self.subject if self.is_function else self.subject()
        try:
            return eta.find(task, seed=seed, progress=False, **self.options)
        except eta.NoAnswer as error:
            return error.record


def digits(labels=None):
    x, y = load_digits(return_X_y=True)
    x, y = torch.from_numpy(x).float() / 16, torch.from_numpy(y).long()
    return x, (y if labels is None else labels(y))


def classify(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def task(x, y, *, model=lambda: nn.Linear(64, 10), loss=classify, optimizer=torch.optim.Adam, **more):
    train = DataLoader(TensorDataset(x[:1400], y[:1400]), batch_size=64, shuffle=True)
    val = [(x[1400:], y[1400:])]
    return eta.Task(model=model, loss=loss, optimizer=optimizer, train=train, val=val, horizon=300, **more)


def zeroed():
    layer = nn.Linear(64, 10)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def shuffled_labels():
    """Labels that belong to nothing, and a model that starts at their mean: nothing can be gained."""
    generator = torch.Generator().manual_seed(0)
    return task(*digits(lambda y: torch.randint(10, y.shape, generator=generator)), model=zeroed)


def no_gradient():
    """A loss that never reaches the parameters."""
    return task(*digits(), loss=lambda model, batch: classify(model, batch).detach() + 0 * model(batch[0]).sum())


def another_layer():
    """An optimizer that holds a layer whose output nobody uses."""

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(64, 10), nn.Linear(64, 10)

        def forward(self, x):
            return self.used(x) + 0 * self.unused(x)

    return task(*digits(), model=Split, params=lambda model: model.unused.parameters())


def solved():
    """Least squares from its own solution: there is nothing left to learn."""
    x = torch.randn(1797, 64, generator=torch.Generator().manual_seed(0))
    truth = nn.Linear(64, 1)
    with torch.no_grad():
        y = truth(x).squeeze(-1) + 1.0
        truth.bias += 1.0
    return task(x, y, model=truth, loss=lambda model, batch: F.mse_loss(model(batch[0]).squeeze(-1), batch[1]))


def exploding():
    """Gradients of 1e30: every step is too large."""
    return task(*digits(), loss=lambda model, batch: 1e30 * classify(model, batch) ** 2, optimizer=torch.optim.SGD)


def lottery():
    """A metric that is drawn, whatever the model."""
    draw = np.random.default_rng(0)
    return task(*digits(), evaluate=lambda model: float(draw.random()), goal="max")


def infinite_start():
    """A loss that is infinite before the first step."""
    return task(*digits(), loss=lambda model, batch: classify(model, batch) / 0.0)


def usual():
    """A task with an answer, about 1e-2."""
    return task(*digits())


def noise(lr, steps, seed):
    """A training function whose result is noise."""
    return 1.0 + 0.01 * float(np.random.default_rng([seed, steps, int(lr * 1e12) % 2**31]).standard_normal())


def constant(lr, steps, seed):
    """A training function that learns nothing."""
    return 0.7


def always_nan(lr, steps, seed):
    """A training function that starts at 1 and never stays finite."""
    return float("nan") if steps else 1.0


HOPELESS = {
    "shuffled labels": Hopeless("flat", shuffled_labels),
    "no gradient": Hopeless("flat", no_gradient),
    "another layer": Hopeless("flat", another_layer),
    "solved": Hopeless("flat", solved),
    "exploding": Hopeless("diverges", exploding),
    "lottery": Hopeless("noise", lottery),
    "infinite start": Hopeless("data", infinite_start),
    "range too low": Hopeless("border", usual, {"lr_max": 1e-5}),
    "range too high": Hopeless("diverges", usual, {"lr_min": 1.0}),
    "noise": Hopeless("noise", noise, {"horizon": 1000}, is_function=True),
    "constant": Hopeless("flat", constant, {"horizon": 1000}, is_function=True),
    "always NaN": Hopeless("diverges", always_nan, {"horizon": 1000}, is_function=True),
}


def main():
    rows = []
    for name, hopeless in HOPELESS.items():
        for seed in range(10, 15):
            said = hopeless.find(seed)
            kind = said.kind if isinstance(said, eta.Unanswered) else f"lr {said.lr:g}"
            rows.append({"task": name, "seed": seed, "wanted": hopeless.kind, "said": kind})
        own = [row["said"] for row in rows if row["task"] == name]
        print(f"{name:16} wanted {hopeless.kind:9} said {', '.join(own)}", flush=True)
    right = np.mean([row["said"] == row["wanted"] for row in rows])
    print(f"refused for the right reason: {right:.0%} of {len(rows)}")
    result = {"date": str(date.today()), "cores": 2, "versions": versions(), "right": float(right), "rows": rows}
    (RESULTS / "hopeless.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
