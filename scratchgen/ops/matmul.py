"""Matrix products with NumPy's broadcasting. Their derivatives are matrix products again."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from ..declare import fused, method, primitive
from ..tensor import Tensor, as_tensor
from .dims import normalize_dims
from .shape import movedim, permute, reshape, squeeze, unsqueeze

__all__ = [
    "addmm", "baddbmm", "bilinear", "bmm", "dot", "inner", "kron", "linear", "matmul", "mm", "mv", "outer",
    "tensordot",
]  # fmt: skip

# --- matmul


def _rows(x: Tensor) -> Tensor:
    """``x`` [..., n] as [rows, n]."""
    return x if x.ndim == 2 else reshape(x, (prod(x.shape[:-1]), x.shape[-1]))


def _columns(x: Tensor) -> Tensor:
    """``x`` [..., m, n] as [m, columns]."""
    return reshape(movedim(x, -2, 0), (x.shape[-2], prod(x.shape[:-2]) * x.shape[-1]))


def _matmul_vjp_a(g: Tensor, y: Any, a: Tensor, b: Tensor) -> Tensor:
    """``g b^T``; for one matrix ``a`` against a batch, a single product sums over the batch as well."""
    return _matmul(_columns(g), _columns(b).mT) if a.ndim == 2 < g.ndim else _matmul(g, b.mT)


def _matmul_vjp_b(g: Tensor, y: Any, a: Tensor, b: Tensor) -> Tensor:
    """``a^T g``; for a batch against one matrix ``b``, a single product sums over the batch as well."""
    return _matmul(_rows(a).mT, _rows(g)) if b.ndim == 2 < g.ndim else _matmul(a.mT, g)


_matmul = primitive("matmul", None, (_matmul_vjp_a, _matmul_vjp_b), save="a b", broadcasts=True)


def _check_dtypes(op: str, *tensors: Tensor | None) -> None:
    given = [x for x in tensors if x is not None]
    if any(x.dtype is not given[0].dtype for x in given):
        described = " and ".join(f"{x.dtype}{list(x.shape)}" for x in given)
        raise TypeError(f"{op}: {described} differ in dtype; cast them to one with .to(dtype)")


@method("__matmul__", "matmul")
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrices [..., m, k] times matrices [..., k, n]; leading dimensions broadcast.

    A 1-D ``input`` counts as a row, a 1-D ``other`` as a column, and that dimension is dropped from the result.
    """
    a = input if isinstance(input, Tensor) else as_tensor(input, device=other.device)
    b = other if isinstance(other, Tensor) else as_tensor(other, device=a.device)
    x, y = a.array, b.array
    if x.ndim > 1 and y.ndim > 1 and x.shape[-1] == y.shape[-2] and x.dtype is y.dtype:
        return _matmul(a, b)
    _check_dtypes("matmul", a, b)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: expects at least 1 dimension, got shapes {list(a.shape)} and {list(b.shape)}")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(
            f"matmul: shapes {list(a.shape)} and {list(b.shape)} do not fit: the last dimension of the first and the "
            f"{'last but one' if b.ndim > 1 else 'only one'} of the second must be equal"
        )
    if a.ndim > 1:
        return squeeze(_matmul(a, unsqueeze(b, 1)), -1)
    if b.ndim > 1:
        return squeeze(_matmul(unsqueeze(a, 0), b), -2)
    return reshape(_matmul(unsqueeze(a, 0), unsqueeze(b, 1)), ())


method("__rmatmul__")(lambda self, other: matmul(as_tensor(other, device=self.device), self))


# --- linear: the layer, with one product over all leading dimensions


@fused()
def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = matmul(input, weight.mT)
    return product if bias is None else product + bias


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input`` [..., in] times the transpose of ``weight`` [out, in], plus ``bias`` [out]: [..., out].

    A ``weight`` [in] makes one output and drops its dimension.
    """
    x, w = input.array, weight.array
    fits = w.ndim == 2 and x.shape[-1:] == w.shape[1:] and x.dtype is w.dtype
    if fits and (bias is None or (bias.array.shape == w.shape[:1] and bias.array.dtype is w.dtype)):
        return _linear(input, weight, bias)
    _check_dtypes("linear", input, weight, bias)
    if weight.ndim == 1:
        product = matmul(input, weight)
        return product if bias is None else product + bias
    if fits and bias is not None:
        raise ValueError(f"linear: bias of shape {list(bias.shape)}, expected [{w.shape[0]}] as weight has rows")
    raise ValueError(
        f"linear: input of shape {list(input.shape)} does not fit weight of shape {list(weight.shape)}: "
        "expected [..., in] and [out, in]"
    )


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input1`` [..., m], ``input2`` [..., n], ``weight`` [out, m, n], ``bias`` [out]: [..., out].

    Output o is ``input1 @ weight[o] @ input2``, plus its bias.
    """
    if weight.ndim != 3 or input1.shape[-1:] != weight.shape[1:2] or input2.shape[-1:] != weight.shape[2:]:
        raise ValueError(
            f"bilinear: inputs of shapes {list(input1.shape)} and {list(input2.shape)} do not fit weight of shape "
            f"{list(weight.shape)}: expected [..., m], [..., n] and [out, m, n]"
        )
    out, m, n = weight.shape
    left = reshape(matmul(input1, reshape(permute(weight, (1, 0, 2)), (m, out * n))), (*input1.shape[:-1], out, n))
    product = squeeze(matmul(left, unsqueeze(input2, -1)), -1)
    return product if bias is None else product + bias


