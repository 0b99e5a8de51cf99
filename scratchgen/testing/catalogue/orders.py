"""A function and its derivatives to second order at one point, for comparing kernels, devices and layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...autograd import grad
from ...tensor import Tensor, as_tensor


def leaf(array: Any, device: Any = None) -> Tensor:
    """A variable if it can be one; it shares the array's memory and layout, unless it has to move to ``device``."""
    t = as_tensor(array, device=device)
    return t.requires_grad_() if t.dtype.kind == "f" else t


def tensors(value: Any) -> list[Tensor]:
    """The differentiable tensors of a result."""
    values = value if isinstance(value, (tuple, list)) else (value,)
    return [t for t in values if isinstance(t, Tensor) and t.requires_grad]


def two_orders(function: Callable[..., Any], arrays: Sequence[Any]) -> list[Any]:
    """The values of a function; its vjp at random cotangents, plainly and as it is recorded; and the vjp of that."""
    rng = np.random.default_rng(1)
    xs = [None if a is None else leaf(a) for a in arrays]
    variables = tensors(xs)

    def cotangents(ys: list[Tensor]) -> list[Tensor]:
        draws = [np.asarray(rng.standard_normal(y.shape)).astype(np.float32) for y in ys]
        return [leaf(u.astype(y.dtype), y.device) for u, y in zip(draws, ys, strict=True)]

    ys = tensors(function(*xs))
    us = cotangents(ys)
    plain = grad(ys, variables, us, retain_graph=True, allow_unused=True)
    first = grad(ys, variables, us, create_graph=True, allow_unused=True)
    gs = tensors(first)
    second = grad(gs, [*variables, *us], cotangents(gs), allow_unused=True) if gs else ()
    return [t.array for t in (*ys, *plain, *first, *second) if t is not None]
