"""What the transformers are built of: attention with a cache, rotary positions, the block.

Vaswani et al. 2017, "Attention Is All You Need" (arXiv:1706.03762); the equation and section numbers are theirs.
GPT, the vision transformer and the encoder-decoder Transformer share this file: a block may be causal or not, may
attend to a memory as well, and may norm before (Xiong et al. 2020) or after each part, as the paper did.

Sequences are (N, T, width). Masks are bools, True where a query may attend, of a shape that broadcasts to
(N, heads, T, S). Each query's output is the *sum* of the values weighted by

    Attention(Q, K, V) = softmax(Q K' / sqrt(d)) V                                                             (1)
"""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.kernels.arrays import array_module
from scratchgen.nn import functional as F

Activation = Literal["relu", "gelu", "gelu_tanh"]


# --- positions


def sinusoids(length: int, width: int) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/width)) and PE(pos, 2i+1) its cosine (section 3.5): (length, width)."""
    if width % 2:
        raise ValueError(f"sinusoids: width must be even, got {width}")
    frequency = sg.exp(sg.arange(0, width, 2, dtype=sg.float32) * (-math.log(10_000.0) / width))
    angle = sg.arange(length, dtype=sg.float32)[:, None] * frequency
    return sg.stack([sg.sin(angle), sg.cos(angle)], -1).reshape(length, width)


class Rotary(NamedTuple):
    """Cosines and sines of the angles by which queries and keys are turned, (..., T, size / 2) each.

    Su et al. 2021, "RoFormer": pair i of a head's numbers, taken as a point of the plane, is turned by position times
    theta_i = 10000^(-2i/size), so that products of queries and keys depend on their distance only. The pairs are
    (x_i, x_{i + size/2}), the order that most published weights use.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, size: int) -> Rotary:
        """For integer ``positions`` (..., T) and heads of ``size`` numbers."""
        if size % 2:
            raise ValueError(f"Rotary: the size of a head must be even, got {size}")
        half = size // 2
        theta = sg.exp(sg.arange(half, dtype=sg.float32, device=positions.device) * (-math.log(10_000.0) / half))
        angle = positions.to(sg.float32)[..., None] * theta
        return cls(sg.cos(angle), sg.sin(angle))

    def turn(self, x: Tensor) -> Tensor:
        """``x`` (..., T, size), turned."""
        a, b = x.chunk(2, -1)
        return sg.cat([a * self.cos - b * self.sin, a * self.sin + b * self.cos], -1)


# --- attention


