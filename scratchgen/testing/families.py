"""Families of ops with strategies for their inputs: what ``alarms`` and the random part of the profiles draw from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from .. import linalg, ops
from ..nn import functional as F
from ..tensor import Tensor, as_tensor
from . import cases
from .cases import LOSSES
from .report import name_of


class Member(NamedTuple):
    """A function of Tensors and the ``Case``s it is tried on."""

    name: str
    function: Callable[..., Any]
    cases: st.SearchStrategy


FAMILIES: dict[str, list[Member]] = {}


def _family(name: str, functions: Any, strategy: st.SearchStrategy) -> None:
    members = [Member(name_of(f), f, strategy) for f in (functions if isinstance(functions, tuple) else (functions,))]
    FAMILIES.setdefault(name, []).extend(members)


def getitem(x: Tensor, index: Any) -> Tensor:
    """``x[index]`` as a function."""
    return x[index]


def solve_triangular(a: Tensor, b: Tensor) -> Tensor:
    """With the upper triangle."""
    return linalg.solve_triangular(a, b, upper=True)


def cholesky(x: Tensor) -> Tensor:
    """Of the symmetric part, so that every direction is one of symmetric matrices."""
    return linalg.cholesky((x + x.mT) / 2)


def eigvalsh(x: Tensor) -> Tensor:
    """Of the symmetric part."""
    return linalg.eigvalsh((x + x.mT) / 2)


def _loss(name: str) -> Callable[..., Any]:
    function = getattr(F, name)

    def loss(input: Tensor, *others: Any, weight: np.ndarray | None = None, **options: Any) -> Tensor:
        if weight is not None:
            options["weight"] = as_tensor(weight, dtype=input.dtype, device=input.device)
        return function(input, *others, **options)

    loss.__name__ = name
    return loss


_family("elementwise", (
    ops.exp, ops.sin, ops.cos, ops.tanh, ops.sigmoid, ops.erf, ops.expm1, ops.atan, ops.asinh, ops.square, ops.neg,
    F.gelu, F.silu, F.softplus, F.logsigmoid, F.mish,
), cases.elementwise())  # fmt: skip
_family("elementwise", (ops.log, ops.sqrt, ops.rsqrt, ops.reciprocal, ops.log1p, ops.lgamma, ops.digamma),
        cases.elementwise(values="positive"))  # fmt: skip
_family("elementwise", (
    ops.abs, ops.relu, F.leaky_relu, F.elu, F.hardtanh, F.hardswish, F.hardsigmoid, F.selu, F.softsign, ops.floor,
), cases.elementwise(values="spaced"))  # fmt: skip
_family("elementwise", (ops.asin, ops.acos, ops.atanh, ops.erfinv, ops.logit), cases.elementwise(values="unit"))
_family("broadcast", (ops.add, ops.sub, ops.mul, ops.logaddexp), cases.broadcast())
_family("broadcast", (ops.div, ops.fmod), cases.broadcast(values=("normal", "positive")))
_family("broadcast", (ops.pow, ops.atan2), cases.broadcast(values=("positive", "normal")))
_family("broadcast", (ops.maximum, ops.minimum), cases.broadcast(values=("spaced", "normal")))
_family("broadcast", (ops.lerp, ops.addcmul), cases.broadcast(3))
_family("reduction", (ops.sum, ops.mean), cases.reduction())
_family("reduction", (ops.amax, ops.amin), cases.reduction(values="spaced", empty=False))
_family("reduction", (ops.var, ops.std), cases.along(least=2, layout=("c", "transposed", "sliced", "reversed")))
_family("reduction", ops.prod, cases.reduction(several=False))
_family("reduction", ops.norm, cases.reduction(values="spaced", empty=False))
_family("along", (ops.softmax, ops.log_softmax, ops.logsumexp, ops.cumsum, ops.cumprod), cases.along())
_family("along", (ops.sort,), cases.along(values="spaced"))
_family("matmul", ops.matmul, cases.matmul())
_family("matmul", F.linear, cases.linear())
_family("einsum", ops.einsum, cases.einsum())
_family("linalg", (linalg.inv, linalg.det, ops.slogdet, ops.logdet), cases.square())
_family("linalg", (cholesky, eigvalsh), cases.square(symmetric=True))
_family("linalg", (linalg.solve, solve_triangular), cases.square(right_sides=True))
_family("conv", F.conv1d, cases.conv1d())
_family("conv", F.conv2d, cases.conv2d(max_side=6))
_family("conv", F.conv_transpose1d, cases.conv1d(transposed=True))
_family("conv", F.conv_transpose2d, cases.conv2d(transposed=True))
_family("pool", F.max_pool1d, cases.pool(1, "max"))
_family("pool", F.max_pool2d, cases.pool2d(kind="max"))
_family("pool", F.avg_pool1d, cases.pool(1, "avg", values="normal"))
_family("pool", F.avg_pool2d, cases.pool2d(kind="avg", values="normal"))
_family("resize", F.interpolate, cases.resize(1))
_family("resize", F.interpolate, cases.resize(2))
_family("norm", F.layer_norm, cases.norm("layer", layout=("c", "transposed", "sliced", "reversed")))
_family("norm", F.rms_norm, cases.norm("rms"))
_family("norm", F.group_norm, cases.norm("group"))
_family("norm", F.batch_norm, cases.norm("batch"))
_family("norm", F.instance_norm, cases.norm("instance"))
_family("attention", F.scaled_dot_product_attention, cases.attention())
_family("indexing", getitem, cases.indexing())
_family("indexing", ops.gather, cases.gather())
_family("indexing", ops.scatter_add, cases.gather(source=True))
_family("indexing", F.embedding, cases.rows())
for _name in LOSSES:
    _family("loss", _loss(_name), cases.loss(_name))
