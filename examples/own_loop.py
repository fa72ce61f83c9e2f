"""Find the learning rate of your own model, then train with it in your own loop.

Run it: `python examples/own_loop.py`
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import etascope as eta

HORIZON = 600


def data():
    x, y = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        torch.tensor(x, dtype=torch.float32) / 16, torch.tensor(y), test_size=0.2, random_state=0
    )
    train = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(x_val, y_val), batch_size=512)
    return train, val


def loss(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y)


def main():
    train, val = data()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 10))
    schedule = eta.warmup("5%") >> eta.cosine()

    # The pieces that you have anyway. Model, loader and random states stay as they are.
    finding = eta.find(
        eta.Task(
            model=model,
            loss=loss,
            optimizer=torch.optim.AdamW,
            train=train,
            val=val,
            horizon=HORIZON,
            schedule=schedule,
        )
    )
    print(finding)

    # And now an ordinary training. The handle counts the optimizer's updates by itself.
    optimizer = torch.optim.AdamW(model.parameters())
    handle = eta.attach(schedule, optimizer, lr=finding.lr, horizon=HORIZON)
    while handle.step < HORIZON:
        for batch in train:
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
            if handle.step == HORIZON:
                break

    model.eval()
    with torch.no_grad():
        losses = [loss(model, batch).item() for batch in val]
    print(f"trained with lr {finding.lr:g}: validation loss {sum(losses) / len(losses):.4f}")


if __name__ == "__main__":
    main()