class Cache:
    """The keys and values of one attention so far, (N, heads, length, size); for decoding, without a graph.

    ``stores``: plain arrays of them, (N, heads, room, size). Room is made in powers of two, so appending a token
    copies only that token, but for rare moves.
    """

    def __init__(self) -> None:
        self.length = 0
        self.stores: tuple[Any, ...] = ()

    def append(self, keys: Any, values: Any) -> None:
        """Remember these arrays too, (N, heads, tokens, size)."""
        if sg.is_grad_enabled():
            raise RuntimeError("Cache: decoding with a cache keeps no graph; call it inside no_grad()")
        start, self.length = self.length, self.length + keys.shape[2]
        if not self.stores or self.stores[0].shape[2] < self.length:
            self.stores = tuple(self._roomier(new, start, i) for i, new in enumerate((keys, values)))
        for store, new in zip(self.stores, (keys, values)):
            store[:, :, start : self.length] = new

    def read(self, device: sg.Device | None = None) -> tuple[Tensor, Tensor]:
        """All keys and all values. ``device``: theirs, which arrays of the emulator do not tell by themselves."""
        if not self.stores:
            raise RuntimeError("Cache: nothing has been stored yet")
        keys, values = (sg.as_tensor(store[:, :, : self.length], device=device) for store in self.stores)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Go on with these rows of the batch, in this order; a row may be taken more than once."""
        self.stores = tuple(store[rows.array] for store in self.stores)

    def _roomier(self, new: Any, used: int, number: int) -> Any:
        room = 1 << max(4, (self.length - 1).bit_length())
        made = array_module(new).zeros((*new.shape[:2], room, new.shape[3]), new.dtype)
        if self.stores:
            made[:, :, :used] = self.stores[number][:, :, :used]
        return made


class Attention(nn.Module):
    """Multi-head attention (section 3.2.2): of a sequence to itself, or to a memory.

    One matrix projects to queries, keys and values; ``projection`` mixes the heads.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"Attention: a width of {width} does not divide into {heads} heads")
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(width, 3 * width, bias)
        self.projection = nn.Linear(width, width, bias)

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        mask: Tensor | None = None,
        is_causal: bool = False,
        rotary: Rotary | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """The heads' results side by side (N, T, width), before ``projection``.

        ``cache``: keys and values of earlier calls come first; those of a memory are computed in the first call only.
        ``is_causal`` is for calls that see the sequence from its start: with a filled cache, give a mask instead.
        """
        q, k, v = self.project(x, memory, rotary, cache)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal)
        return mixed.transpose(1, 2).flatten(2)

    def weights(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
        rotary: Rotary | None = None,
        memory: Tensor | None = None,
    ) -> Tensor:
        """How much each query takes of each value, (N, heads, T, S), for pictures: the softmax of (1) alone."""
        q, k, _ = self.project(x, memory, rotary)
        identity = sg.eye(k.shape[2], dtype=x.dtype, device=x.device).expand(*k.shape[:2], k.shape[2], k.shape[2])
        return F.scaled_dot_product_attention(q, k, identity, mask, is_causal=is_causal)

    def project(
        self, x: Tensor, memory: Tensor | None = None, rotary: Rotary | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of x, and all keys and values, (N, heads, length, size) each."""
        if memory is None:
            q, k, v = self._split(self.qkv(x), 3)
            if rotary is not None:
                q, k = rotary.turn(q), rotary.turn(k)
            if cache is not None:
                cache.append(k.array, v.array)
                k, v = cache.read(x.device)
            return q, k, v
        width = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias
        (q,) = self._split(F.linear(x, weight[:width], None if bias is None else bias[:width]), 1)
        if cache is not None and cache.length:
            return q, *cache.read(x.device)
        k, v = self._split(F.linear(memory, weight[width:], None if bias is None else bias[width:]), 2)
        if cache is not None:
            cache.append(k.array, v.array)
        return q, k, v

    def _split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        n, length, width = x.shape
        return x.reshape(n, length, parts, self.heads, width // parts // self.heads).permute(2, 0, 3, 1, 4).unbind(0)


# --- the block


class BlockCache(NamedTuple):
    """What a block keeps while decoding."""

    own: Cache
    memory: Cache

    @classmethod
    def empty(cls) -> BlockCache:
        return cls(Cache(), Cache())


class Block(nn.Module):
    """Attention, then two dense layers on each position (2), with a way around each and a norm.

    norm_first  x + part(norm(x)); otherwise norm(x + part(x)), as in the paper
    hidden      width between the two dense layers
    cross       attend to a memory between the two: a decoder's block
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        activation: Activation = "gelu",
        norm_first: bool = True,
        cross: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.activation, self.norm_first = activation, norm_first
        self.norm1 = nn.LayerNorm(width, eps, bias=bias)
        self.attention = Attention(width, heads, dropout, bias)
        if cross:
            self.norm_cross = nn.LayerNorm(width, eps, bias=bias)
            self.cross = Attention(width, heads, dropout, bias)
        self.norm2 = nn.LayerNorm(width, eps, bias=bias)
        self.wide = nn.Linear(width, hidden, bias)
        self.back = nn.Linear(hidden, width, bias)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        is_causal: bool = False,
        rotary: Rotary | None = None,
        memory: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: BlockCache | None = None,
    ) -> Tensor:
        h = self._before(self.norm1, x)
        h = self.attention(h, None, mask, is_causal, rotary, cache and cache.own)
        x = self._after(self.norm1, x, h, self.attention.projection)
        if memory is not None:
            h = self._before(self.norm_cross, x)
            h = self.cross(h, memory, memory_mask, cache=cache and cache.memory)
            x = self._after(self.norm_cross, x, h, self.cross.projection)
        h = self._before(self.norm2, x)
        h = F.linear_activation(h, self.wide.weight, self.wide.bias, activation=self.activation)
        return self._after(self.norm2, x, h, self.back)

    def look(
        self, x: Tensor, is_causal: bool = False, rotary: Rotary | None = None, memory: Tensor | None = None
    ) -> list[Tensor]:
        """The weights of the block's attention, for pictures: to its own sequence and, if there is one, to a memory."""
        h = self._before(self.norm1, x)
        found = [self.attention.weights(h, None, is_causal, rotary)]
        if memory is not None:
            h = self.attention(h, None, None, is_causal, rotary)
            x = self._after(self.norm1, x, h, self.attention.projection)
            found.append(self.cross.weights(self._before(self.norm_cross, x), memory=memory))
        return found

    def _before(self, norm: nn.LayerNorm, x: Tensor) -> Tensor:
        return norm(x) if self.norm_first else x

    def _after(self, norm: nn.LayerNorm, x: Tensor, h: Tensor, last: nn.Linear) -> Tensor:
        """The part's last dense layer, dropout (section 5.4), and the way around; as one op where nothing drops."""
        if self.training and self.dropout.p:
            x = x + self.dropout(last(h))
        else:
            x = F.linear_activation(h, last.weight, last.bias, x)
        return x if self.norm_first else norm(x)
