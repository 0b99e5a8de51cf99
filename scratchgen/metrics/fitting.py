"""How scikit-learn's estimators are fitted here: quietly, and the same on every machine."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

Estimator = TypeVar("Estimator", bound=Any)


def fit_quietly(estimator: Estimator, x: np.ndarray, y: np.ndarray | None = None) -> Estimator:
    """Fit ``estimator`` for its fixed number of iterations and return it.

    Ending there is part of the metric's definition, so the convergence warning says nothing. One thread: the
    order in which several add up would change k-means, and thereby a mixture, in the third digit; and the
    products of a 64-unit net are too small to share (on a busy machine BLAS threads waiting for each other
    made training more than ten times slower).
    """
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(x) if y is None else estimator.fit(x, y)
