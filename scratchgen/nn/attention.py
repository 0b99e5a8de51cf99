"""Multi-head attention (Vaswani et al. 2017, section 3.2.2) with torch's arguments and state_dict keys."""

from __future__ import annotations

import math
from typing import Any

from .. import dtypes, ops
from ..device import Device
from ..tensor import Tensor
from . import init
from .linear import Linear
from .module import Module
from .parameter import Parameter


class MultiheadAttention(Module):
    """``num_heads`` attentions side by side on projections of query, key and value, and a projection of the result.

    Inputs are ``(L, N, E)``, or ``(N, L, E)`` if ``batch_first``, or ``(L, E)``; keys and values may have a length S
    and sizes ``kdim`` and ``vdim`` of their own. ``add_bias_kv``: one learnt further key and value;
    ``add_zero_attn``: a further key and value of zeros.
    """

    in_proj_weight: Parameter | None  # query, key and value projections stacked, if all inputs have one size
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention: embed_dim {embed_dim} does not divide into {num_heads} heads")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first

        def parameter(*shape: int) -> Parameter:
            return Parameter(ops.empty(shape, dtype=dtype, device=device))

        stacked = self.kdim == self.vdim == embed_dim
        self.in_proj_weight = parameter(3 * embed_dim, embed_dim) if stacked else None
        self.q_proj_weight = None if stacked else parameter(embed_dim, embed_dim)
        self.k_proj_weight = None if stacked else parameter(embed_dim, self.kdim)
        self.v_proj_weight = None if stacked else parameter(embed_dim, self.vdim)
        self.in_proj_bias = parameter(3 * embed_dim) if bias else None
        self.bias_k = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.bias_v = parameter(1, 1, embed_dim) if add_bias_kv else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections in by Xavier's uniform, further key and value by his normal distribution, biases zero."""
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for extra in (self.bias_k, self.bias_v):
            if extra is not None:
                init.xavier_normal_(extra)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """The result, shaped as the query, and the attention weights ``(N, L, S)`` if ``need_weights``.

        Masks are True (or -inf, being added) where attention is not allowed: ``key_padding_mask`` ``(N, S)``,
        ``attn_mask`` ``(L, S)`` or ``(N * num_heads, L, S)``. ``is_causal``: no query attends to a later key.
        ``average_attn_weights=False`` returns the heads' own, ``(N, num_heads, L, S)``. Without weights it is faster.
        """
        batched = self._check(query, key, value)
        q, k, v = self._project(*self._batch_first(batched, query, key, value))
        masked = key_padding_mask is not None or attn_mask is not None
        further = self.bias_k is not None or self.add_zero_attn
        only_causal = is_causal and not (masked or further or need_weights)  # the op itself leaves out what is later
        mask = None if only_causal else self._mask(q, k, key_padding_mask, attn_mask, is_causal)
        if further:
            k, v = self._with_further_keys(k, v)
            mask = None if mask is None else ops.pad(mask, (0, k.shape[1] - mask.shape[-1]))  # they are never masked

        q, k, v = (self._split_heads(x) for x in (q, k, v))
        drop = self.dropout if self.training else 0.0
        if need_weights:
            scores = ops.matmul(q / math.sqrt(self.head_dim), k.transpose(-1, -2))
            weights = ops.softmax(scores if mask is None else scores + mask, dim=-1)
            weights = ops.dropout(weights, drop) if drop else weights
            heads = ops.matmul(weights, v)
        else:
            heads = ops.scaled_dot_product_attention(q, k, v, mask, drop, is_causal=only_causal)
        batch, length = heads.shape[0], heads.shape[2]
        y = self.out_proj(heads.transpose(1, 2).reshape(batch, length, self.embed_dim))

        y = y.squeeze(0) if not batched else y if self.batch_first else y.transpose(0, 1)
        if not need_weights:
            return y, None
        if average_attn_weights:
            weights = weights.mean(1)
        return y, weights if batched else weights.squeeze(0)

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        """Whether the inputs are batched."""
        shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
        if query.ndim not in (2, 3) or key.ndim != query.ndim or value.ndim != query.ndim:
            raise ValueError(f"MultiheadAttention: inputs must all have 2 or all have 3 dimensions, got {shapes}")
        sizes = (query.shape[-1], key.shape[-1], value.shape[-1])
        expected = (self.embed_dim, self.kdim, self.vdim)
        if sizes != expected or key.shape[:-1] != value.shape[:-1]:
            raise ValueError(
                f"MultiheadAttention: expected last sizes {expected}, and keys and values of one length; got {shapes}"
            )
        batch = 0 if self.batch_first else 1
        if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
            raise ValueError(f"MultiheadAttention: dimension {batch} is the batch and must be the same, got {shapes}")
        return query.ndim == 3

    def _batch_first(self, batched: bool, *inputs: Tensor) -> list[Tensor]:
        """The inputs as ``(N, L, E)``. Those that are one tensor stay one: then one projection does for them."""
        made = {}
        for x in inputs:
            if id(x) not in made:
                made[id(x)] = x.unsqueeze(0) if not batched else x if self.batch_first else x.transpose(0, 1)
        return [made[id(x)] for x in inputs]

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.in_proj_weight is not None and query is key and key is value:
            q, k, v = ops.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
            return q, k, v
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (ops.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
        return q, k, v

    def _with_further_keys(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values with the learnt ones and the zeros at their end."""
        one = (k.shape[0], 1, self.embed_dim)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = ops.cat([k, self.bias_k.expand(one)], 1), ops.cat([v, self.bias_v.expand(one)], 1)
        if self.add_zero_attn:
            zeros = ops.zeros(one, dtype=k.dtype, device=k.device)
            k, v = ops.cat([k, zeros], 1), ops.cat([v, zeros], 1)
        return k, v

    def _split_heads(self, x: Tensor) -> Tensor:
        """``(N, L, E)`` to ``(N, num_heads, L, head_dim)``."""
        return x.reshape(x.shape[0], x.shape[1], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(
        self, q: Tensor, k: Tensor, key_padding_mask: Tensor | None, attn_mask: Tensor | None, is_causal: bool
    ) -> Tensor | None:
        """All masks as one to add to the scores, of a shape that broadcasts to ``(N, num_heads, L, S)``."""
        batch, length, keys = q.shape[0], q.shape[1], k.shape[1]
        masks = []
        if key_padding_mask is not None:
            if key_padding_mask.shape not in ((batch, keys), (keys,)):
                raise ValueError(
                    f"MultiheadAttention: key_padding_mask must be {[batch, keys]}, got {list(key_padding_mask.shape)}"
                )
            masks.append(_additive(key_padding_mask, q.dtype).reshape(-1, 1, 1, keys))
        if attn_mask is not None:
            per_head = (batch * self.num_heads, length, keys)
            if attn_mask.shape not in (per_head, (length, keys)):
                raise ValueError(
                    f"MultiheadAttention: attn_mask must be {[length, keys]} or {list(per_head)}, "
                    f"got {list(attn_mask.shape)}"
                )
            shape = (batch, self.num_heads, length, keys) if attn_mask.ndim == 3 else (1, 1, length, keys)
            masks.append(_additive(attn_mask, q.dtype).reshape(shape))
        elif is_causal:
            later = ops.ones((length, keys), dtype=dtypes.bool_, device=q.device).triu(1)
            masks.append(_additive(later, q.dtype).reshape(1, 1, length, keys))
        return sum(masks[1:], masks[0]) if masks else None


def _additive(mask: Tensor, dtype: Any) -> Tensor:
    """A mask to add to scores: -inf where a boolean mask is True."""
    if mask.dtype == dtypes.bool_:
        return ops.where(mask, -math.inf, ops.zeros((), dtype=dtype, device=mask.device))
    return ops.cast(mask, dtype)
