"""Evaluation of generative models on NumPy arrays: sample metrics, likelihood units, trivial baselines.

No single number is trusted: samples can sit on the Frechet floor and still be told apart at 95 % by a small
classifier, so :func:`evaluate_samples` reports a set of metrics that fail in different ways. Everything takes
and returns NumPy arrays and Python floats; tensors are converted by the caller. The names below are loaded on
first use, because SciPy and scikit-learn are slow to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bernoulli import BernoulliMixture as BernoulliMixture
    from .bernoulli import independent_bernoulli as independent_bernoulli
    from .categorical import CategoricalMixture as CategoricalMixture
    from .categorical import independent_categorical as independent_categorical
    from .classifier import FeatureClassifier as FeatureClassifier
    from .classifier import feature_classifier as feature_classifier
    from .distances import earth_movers_distance as earth_movers_distance
    from .distances import frechet_distance as frechet_distance
    from .distances import frechet_distance_se as frechet_distance_se
    from .distances import frechet_from_moments as frechet_from_moments
    from .distances import kid as kid
    from .distances import normalised_frechet as normalised_frechet
    from .gaussian import DequantisedMixture as DequantisedMixture
    from .gaussian import ProbabilisticPCA as ProbabilisticPCA
    from .gaussian import pca_reconstruction_mse as pca_reconstruction_mse
    from .likelihood import auroc as auroc
    from .likelihood import bits_per_dim as bits_per_dim
    from .likelihood import nats_from_bits_per_dim as nats_from_bits_per_dim
    from .modes import class_balance as class_balance
    from .modes import mixture_modes as mixture_modes
    from .modes import stacked_modes as stacked_modes
    from .neighbours import PRDC as PRDC
    from .neighbours import OneNN as OneNN
    from .neighbours import PairwiseDistances as PairwiseDistances
    from .neighbours import memorisation as memorisation
    from .neighbours import one_nn as one_nn
    from .neighbours import prdc as prdc
    from .ngram import WittenBell as WittenBell
    from .samples import evaluate_samples as evaluate_samples
    from .statistics import Estimate as Estimate
    from .statistics import half_sample_se as half_sample_se
    from .statistics import mean_se as mean_se
    from .two_sample import c2st as c2st

_NAMES = {
    "bernoulli": ("BernoulliMixture", "independent_bernoulli"),
    "categorical": ("CategoricalMixture", "independent_categorical"),
    "classifier": ("FeatureClassifier", "feature_classifier"),
    "distances": (
        "earth_movers_distance",
        "frechet_distance",
        "frechet_distance_se",
        "frechet_from_moments",
        "kid",
        "normalised_frechet",
    ),
    "gaussian": ("DequantisedMixture", "ProbabilisticPCA", "pca_reconstruction_mse"),
    "likelihood": ("auroc", "bits_per_dim", "nats_from_bits_per_dim"),
    "modes": ("class_balance", "mixture_modes", "stacked_modes"),
    "neighbours": ("OneNN", "PRDC", "PairwiseDistances", "memorisation", "one_nn", "prdc"),
    "ngram": ("WittenBell",),
    "samples": ("evaluate_samples",),
    "statistics": ("Estimate", "half_sample_se", "mean_se"),
    "two_sample": ("c2st",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