# --- the same by other names and with stricter shapes


def _expect(op: str, *pairs: tuple[Tensor, int]) -> None:
    if any(x.ndim != ndim for x, ndim in pairs):
        shapes = " and ".join(str(list(x.shape)) for x, _ in pairs)
        wanted = " and ".join(f"{ndim}-D" for _, ndim in pairs)
        raise ValueError(f"{op}: expects {wanted} tensors, got shapes {shapes}; matmul takes any")


@method()
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _expect("mm", (input, 2), (mat2, 2))
    return matmul(input, mat2)


@method()
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """Products of two batches of matrices [b, m, k] and [b, k, n]."""
    _expect("bmm", (input, 3), (mat2, 3))
    if input.shape[0] != mat2.shape[0]:
        raise ValueError(f"bmm: batches of {list(input.shape)} and {list(mat2.shape)} differ in length")
    return matmul(input, mat2)


@method()
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """A matrix times a vector."""
    _expect("mv", (input, 2), (vec, 1))
    return matmul(input, vec)


@method()
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The scalar product of two vectors."""
    _expect("dot", (input, 1), (tensor, 1))
    return matmul(input, tensor)


@method()
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """``input[i] * vec2[j]`` of two vectors."""
    _expect("outer", (input, 1), (vec2, 1))
    return unsqueeze(input, 1) * vec2


@method()
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions of both; with a 0-d tensor, the plain product."""
    if input.ndim == 0 or other.ndim == 0:
        return input * other
    return tensordot(input, other, dims=([-1], [-1]))


def _added(input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """``beta * input + alpha * product``; with ``beta`` 0 what ``input`` holds, NaN included, does not matter."""
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return product + (input if beta == 1 else input * beta)


@method()
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)`` of two matrices; ``input`` broadcasts to the product."""
    return _added(input, mm(mat1, mat2), beta, alpha)


@method()
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)`` of two batches; ``input`` broadcasts to the product."""
    return _added(input, bmm(batch1, batch2), beta, alpha)


# --- products over chosen dimensions


def tensordot(a: Tensor, b: Tensor, dims: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Sums of products over pairs of dimensions: the last ``dims`` of ``a`` with the first of ``b``, or two lists.

    The result has the other dimensions of ``a``, then those of ``b``.
    """
    if isinstance(dims, int):
        if not 0 <= dims <= min(a.ndim, b.ndim):
            raise ValueError(f"tensordot: dims {dims} for shapes {list(a.shape)} and {list(b.shape)}")
        dims = (range(a.ndim - dims, a.ndim), range(dims))
    over_a, over_b = (normalize_dims("tensordot", tuple(d), x.shape) for d, x in zip(dims, (a, b)))
    lengths = [a.shape[d] for d in over_a]
    if lengths != [b.shape[d] for d in over_b]:
        raise ValueError(
            f"tensordot: dims {list(over_a)} of shape {list(a.shape)} do not pair with dims {list(over_b)} of shape "
            f"{list(b.shape)}"
        )
    free_a = [d for d in range(a.ndim) if d not in over_a]
    free_b = [d for d in range(b.ndim) if d not in over_b]
    shape_a, shape_b = [a.shape[d] for d in free_a], [b.shape[d] for d in free_b]
    left = reshape(permute(a, (*free_a, *over_a)), (prod(shape_a), prod(lengths)))
    right = reshape(permute(b, (*over_b, *free_b)), (prod(lengths), prod(shape_b)))
    return reshape(matmul(left, right), (*shape_a, *shape_b))


@method()
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: each element of ``input`` times all of ``other``, in place of the element."""
    ndim = max(input.ndim, other.ndim)
    one, two = ((1,) * (ndim - x.ndim) + x.shape for x in (input, other))
    spread = reshape(input, [n for length in one for n in (length, 1)])
    repeated = reshape(other, [n for length in two for n in (1, length)])
    return reshape(spread * repeated, [m * n for m, n in zip(one, two)])
