"""Any training at all, as a black box: here softmax regression in NumPy, without a line of PyTorch.

Run it: `python examples/training_function.py`

The one condition: `run` is a *complete* training of `steps` steps, whose schedule ends with them.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import etascope as eta

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x / 16, y, test_size=0.2, random_state=0)


def loss_and_error(weights, x, y):
    """Mean cross-entropy, and by how much each class was believed too much."""
    scores = x @ weights
    scores -= scores.max(axis=1, keepdims=True)
    beliefs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    picked = beliefs[np.arange(len(y)), y]
    return -np.log(np.maximum(picked, 1e-30)).mean(), beliefs - np.eye(10)[y]


def run(lr, steps, seed):
    """SGD with momentum 0.9 and a linear decay; yields (step, train_loss) and returns the validation loss."""
    rng = np.random.default_rng(seed)
    weights, momentum = np.zeros((64, 10)), np.zeros((64, 10))
    for step in range(steps):
        batch = rng.choice(len(y_train), size=32, replace=False)
        train_loss, error = loss_and_error(weights, x_train[batch], y_train[batch])
        momentum = 0.9 * momentum + x_train[batch].T @ error / len(batch)
        weights -= lr * (1 - step / steps) * momentum
        yield step, train_loss
    return loss_and_error(weights, x_val, y_val)[0]


def main():
    finding = eta.find(run, horizon=1000)
    print(finding)


if __name__ == "__main__":
    main()
