"""Scaled dot-product attention as a fused op."""

from __future__ import annotations

import math

import numpy as np

from ..declare import fused
from ..dtypes import bool_
from ..rng import Generator
from ..tensor import Tensor, wrap
from .compare import where
from .dropout import dropout
from .elementwise import cast
from .matmul import matmul
from .precision import widened
from .reduce import all
from .softmax import softmax

__all__ = ["scaled_dot_product_attention"]


def _weights(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """softmax(scale q k' + mask) [..., L, S]; rows of zeros for queries that may attend to no key."""
    scores = matmul(q * scale, k.mT)
    if mask is None and not is_causal:
        return softmax(scores, -1)
    if mask is None:
        closed = _future(scores)
    elif mask.dtype == bool_:
        closed = ~mask
    else:
        scores = scores + mask
        closed = mask.detach() == -np.inf
    if mask is not None and is_causal:
        closed = closed | _future(scores)
    nowhere = all(closed, -1, True)
    scores = where(nowhere, 0, where(closed, -np.inf, scores))  # a row of nothing but -inf would give NaN
    return where(nowhere, 0, softmax(scores, -1))


def _future(scores: Tensor) -> Tensor:
    """True where key j comes after query i."""
    queries, keys = scores.shape[-2:]
    xp = scores.device.xp
    return wrap(xp.arange(keys) > xp.arange(queries)[:, None], scores.device)


@fused(save="y q k v mask", auxiliary=1)
@widened
def _scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, is_causal: bool, scale: float
) -> Tensor:
    return matmul(_weights(q, k, mask, is_causal, scale), v)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """``softmax(scale query key' + mask) value`` (Vaswani et al. 2017, eq. 1).

    ``query`` [..., L, E], ``key`` [..., S, E], ``value`` [..., S, Ev]: [..., L, Ev]; leading dimensions broadcast.
    ``attn_mask`` broadcasts to [..., L, S]: bools, True where a query may attend, or numbers added to the scores,
    which have a gradient. A query that may attend to nothing gives zeros. ``is_causal``: query i attends to keys
    0 .. i, as far as the mask lets it. ``scale``: 1 / sqrt(E) by default. ``dropout_p``: the probability to drop an
    attention weight, in evaluation too. ``enable_gqa``: dimension -3 are heads, and each head of key and value serves
    several of the query.
    """
    _check(query, key, value, attn_mask)
    scale = 1 / math.sqrt(max(query.shape[-1], 1)) if scale is None else scale
    if enable_gqa:
        query, key, value, attn_mask = _group_heads(query, key, value, attn_mask)
    q, k, v, mask = _broadcast(query, key, value, attn_mask)
    if dropout_p:
        weights = dropout(_weights(q, k, mask, is_causal, scale), dropout_p, generator=generator)
        y = matmul(weights, v)
    else:
        y = _scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal, scale=scale)
    return y.flatten(-4, -3) if enable_gqa else y


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> None:
    shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
    if min(query.ndim, key.ndim, value.ndim) < 2:
        raise ValueError(f"scaled_dot_product_attention: expected [..., length, size] each, got {shapes}")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "scaled_dot_product_attention: query and key must have one size, key and value one length; got " + shapes
        )
    if not query.dtype == key.dtype == value.dtype:
        raise TypeError(
            "scaled_dot_product_attention: query, key and value must have one dtype, "
            f"got {query.dtype}, {key.dtype}, {value.dtype}"
        )
    if mask is not None and mask.dtype.kind not in "bf":
        raise TypeError(f"scaled_dot_product_attention: attn_mask must be bools or floats, got {mask.dtype}")


def _broadcast(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """All with the same leading dimensions, as views."""
    if mask is None and query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
        return query, key, value, None
    lead = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    q, k, v = (x.broadcast_to((*lead, *x.shape[-2:])) for x in (query, key, value))
    if mask is None:
        return q, k, v, None
    scores = (*lead, q.shape[-2], k.shape[-2])
    try:
        fits = np.broadcast_shapes(mask.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"scaled_dot_product_attention: attn_mask of shape {list(mask.shape)} does not broadcast to {list(scores)}"
        )
    mask = mask if mask.dtype == bool_ else cast(mask, q.dtype)
    return q, k, v, mask.broadcast_to(scores)


def _group_heads(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Heads of the query as [heads of the key, heads each of them serves], a dimension of 1 for key and value."""
    if min(query.ndim, key.ndim, value.ndim) < 3 or key.shape[-3] != value.shape[-3] or query.shape[-3] % key.shape[-3]:
        raise ValueError(
            "scaled_dot_product_attention: enable_gqa needs [..., heads, length, size] with as many heads of value as "
            f"of key, and a multiple of that of query; got query {list(query.shape)}, key {list(key.shape)}, value "
            f"{list(value.shape)}"
        )
    groups = (key.shape[-3], query.shape[-3] // key.shape[-3])
    if mask is not None and mask.ndim > 2:
        own = groups if mask.shape[-3] > 1 else (1, 1)
        mask = mask.reshape((*mask.shape[:-3], *own, *mask.shape[-2:]))
    return query.unflatten(-3, groups), key.unsqueeze(-3), value.unsqueeze(-3), mask
