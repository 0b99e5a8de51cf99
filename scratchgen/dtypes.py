"""Number types and their promotion, by torch's rules: NumPy's silent float64 never appears by accident."""

from __future__ import annotations

from typing import Any

import numpy as np

dtype = np.dtype
float16, float32, float64 = np.dtype("float16"), np.dtype("float32"), np.dtype("float64")
int8, int16, int32, int64 = np.dtype("int8"), np.dtype("int16"), np.dtype("int32"), np.dtype("int64")
uint8, uint16, uint32, uint64 = np.dtype("uint8"), np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")
bool_ = np.dtype("bool")
complex64, complex128 = np.dtype("complex64"), np.dtype("complex128")

_default = float32
_category = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}


def get_default_dtype() -> np.dtype:
    """The float type of new tensors made from Python numbers: float32 unless changed."""
    return _default


def set_default_dtype(dtype: Any) -> None:
    """Make ``dtype`` (a float type) the type of new tensors made from Python numbers."""
    global _default
    wanted = np.dtype(dtype)
    if wanted.kind != "f":
        raise TypeError(f"set_default_dtype: expected a floating-point dtype, got {wanted}")
    _default = wanted


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """``torch.promote_types``: as NumPy's, but an integer never widens a float (int64 + float16 = float16)."""
    if a is b:
        return a
    if _category[a.kind] != _category[b.kind] and (a.kind in "fc" or b.kind in "fc"):
        higher, lower = (a, b) if _category[a.kind] > _category[b.kind] else (b, a)
        return np.result_type(higher, lower) if lower.kind == "f" else higher
    common = np.result_type(a, b)
    if _category[common.kind] > max(_category[a.kind], _category[b.kind]):
        raise TypeError(f"{a} and {b} have no common integer dtype; cast one of them, for instance to int64")
    return common


def can_cast(source: np.dtype, target: np.dtype) -> bool:
    """``torch.can_cast``: not from float to integer, nor from a number to bool. Precision may be lost."""
    return _category[source.kind] <= _category[target.kind]


def _scalar_dtype(value: Any) -> np.dtype:
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, complex):
        return complex64 if _default is float32 else complex128
    return _default


def result_type(*operands: Any) -> np.dtype:
    """``torch.result_type`` of arrays (anything with ``dtype`` and ``ndim``) and Python numbers.

    Arrays with dimensions decide; 0-d arrays, and then Python numbers, count only if they are of a higher category
    (bool < int < float < complex).
    """
    strong: np.dtype | None = None
    zero_d: np.dtype | None = None
    weak: np.dtype | None = None
    for x in operands:
        if hasattr(x, "ndim"):
            if x.ndim:
                strong = x.dtype if strong is None else promote(strong, x.dtype)
            else:
                zero_d = x.dtype if zero_d is None else promote(zero_d, x.dtype)
        else:
            kind = _scalar_dtype(x)
            weak = kind if weak is None else promote(weak, kind)
    result = strong
    for other in (zero_d, weak):
        if result is None:
            result = other
        elif other is not None and _category[other.kind] > _category[result.kind]:
            result = promote(result, other)
    if result is None:
        raise TypeError("result_type: at least one operand is needed")
    return result
