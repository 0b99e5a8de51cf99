"""New tensors: zeros, ones, ranges, grids. Dtype, device and ``requires_grad`` as in torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..declare import method
from ..device import Device, cpu
from ..tensor import Tensor, as_tensor, tensor, wrap
from .reduce import broadcast_to

__all__ = [
    "arange", "empty", "empty_like", "eye", "from_numpy", "full", "full_like", "linspace", "logspace", "meshgrid",
    "ones", "ones_like", "tril_indices", "triu_indices", "zeros", "zeros_like",
]  # fmt: skip

Place = Device | str | None


def finished(array: Any, device: Device, requires_grad: bool) -> Tensor:
    """``array`` as a leaf."""
    t = wrap(array, device)
    return t.requires_grad_() if requires_grad else t


def place(device: Place) -> Device:
    """The device named; the CPU if none is."""
    return cpu if device is None else Device(device)


def size_of(given: tuple[Any, ...], size: Any = None) -> tuple[int, ...]:
    """``f(2, 3)``, ``f((2, 3))`` and ``f(size=(2, 3))`` mean the same."""
    if size is not None:
        given = (size,)
    if len(given) == 1 and isinstance(given[0], (tuple, list)):
        given = tuple(given[0])
    return tuple([int(n) for n in given])


def _number(x: Any) -> Any:
    """A 0-d tensor or a NumPy number as a Python number."""
    return x.item() if isinstance(x, (Tensor, np.generic)) else x


# --- filled with one value


def empty(
    *shape: Any, size: Any = None, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of shape ``size``, also written ``empty(2, 3)``, with whatever the memory holds."""
    where = place(device)
    array = where.xp.empty(size_of(shape, size), dtype or dtypes.get_default_dtype())
    return finished(array, where, requires_grad)


