"""The learning rate of a Keras model, by the training-function door: here on Keras' torch backend, on digits.

Run it: `python examples/keras_model.py`
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # before keras is imported; any backend will do

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import etascope as eta

BATCH = 64
x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split((x / 16).astype("float32"), y, test_size=0.2, random_state=0)


class Losses(keras.callbacks.Callback):
    """The training loss after each batch."""

    def __init__(self):
        super().__init__()
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def batches(steps, seed):
    """So many batches, shuffled anew in every pass over the data."""
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(y_train)) for _ in range(steps * BATCH // len(y_train) + 1)])
    for batch in order[: steps * BATCH].reshape(steps, BATCH):
        yield x_train[batch], y_train[batch]


def run(lr, steps, seed):
    """A complete `fit` of `steps` batches with a cosine decay; returns the validation loss."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    schedule = keras.optimizers.schedules.CosineDecay(lr, max(steps, 1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss)
    seen = Losses()
    if steps:  # a run of 0 steps is asked for once: the loss at the start
        model.fit(batches(steps, seed), steps_per_epoch=steps, epochs=1, shuffle=False, verbose=0, callbacks=[seen])
    yield from enumerate(seen.losses)
    return model.evaluate(x_val, y_val, batch_size=512, verbose=0)


def main():
    finding = eta.find(run, horizon=300)
    print(finding)


if __name__ == "__main__":
    main()
