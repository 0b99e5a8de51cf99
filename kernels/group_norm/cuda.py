"""Group norm and batch norm in CUDA C++."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out
from ..registry import kernel
from .reference import value_cost, vjp_cost

MODULE = Module(
    "group_norm/group_norm.cu",
    *(f"group_norm{kind}<{t}>" for t in TYPES.values() for kind in ("", "_vjp", "_parameters")),
)
IMAGES = np.dtype([(name, np.int32) for name in ("channels", "positions", "group", "images", "last")])


class Problem:
    """The images of a call as they lie in memory, and which of their numbers share a mean."""

    def __init__(self, x: Any, weight: Any, bias: Any, groups: int | None) -> None:
        """``groups`` of an image, or None for batch norm."""
        xp = self.xp = array_module(x)
        self.channels, self.positions, self.groups = x.shape[1], prod(x.shape[2:]), groups
        self.to_last = (0, *range(2, x.ndim), 1)
        self.last = bool(x.ndim > 2 and x.transpose(self.to_last).flags.c_contiguous and not x.flags.c_contiguous)
        self.weight, self.bias = (None if p is None else xp.ascontiguousarray(p, x.dtype) for p in (weight, bias))
        self.x = self.in_memory(x)
        self.type, self.ndim = TYPES[x.dtype.name], x.ndim
        self.shares = self.channels if groups is None else len(x) * groups

    def in_memory(self, a: Any) -> Any:
        """``a`` in the memory order of x: a contiguous array."""
        return self.xp.ascontiguousarray(a.transpose(self.to_last) if self.last else a)

    def back(self, a: Any) -> Any:
        """An array in memory order as it is to be returned."""
        return self.xp.moveaxis(a, -1, 1) if self.last else a

    def images(self, group: int, images: int) -> Any:
        """The kernels' ``Images``."""
        return np.array((self.channels, self.positions, group, images, self.last), IMAGES)[()]

    @property
    def share(self) -> Any:
        """What a block standardises."""
        if self.groups is None:
            return self.images(1, len(self.x))
        return self.images(self.channels // self.groups, 1)


def forward(p: Problem, eps: float) -> tuple[Any, Any, Any, Any]:
    """y, and mean, variance (None for group norm) and rstd of each share."""
    y = p.xp.empty_like(p.x)
    mean, rstd = (p.xp.empty(p.shares, np.float32) for _ in range(2))
    variance = p.xp.empty(p.shares, np.float32) if p.groups is None else None
    outputs = map(Out, (y, mean, variance, rstd))
    MODULE.launch(f"group_norm<{p.type}>", p.shares, 256, p.x, p.weight, p.bias, *outputs, p.share, np.float32(eps))
    return p.back(y), mean, variance, rstd


def backward(p: Problem, g: Any, mean: Any, rstd: Any, through: tuple[Any, Any] = (None, None)) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias; ``through``: those in batch norm's mean and variance."""
    g = p.in_memory(g)
    dx = p.xp.empty_like(p.x)
    mean, rstd = (p.xp.ascontiguousarray(s.reshape(-1), np.float32) for s in (mean, rstd))
    inputs = g, p.x, p.weight, mean, rstd, *(None if a is None else p.xp.ascontiguousarray(a) for a in through)
    MODULE.launch(f"group_norm_vjp<{p.type}>", p.shares, 256, *inputs, Out(dx), p.share)
    dweight, dbias = (None if a is None else p.xp.empty_like(a) for a in (p.weight, p.bias))
    if dweight is not None or dbias is not None:
        MODULE.launch(
            f"group_norm_parameters<{p.type}>", p.channels, 256, g, p.x, mean, rstd, Out(dweight), Out(dbias),
            p.images(1, len(p.x)), np.int32(p.groups or 0),
        )  # fmt: skip
    return p.back(dx), dweight, dbias


def _fits(x: Any, *_: Any, **__: Any) -> bool:
    return x.size > 0


_on_gpu: dict[str, Any] = {"impl": "cuda", "device": "cuda emu", "dtypes": "f4 f2"}


@kernel("group_norm", when=_fits, cost=value_cost, **_on_gpu)
def group_norm(x: Any, weight: Any, bias: Any, *, num_groups: int, eps: float) -> tuple[Any, Any, Any]:
    """y, and mean and rstd of each group."""
    y, mean, _, rstd = forward(Problem(x, weight, bias, num_groups), eps)
    kept = (len(x), num_groups) + (1,) * (x.ndim - 1)
    return y, mean.reshape(kept), rstd.reshape(kept)


@kernel("group_norm_vjp", when=_fits, cost=vjp_cost, **_on_gpu)
def group_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, num_groups: int, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias."""
    return backward(Problem(x, weight, bias, num_groups), g, mean, rstd)
