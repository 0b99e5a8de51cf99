"""Torch as oracle: one function of both libraries on the same arrays, values and first gradients compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import scratchgen as sg

torch = pytest.importorskip("torch", reason="the oracle of these tests")


def dtype_name(t: Any) -> str:
    """``float32`` for both libraries' float32."""
    return str(t.dtype).removeprefix("torch.")


def layouts(draw: Callable[..., np.ndarray]) -> Iterator[np.ndarray]:
    """Arrays with ``draw(shape)`` in them that differ in rank and in how they lie in memory."""
    yield draw((3, 4))
    yield draw((2, 3, 4)).transpose(2, 0, 1)
    yield draw((6, 9))[::2, 1:8:3]
    yield draw((5,))[::-1]
    yield np.broadcast_to(draw((1, 3)), (4, 3))
    yield draw((2, 2, 3, 1)).transpose(0, 3, 1, 2)
    yield np.asarray(draw(()))
    yield draw((2, 0, 3))


def lying(shape: tuple[int, ...], seed: int = 0) -> Iterator[np.ndarray]:
    """Normal numbers of one shape in every kind of memory layout: whole, transposed, sliced, reversed, zero-stride."""
    rng = np.random.default_rng(seed)
    if not shape:
        yield from map(np.asarray, rng.standard_normal(5))
        return
    yield rng.standard_normal(shape)
    yield rng.standard_normal(shape[::-1]).T
    yield rng.standard_normal([2 * n + 1 for n in shape])[(slice(1, None, 2),) * len(shape)]
    yield rng.standard_normal(shape)[(slice(None, None, -1),) * len(shape)]
    yield np.broadcast_to(rng.standard_normal((1, *shape[1:])), shape)


def both(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """``function(library, *tensors)`` of each library."""
    return lambda *xs: function(sg, *xs), lambda *ts: function(torch, *ts)


def part(function: Callable[..., Any], i: int) -> Callable[..., Any]:
    """Result number ``i`` of a function that has several."""
    return lambda *inputs: function(*inputs)[i]


def pairs(draw: Callable[..., np.ndarray], other: Callable[..., np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Two arrays that broadcast against each other, in different layouts."""
    yield draw((3, 4)), other((3, 4))
    yield draw((4, 3)).T, other((4,))[::-1]
    yield draw((3, 1)), other((2, 1, 5))
    yield np.asarray(draw(())), other((2, 3))
    yield draw((2, 3)), np.asarray(other(()))
    yield np.asarray(draw(())), np.asarray(other(()))
    yield draw((6, 4))[::2, ::-1], np.broadcast_to(other((3, 1)), (3, 4))
    yield draw((2, 0)), other((1,))


def assert_like_torch(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: np.ndarray,
    rtol: float = 1e-10,
    atol: float = 1e-13,
    gradients: bool = True,
) -> None:
    """Values, dtypes and shapes agree, and so do the gradients of a random cotangent in every floating input.

    Inputs keep their memory layout, and must come out as they went in. ``gradients=False`` where torch has none.
    """
    given = [a.copy() for a in arrays]
    xs = [_leaf(a) for a in arrays]
    ts = [torch.from_numpy(a.copy()).requires_grad_(a.dtype.kind == "f") for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert y.shape == tuple(t.shape)
    assert dtype_name(y) == dtype_name(t)
    np.testing.assert_allclose(y.detach().numpy(), t.detach().numpy(), rtol=rtol, atol=atol)
    for a, before in zip(arrays, given, strict=True):
        np.testing.assert_array_equal(a, before)
    if not (t.requires_grad and gradients):
        return
    g = np.random.default_rng(7).standard_normal(y.shape).astype(y.dtype)
    variables = [x for x in xs if x.requires_grad]
    got = sg.grad(y, variables, sg.tensor(g), allow_unused=True)
    wanted = [t for t in ts if t.requires_grad]
    expected = torch.autograd.grad(t, wanted, torch.from_numpy(np.array(g)), allow_unused=True)
    for x, a, b in zip(variables, got, expected, strict=True):
        if b is None:  # a gradient torch knows to be zero
            assert a is None or not a.numpy().any()
            continue
        assert a.shape == x.shape
        assert a.dtype == x.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=atol)


def assert_op_like_torch(
    name: str,
    *arrays: np.ndarray,
    part: str = "",
    rtol: float = 1e-10,
    atol: float = 1e-13,
    gradients: bool = True,
    **options: Any,
) -> None:
    """As ``assert_like_torch`` for the op of that name in both libraries, called with ``options``.

    ``part``: which field of a named tuple that it returns.
    """

    def call(module: Any, *tensors: Any) -> Any:
        y = getattr(module, name)(*tensors, **options)
        return getattr(y, part) if part else y

    assert_like_torch(
        lambda *xs: call(sg, *xs), lambda *ts: call(torch, *ts), *arrays, rtol=rtol, atol=atol, gradients=gradients
    )


def _leaf(array: np.ndarray) -> sg.Tensor:
    """A leaf that keeps the array's strides, which a copy would lose."""
    t = sg.as_tensor(array)
    assert t.array is array
    return t.requires_grad_() if array.dtype.kind == "f" else t
