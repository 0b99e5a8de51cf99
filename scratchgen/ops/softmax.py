"""Softmax and what goes with it: log-softmax, log-sum-exp, softmin, and draws from them (Gumbel-softmax)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..declare import fused, method, primitive
from ..rng import Generator
from ..tensor import Tensor
from .compare import where
from .dims import normalize_dim
from .elementwise import cast, floating, quiet
from .index import one_hot
from .math import exp, log
from .precision import widened
from .random import gumbel
from .reduce import Dims, amax, reduced_dims, spread, sum

__all__ = ["gumbel_softmax", "log_softmax", "logsumexp", "softmax", "softmin"]

# Both derivatives need nothing but the output. They are exact to any order, since the output has its own history.


@fused(save="y")
@widened
def _softmax(x: Tensor, *, dim: int) -> Tensor:
    e = exp(x - amax(x.detach(), dim, True))  # detached: softmax does not depend on the shift at all
    return e / sum(e, dim, True)


@_softmax.vjp_rule
def _softmax_rule(g: Tensor, y: Tensor, x: Any, *, dim: int) -> tuple[Tensor]:
    return (y * (g - sum(g * y, dim, True)),)


@fused(save="y")
@widened
def _log_softmax(x: Tensor, *, dim: int) -> Tensor:
    z = x - amax(x.detach(), dim, True)
    return z - log(sum(exp(z), dim, True))


@_log_softmax.vjp_rule
def _log_softmax_rule(g: Tensor, y: Tensor, x: Any, *, dim: int) -> tuple[Tensor]:
    return (g - exp(y) * sum(g, dim, True),)


def _along(op: Any, input: Tensor, dim: int, dtype: Any) -> Tensor:
    x = floating(input) if dtype is None else cast(input, dtype)
    dim = normalize_dim(op.name, dim, x.shape)
    return op(x, dim=dim) if x.ndim else op(x.reshape((1,)), dim=0).reshape(())


@method()
def softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """``e^x`` over its sum along ``dim``: positive numbers that sum to 1. ``dtype``: cast the input to it first.

    A slice of nothing but -inf gives NaN.
    """
    return _along(_softmax, input, dim, dtype)


@method()
def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """``log(softmax(input, dim))``, exact where the softmax itself would be 0."""
    return _along(_log_softmax, input, dim, dtype)


def softmin(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """``softmax(-input, dim)``."""
    return softmax(-input, dim, dtype=dtype)


@quiet
def _logsumexp_forward(x: Any, *, dim: tuple[int, ...] | None, keepdim: bool) -> Any:
    if x.size == 0:
        return np.log(x.sum(dim, keepdims=keepdim))
    top = x.max(dim, keepdims=True)
    top = np.where(np.isinf(top), 0, top)  # inf - inf would be NaN; such sums are infinite as they stand
    y = np.log(np.exp(x - top).sum(dim, keepdims=True)) + top
    return y if keepdim else y.squeeze(dim)


def _logsumexp_rule(g: Tensor, y: Tensor, x: Tensor, *, dim: tuple[int, ...] | None, keepdim: bool) -> Tensor:
    y = spread(where(y == -np.inf, 0, y), x.shape, dim)  # a sum of no terms does not change with them: e^(-inf - 0)
    return spread(g, x.shape, dim) * exp(x - y)


_logsumexp = primitive("logsumexp", _logsumexp_forward, (_logsumexp_rule,), save="y x")


@method()
def logsumexp(input: Tensor, dim: Dims, keepdim: bool = False) -> Tensor:
    """``log(sum(e^x))`` over ``dim`` (one or several), without overflow."""
    x = floating(input)
    return _logsumexp(x, dim=reduced_dims("logsumexp", dim, x.shape), keepdim=keepdim)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, dim: int = -1, *, generator: Generator | None = None
) -> Tensor:
    """A draw from the concrete distribution, the relaxed categorical (Jang et al. 2017; Maddison et al. 2017).

    ``softmax((logits + gumbel noise) / tau)`` along ``dim``. ``hard``: the one-hot vector of its largest entry, with
    the gradient of the soft draw ("straight through").
    """
    if tau <= 0:
        raise ValueError(f"gumbel_softmax: the temperature tau must be positive, got {tau}")
    logits = floating(logits)
    noise = gumbel(logits.shape, generator=generator, dtype=logits.dtype, device=logits.device)
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    chosen = cast(one_hot(soft.argmax(dim), soft.shape[dim]), soft.dtype).movedim(-1, dim)
    return chosen - soft.detach() + soft
