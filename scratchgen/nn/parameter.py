"""Parameter: a Tensor that a Module learns."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..device import Device, cpu
from ..tensor import Tensor, wrap


class Parameter(Tensor):
    """A leaf Tensor that counts as a parameter of the Module it is assigned to. Shares ``data``'s memory."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(data, requires_grad=requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def empty_parameter(shape: tuple[int, ...], dtype: Any = None, device: Device | str | None = None) -> Parameter:
    """A parameter whose values are yet to be set; of the default dtype and on the CPU unless told otherwise."""
    where = cpu if device is None else Device(device)
    return Parameter(wrap(where.xp.empty(shape, dtype or dtypes.get_default_dtype()), where))
