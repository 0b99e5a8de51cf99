"""float16 at the size of float32: half precision stores numbers well but overflows at 65504 when squared or summed."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..dtypes import float16, float32
from ..tensor import Tensor
from .elementwise import cast

__all__: list[str] = []


def widened(composite: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a composite to compute float16 in float32, as kernels do, and give results back in float16."""

    @wraps(composite)
    def computed(*inputs: Any, **attrs: Any) -> Any:
        if inputs[0].dtype is not float16:
            return composite(*inputs, **attrs)
        y = composite(*[cast(x, float32) if _is_half(x) else x for x in inputs], **attrs)
        return tuple(cast(a, float16) for a in y) if isinstance(y, tuple) else cast(y, float16)

    return computed


def _is_half(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype is float16
