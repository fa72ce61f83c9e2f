"""The learning rate of a scikit-learn estimator, by the training-function door: gradient-boosted trees on diabetes.

Run it: `python examples/sklearn_estimator.py`

A step is a tree here. With estimators that learn by `partial_fit` (SGDClassifier, MLPRegressor) it is a minibatch.
"""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

import etascope as eta

x, y = load_diabetes(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x, y / y.std(), test_size=0.3, random_state=0)


def run(lr, steps, seed):
    """A complete training of `steps` trees, each on half of the rows; returns the squared error on the others."""
    if steps == 0:  # asked for once: the loss at the start
        return mean_squared_error(y_val, np.full(len(y_val), y_train.mean()))
    model = GradientBoostingRegressor(
        n_estimators=steps, learning_rate=lr, subsample=0.5, max_depth=2, random_state=seed
    )
    with np.errstate(all="ignore"):  # an lr that is too large overflows
        model.fit(x_train, y_train)
        yield from enumerate(model.train_score_)
        return mean_squared_error(y_val, model.predict(x_val))


def main():
    finding = eta.find(run, horizon=200)
    print(finding)


if __name__ == "__main__":
    main()
