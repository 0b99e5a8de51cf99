"""C2ST: the classifier two-sample test."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from .fitting import fit_quietly
from .statistics import Estimate, as_pair

# Passes of a fold's classifier: 300 where the sample is small (360 digits a side); fewer for thousands of images, where
# they cost a minute and were measured to change the accuracy by at most 0.02, up or down.
SAMPLES_SEEN = 175_000
PASSES = (60, 300)


def c2st(real: ArrayLike, fake: ArrayLike, folds: int = 5, seed: int = 0) -> Estimate:
    """Held-out accuracy of fresh classifiers, one a fold, that tell ``real`` from ``fake``.

    0.5 is ideal, 1 means told apart with certainty; the classifier finds artefacts that moments and
    neighbours miss (Lopez-Paz and Oquab 2017). Arrays (N, ...) with values of order 1, N equal on both sides.
    A 64-unit MLP, so that a figure needs no tuning. The standard error is binomial over all held-out
    predictions.
    """
    a, b = as_pair(real, fake, at_least=folds)
    if len(a) != len(b):
        raise ValueError(f"c2st: give equally many samples (0.5 means chance only then), got {len(a)} and {len(b)}")
    x, label = np.concatenate([a, b]), np.repeat([0, 1], [len(a), len(b)])
    right = np.empty(len(x))
    for fit, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, label):
        passes = int(np.clip(SAMPLES_SEEN // len(fit), *PASSES))
        classifier = MLPClassifier((64,), alpha=1e-2, max_iter=passes, random_state=seed)
        fit_quietly(classifier, x[fit], label[fit])
        right[held_out] = classifier.predict(x[held_out]) == label[held_out]
    accuracy = float(right.mean())
    return Estimate(accuracy, float(np.sqrt(accuracy * (1.0 - accuracy) / right.size)))