def zeros(
    *shape: Any, size: Any = None, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of shape ``size``, also written ``zeros(2, 3)``, filled with 0."""
    where = place(device)
    array = where.xp.zeros(size_of(shape, size), dtype or dtypes.get_default_dtype())
    return finished(array, where, requires_grad)


def ones(*shape: Any, size: Any = None, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor of shape ``size``, also written ``ones(2, 3)``, filled with 1."""
    where = place(device)
    array = where.xp.ones(size_of(shape, size), dtype or dtypes.get_default_dtype())
    return finished(array, where, requires_grad)


def full(size: Any, fill_value: Any, *, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor of shape ``size`` filled with ``fill_value``, whose kind of number decides the dtype."""
    where, value = place(device), _number(fill_value)
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, Tensor) else dtypes.result_type(value)
    return finished(where.xp.full(size_of((), size), value, dtype), where, requires_grad)


# --- like another tensor: its shape, dtype, device, and on that device its order in memory


def _like(kind: str, input: Tensor, dtype: Any, device: Place, requires_grad: bool, *value: Any) -> Tensor:
    where = input.device if device is None else Device(device)
    if where is input.device:
        array = getattr(where.xp, kind + "_like")(input.array, *value, dtype=dtype)
    else:
        array = getattr(where.xp, kind)(input.shape, *value, dtype=dtype or input.dtype)
    return finished(array, where, requires_grad)


def empty_like(input: Tensor, *, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor like ``input`` with whatever the memory holds."""
    return _like("empty", input, dtype, device, requires_grad)


def zeros_like(input: Tensor, *, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor like ``input`` filled with 0."""
    return _like("zeros", input, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """A tensor like ``input`` filled with 1."""
    return _like("ones", input, dtype, device, requires_grad)


def full_like(
    input: Tensor, fill_value: Any, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """A tensor like ``input`` filled with ``fill_value``."""
    return _like("full", input, dtype, device, requires_grad, _number(fill_value))


@method()
def new_empty(self: Tensor, *size: Any, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """``empty`` with this tensor's dtype and device."""
    return empty(*size, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


@method()
def new_zeros(self: Tensor, *size: Any, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """``zeros`` with this tensor's dtype and device."""
    return zeros(*size, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


@method()
def new_ones(self: Tensor, *size: Any, dtype: Any = None, device: Place = None, requires_grad: bool = False) -> Tensor:
    """``ones`` with this tensor's dtype and device."""
    return ones(*size, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


@method()
def new_full(
    self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """``full`` with this tensor's dtype and device."""
    return full(size, fill_value, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


@method()
def new_tensor(
    self: Tensor, data: Any, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """``tensor(data)`` with this tensor's dtype and device."""
    return tensor(data, dtype or self.dtype, device or self.device, requires_grad)


# --- ranges


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """``start, start + step, ...`` up to but without ``end``; ``arange(end)`` starts at 0. Integers give int64."""
    start, end, step = (_number(x) for x in ((0, start, step) if end is None else (start, end, step)))
    if step == 0 or (end - start) * step < 0:
        raise ValueError(f"arange: a step of {step} does not lead from {start} to {end}")
    whole = all(isinstance(x, int) for x in (start, end, step))
    if dtype is None:
        dtype = dtypes.int64 if whole else dtypes.get_default_dtype()
    where = place(device)
    count = len(range(start, end, step)) if whole else math.ceil((end - start) / step)
    values = start + step * where.xp.arange(count, dtype=np.int64 if whole else np.float64)
    return finished(values.astype(dtype), where, requires_grad)


def linspace(
    start: Any, end: Any, steps: int, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """``steps`` numbers at equal distances from ``start`` to ``end``, both included."""
    if steps < 0:
        raise ValueError(f"linspace: the number of steps must not be negative, got {steps}")
    where = place(device)
    values = where.xp.linspace(_number(start), _number(end), steps, dtype=np.float64)
    return finished(values.astype(dtype or dtypes.get_default_dtype()), where, requires_grad)


def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Place = None,
    requires_grad: bool = False,
) -> Tensor:
    """``base`` to the powers ``linspace(start, end, steps)``."""
    powers = linspace(start, end, steps, dtype=np.float64, device=device)
    values = float(base) ** powers.array
    return finished(values.astype(dtype or dtypes.get_default_dtype()), powers.device, requires_grad)


# --- matrices and grids


def eye(
    n: int, m: int | None = None, *, dtype: Any = None, device: Place = None, requires_grad: bool = False
) -> Tensor:
    """The n x m matrix (m is n by default) with 1 on the diagonal and 0 elsewhere."""
    where = place(device)
    return finished(where.xp.eye(n, m, dtype=dtype or dtypes.get_default_dtype()), where, requires_grad)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Place = None) -> Tensor:
    """Row and column numbers, 2 x N int64, of a row x col matrix on and below diagonal ``offset``."""
    return _indices(np.tril_indices(row, offset, col), dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Place = None) -> Tensor:
    """Row and column numbers, 2 x N int64, of a row x col matrix on and above diagonal ``offset``."""
    return _indices(np.triu_indices(row, offset, col), dtype, device)


def _indices(pair: Any, dtype: Any, device: Place) -> Tensor:
    return as_tensor(np.stack(pair), dtype or dtypes.int64, device)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """For vectors of lengths n1, n2, ...: each repeated over the grid n1 x n2 x ..., without copying.

    ``indexing="xy"`` swaps the first two dimensions of the grid, as for pictures.
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"):
        raise ValueError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    for t in tensors:
        if t.ndim > 1:
            raise ValueError(f"meshgrid: expected vectors, got a tensor of shape {list(t.shape)}")
    places = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        places[:2] = 1, 0
    shape = [1] * len(tensors)
    for t, i in zip(tensors, places):
        shape[i] = t.numel()
    return tuple([
        broadcast_to(t.reshape([-1 if i == at else 1 for at in range(len(shape))]), tuple(shape))
        for t, i in zip(tensors, places)
    ])  # fmt: skip


# --- from elsewhere


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array: a change of one is seen in the other."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected a NumPy array, got {type(ndarray).__name__}")
    return as_tensor(ndarray)
