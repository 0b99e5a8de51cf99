"""Layer norm and RMS norm in CUDA C++: the ladder, the derivatives, and which kernel takes which rows."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, begins_at_multiples_of
from ..registry import kernel
from .reference import value_cost, vjp_cost

THREADS = 256  # of a block
# Numbers that a thread keeps and threads that share a row; the first that holds the row is taken.
HELD = [(8, 32), (32, 32), (32, 256)]
HELD_VJP = [(8, 32), (8, 256), (16, 512)]
GROUPS = 1024  # at most, that add up gradients of weight and bias by themselves

MODULE = Module(
    "layer_norm/layer_norm.cu",
    *(
        name
        for t in TYPES.values()
        for name in (
            f"layer_norm_thread<{t}>",
            f"layer_norm_block<{t}, {THREADS}>",
            f"layer_norm_warp<{t}>",
            *(
                name
                for center in ("true", "false")
                for name in (
                    *(f"layer_norm_registers<{t}, {per}, {threads}, {center}>" for per, threads in HELD),
                    f"layer_norm_welford<{t}, {THREADS}, {center}>",
                    *(f"layer_norm_vjp_registers<{t}, {per}, {threads}, {center}>" for per, threads in HELD_VJP),
                    f"layer_norm_vjp_long<{t}, {THREADS}, {center}>",
                    f"layer_norm_dweight<{t}, {center}>",
                )
            ),
            f"column_sums<float, {t}>",
            *((f"column_sums<{t}, {t}>",) if t != "float" else ()),
        )
    ),
)


def _aligned(width: int, *arrays: Any) -> bool:
    """Whether every row of every array begins at a multiple of 16 bytes."""
    given = [a for a in arrays if a is not None]
    return all(begins_at_multiples_of(16, a) and width * a.itemsize % 16 == 0 for a in given)


class Problem:
    """One call: its arrays as rows, and where the results go."""

    def __init__(self, x: Any, weight: Any, bias: Any, normalized_shape: tuple[int, ...]) -> None:
        xp = self.xp = array_module(x)
        self.lead = x.ndim - len(normalized_shape)
        self.rows, self.width = prod(x.shape[: self.lead]), prod(normalized_shape)
        self.x = xp.ascontiguousarray(x)
        self.weight, self.bias = (None if p is None else xp.ascontiguousarray(p) for p in (weight, bias))
        self.type = TYPES[x.dtype.name]
        self.sizes = np.int32(self.rows), np.int32(self.width)

    def statistic(self) -> Any:
        """An array with a number for each row."""
        shape = self.x.shape
        return self.xp.empty(shape[: self.lead] + (1,) * (len(shape) - self.lead), np.float32)


def forward(
    problem: Problem, eps: float, center: bool = True, version: str = "cuda", residual: Any = None
) -> tuple[Any, Any, Any, Any]:
    """y, mean (None without ``center``) and rstd; and x + ``residual``, of which these are (None without)."""
    p = problem
    y, rstd, mean = p.xp.empty_like(p.x), p.statistic(), p.statistic() if center else None
    total = None if residual is None else p.xp.empty_like(p.x)
    residual = None if residual is None else p.xp.ascontiguousarray(residual)
    behind = Out(mean), Out(rstd), *p.sizes, np.float32(eps)
    arrays = p.x, p.weight, p.bias, Out(y), *behind
    with_residual = p.x, residual, p.weight, p.bias, Out(y), Out(total), *behind
    t, centered = p.type, str(center).lower()
    if version == "cuda-1-thread-per-row":
        MODULE.launch(f"layer_norm_thread<{t}>", -(-p.rows // 128), 128, *arrays)
    elif version == "cuda-2-block-per-row":
        MODULE.launch(f"layer_norm_block<{t}, {THREADS}>", p.rows, THREADS, *arrays)
    elif version == "cuda-3-warp-per-row":
        MODULE.launch(f"layer_norm_warp<{t}>", -(-p.rows // 8), (32, 8), *arrays)
    else:
        for per, threads in HELD if version == "cuda" else ():
            if p.width <= per * threads:
                aligned = np.int32(_aligned(p.width, p.x, residual, p.weight, p.bias))
                name, beside = f"layer_norm_registers<{t}, {per}, {threads}, {centered}>", THREADS // threads
                MODULE.launch(name, -(-p.rows // beside), (threads, beside), *with_residual, aligned)
                break
        else:
            MODULE.launch(f"layer_norm_welford<{t}, {THREADS}, {centered}>", p.rows, THREADS, *with_residual)
    return y, mean, rstd, total


def backward(problem: Problem, g: Any, mean: Any, rstd: Any, other: Any = None) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias; those of absent parameters are None.

    ``other``: a gradient that arrives at x on another way.
    """
    p, t, centered = problem, problem.type, str(mean is not None).lower()
    g, other = (None if a is None else p.xp.ascontiguousarray(a) for a in (g, other))
    mean, rstd = (None if s is None else p.xp.ascontiguousarray(s, np.float32) for s in (mean, rstd))
    dx = p.xp.empty_like(p.x)
    dweight, dbias = (None if a is None else p.xp.zeros_like(a) for a in (p.weight, p.bias))
    if not p.x.size:
        return dx, dweight, dbias
    columns = -(-p.width // 32), (32, 8)
    for per, threads in HELD_VJP:
        if p.width <= per * threads:
            beside = max(1, THREADS // threads)
            blocks = -(-min(p.rows, GROUPS) // beside)
            groups = blocks * beside
            sums = [None if d is None else p.xp.empty((groups, p.width), np.float32) for d in (dweight, dbias)]
            aligned = np.int32(_aligned(p.width, p.x, p.weight, g, other))
            name = f"layer_norm_vjp_registers<{t}, {per}, {threads}, {centered}>"
            inputs, outputs = (g, p.x, p.weight, mean, rstd, other), map(Out, (dx, *sums))
            MODULE.launch(name, blocks, (threads, beside), *inputs, *outputs, *p.sizes, aligned)
            for parts, total in zip(sums, (dweight, dbias)):
                if parts is not None:
                    MODULE.launch(f"column_sums<float, {t}>", *columns, parts, Out(total), np.int32(groups), p.sizes[1])
            return dx, dweight, dbias
    name = f"layer_norm_vjp_long<{t}, {THREADS}, {centered}>"
    MODULE.launch(name, p.rows, THREADS, g, p.x, p.weight, mean, rstd, other, Out(dx), *p.sizes)
    if dweight is not None:
        name = f"layer_norm_dweight<{t}, {centered}>"
        MODULE.launch(name, *columns, g, p.x, mean, rstd, Out(dweight), *p.sizes)
    if dbias is not None:
        MODULE.launch(f"column_sums<{t}, {t}>", *columns, g, Out(dbias), *p.sizes)
    return dx, dweight, dbias


_on_gpu: dict[str, Any] = {"device": "cuda emu", "dtypes": "f4 f2"}


def _step(version: str, **options: Any) -> None:
    @kernel("layer_norm", impl=version, cost=value_cost, **options, **_on_gpu)
    def layer_norm(x: Any, weight: Any, bias: Any, *, normalized_shape: tuple[int, ...], eps: float) -> Any:
        return forward(Problem(x, weight, bias, normalized_shape), eps, version=version)[:3]


_step("cuda")
for _version in ("cuda-1-thread-per-row", "cuda-2-block-per-row", "cuda-3-warp-per-row", "cuda-5-welford"):
    _step(_version, study=True)


@kernel("layer_norm_vjp", impl="cuda", cost=vjp_cost, **_on_gpu)
def layer_norm_vjp(
    g: Any, y: Any, x: Any, weight: Any, bias: Any, mean: Any, rstd: Any, *, normalized_shape: Any, eps: float
) -> tuple[Any, Any, Any]:
    """Gradients in x, weight and bias."""
    return backward(Problem(x, weight, bias, normalized_shape), g, mean, rstd)
