"""A training loop that is looked after: a bad batch and a bug in the lr do no harm, and the log says what was done.

Run it: `python examples/watched_loop.py`
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta
from etascope.watcher import controller_of, replay

HORIZON = 600


def data():
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y)
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train = DataLoader(TensorDataset(x[chosen[:1400]], y[chosen[:1400]]), batch_size=64, shuffle=True)
    return train, (x[chosen[1400:]], y[chosen[1400:]])


def main():
    torch.manual_seed(0)
    train, (x_val, y_val) = data()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    handle = eta.attach(eta.warmup("5%") >> eta.cosine(), optimizer, lr=0.1, horizon=HORIZON)

    # log="run.jsonl" writes a file, for `etascope watch run.jsonl`; None keeps it in memory.
    with eta.watch(model, optimizer, schedule=handle, act=True, log=None) as w:
        for seen, (x, y) in enumerate(w.batches(train)):
            if seen == 200:
                x, y = 10 * x, y.roll(1)  # a bad batch: wrong labels, wrong units
            if 300 <= seen < 310:
                optimizer.param_groups[0]["lr"] = 10.0  # a bug: somebody else writes the lr
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            w.observe(loss)  # after backward, before the update
            optimizer.step()
            if seen % 50 == 49:
                with torch.no_grad():
                    w.validate(F.cross_entropy(model(x_val), y_val))

    print("What was decided, and noted:")
    for said in (*w.decisions, *w.notes):
        print(f"  {said}")
    print("Why was the lr what it was?")
    print(f"  {w.why(310)}")
    again = [said for said in replay(w.log) if isinstance(said, eta.Decision)]
    print(f"Replayed from the log, the decisions are the same: {again == w.decisions}")
    other = controller_of(w.log, policies=[eta.rewind(factor=0.3, skips=0)], act=True)
    said = [str(own) for own in replay(w.log, other) if isinstance(own, eta.Decision)]
    print("What a rewind without skipping would have been told to do:", *said, sep="\n  ")
    with torch.no_grad():
        right = (model(x_val).argmax(1) == y_val).float().mean()
    print(f"{right:.1%} of the digits held out are told right after {w.step} updates")


if __name__ == "__main__":
    main()
