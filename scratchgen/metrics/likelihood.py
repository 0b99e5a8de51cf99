"""Units of likelihood, and the ranking metric for likelihoods and energies (AUROC)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from .statistics import Estimate


def bits_per_dim(nats: float, dims: int, levels: int = 1) -> float:
    """Negative log-likelihood of one sample in ``nats`` over ``dims`` values, as bits a dimension.

    ``levels`` is 1 where the likelihood is that of the discrete values, or a density in units of one grey
    level. For a density over dequantised pixels scaled to [0, 1], ``levels`` is the number of grey levels:
    (nats / D + log levels) / log 2.
    """
    if dims < 1 or levels < 1:
        raise ValueError(f"bits_per_dim: dims and levels must be at least 1, got dims={dims}, levels={levels}")
    return (nats / dims + math.log(levels)) / math.log(2.0)


def nats_from_bits_per_dim(bits: float, dims: int, levels: int = 1) -> float:
    """The inverse of :func:`bits_per_dim`."""
    if dims < 1 or levels < 1:
        raise ValueError(
            f"nats_from_bits_per_dim: dims and levels must be at least 1, got dims={dims}, levels={levels}"
        )
    return dims * (bits * math.log(2.0) - math.log(levels))


def auroc(positive: ArrayLike, negative: ArrayLike) -> Estimate:
    """Area under the ROC curve: P(positive score > negative score), a tie counts half. Scores (N,) and (M,).

    From mid-ranks (Mann and Whitney 1947); standard error of DeLong et al. 1988.
    """
    p, q = np.asarray(positive, np.float64).ravel(), np.asarray(negative, np.float64).ravel()
    if p.size < 2 or q.size < 2:
        raise ValueError(f"auroc: need at least 2 scores on each side, got {p.size} positive and {q.size} negative")
    if np.isnan(p).any() or np.isnan(q).any():
        raise ValueError("auroc: a score is NaN")
    ranks = rankdata(np.concatenate([p, q]))
    # Rank among all less rank among one's own side = number of the other side's scores below.
    share_below = (ranks[: p.size] - rankdata(p)) / q.size
    share_above = 1.0 - (ranks[p.size :] - rankdata(q)) / p.size
    se = np.sqrt(share_below.var(ddof=1) / p.size + share_above.var(ddof=1) / q.size)
    return Estimate(float(share_below.mean()), float(se))
