"""Batch norm, in training and in evaluation, with or without a (leaky) ReLU after it, in CUDA C++."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from ..strips import channels_back, channels_to_end, pack_of, parameters, statistics
from .reference import value_cost, vjp_cost

THREADS = 256
STRIPS = 32  # packs side by side in a block
BLOCKS = 1024  # to aim for: some for each multiprocessor of any GPU, so that results do not depend on which one it is
KERNELS = ("moments", "apply", "vjp_sums", "vjp")
MODULE = Module(
    "batch_norm/batch_norm.cu",
    *(
        f"batch_norm_{kind}<{t}, {n}>"
        for code, t in TYPES.items()
        for n in (4 if code == "float32" else 8, 1)
        for kind in KERNELS
    ),
    *(f"batch_norm_join<{t}>" for t in TYPES.values()),
    "column_sums<float, float>",
)
MATRIX = np.dtype([(name, np.int32) for name in ("rows", "channels", "width", "chunk")])


class Batch:
    """A call's images as matrices [rows, channels], and how the launches divide them."""

    def __init__(self, x: Any, weight: Any, bias: Any, slope: float, *others: Any) -> None:
        self.xp, self.slope, self.type, self.dtype = array_module(x), np.float32(slope), TYPES[x.dtype.name], x.dtype
        self.x, *self.others = (channels_to_end(a) for a in (x, *others))
        self.out = self.xp.empty_like(self.x)
        self.parameters = parameters(x, weight, bias)
        self.rows, self.channels = prod(self.x.shape[:-1]), x.shape[1]
        self.pack = pack_of(self.channels, self.x, *self.others)
        strips = min(STRIPS, self.channels // self.pack)
        width, beside = strips * self.pack, THREADS // strips
        self.tiles = -(-self.channels // width)
        chunk = max(-(-self.rows // max(1, BLOCKS // self.tiles)), min(self.rows, 8 * beside))
        self.chunks = -(-self.rows // chunk)
        self.shape = np.array((self.rows, self.channels, width, chunk), MATRIX)[()]

    def launch(self, kernel: str, *arguments: Any, sums: int = 0) -> None:
        """``sums``: numbers that each thread leaves in shared memory for each of its channels."""
        name = f"batch_norm_{kernel}<{self.type}, {self.pack}>"
        MODULE.launch(name, (self.tiles, self.chunks), THREADS, *arguments, shared=4 * sums * THREADS * self.pack)

    def new(self, *shape: int, dtype: Any = np.float32) -> Any:
        """An array to be written."""
        return self.xp.empty(shape, dtype)

    def moments(self, eps: float) -> tuple[Any, Any, Any, Any]:
        """Mean and variance in the dtype of x; mean and rstd in float32."""
        parts = [self.new(self.chunks, self.channels) for _ in range(2)]
        self.launch("moments", self.x, *map(Out, parts), self.shape, sums=3)
        found = [self.new(self.channels, dtype=dtype) for dtype in (self.dtype, self.dtype, np.float32, np.float32)]
        MODULE.launch(
            f"batch_norm_join<{self.type}>", -(-self.channels // 32), (32, 8),
            *parts, *map(Out, found), np.int32(self.chunks), self.shape, np.float32(eps),
        )  # fmt: skip
        return found[0], found[1], found[2], found[3]

    def apply(self, mean: Any, rstd: Any) -> Any:
        """y."""
        self.launch("apply", self.x, mean, rstd, *self.parameters, Out(self.out), self.shape, self.slope)
        return channels_back(self.out)

    def sums(self, mean: Any, rstd: Any) -> tuple[Any, Any]:
        """Of each channel, in float32: the sum of h z, and of h."""
        parts = [self.new(self.chunks, self.channels) for _ in range(2)]
        inputs = *self.others, self.x, mean, rstd, *self.parameters
        self.launch("vjp_sums", *inputs, *map(Out, parts), self.shape, self.slope, sums=2)
        totals = [self.new(self.channels) for _ in range(2)]
        sizes = np.int32(self.chunks), np.int32(self.channels)
        for part, total in zip(parts, totals):
            MODULE.launch("column_sums<float, float>", -(-self.channels // 32), (32, 8), part, Out(total), *sizes)
        return totals[0], totals[1]

    def vjp(self, mean: Any, rstd: Any, along: Any, total: Any, gmean: Any, gvariance: Any) -> Any:
        """dx."""
        through = parameters(self.x, gmean, gvariance)
        inputs = *self.others, self.x, mean, rstd, *self.parameters, along, total, *through
        self.launch("vjp", *inputs, Out(self.out), self.shape, self.slope)
        return channels_back(self.out)


def forward(x: Any, weight: Any, bias: Any, eps: float, slope: float = 1.0) -> tuple[Any, ...]:
    """y, mean (C,), variance (C,); mean and rstd with axes kept."""
    batch = Batch(x, weight, bias, slope)
    *outputs, mean, rstd = batch.moments(eps)
    kept = (1, -1) + (1,) * (x.ndim - 2)
    return batch.apply(mean, rstd), *outputs, mean.reshape(kept), rstd.reshape(kept)


def backward(g: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, slope: float = 1.0) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    batch = Batch(x, weight, bias, slope, g[0])
    mean, rstd = statistics(mean, rstd)
    along, total = batch.sums(mean, rstd)
    dx = batch.vjp(mean, rstd, along, total, *g[1:])
    return dx, *(None if p is None else s.astype(x.dtype, copy=False) for p, s in ((weight, along), (bias, total)))


def fits(x: Any, *_: Any, **__: Any) -> bool:
    """Whether there is something to do."""
    return x.size > 0


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("batch_norm", when=fits, cost=value_cost, **_on_gpu)
def batch_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> tuple[Any, ...]:
    """y, mean, variance; for the derivative mean and rstd."""
    return forward(x, weight, bias, eps)


@kernel("batch_norm_vjp", cost=vjp_cost, **_on_gpu)
def batch_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias from those of y, mean and variance."""
    return backward(g, x, weight, bias, mean, rstd)
