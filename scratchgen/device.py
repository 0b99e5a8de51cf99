"""Where an array lives: ``cpu`` (NumPy), ``cuda`` (CuPy), ``emu`` (NumPy arrays, CUDA kernels emulated on the CPU).

A Tensor carries its device and an op takes it from its inputs; nothing is process-wide.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

_known: dict[tuple[str, int], Device] = {}


class Device:
    """One device. Objects are unique: ``device("cpu") is device("cpu")``, so identity is equality."""

    __slots__ = ("index", "type")

    type: str
    index: int

    def __new__(cls, type: str | Device = "cpu", index: int | None = None) -> Device:
        if isinstance(type, Device):
            return type
        if index is None:
            type, _, number = str(type).partition(":")
            if number and not number.isdigit():
                raise ValueError(f"device {type}:{number}: the index must be a number")
            index = int(number or 0)
        if type not in ("cpu", "cuda", "emu"):
            raise ValueError(f"unknown device {type!r}: expected 'cpu', 'cuda', 'cuda:N' or 'emu'")
        if type != "cuda" and index:
            raise ValueError(f"device {type!r} has only index 0, got {index}")
        found = _known.get((type, index))
        if found is None:
            found = _known[type, index] = object.__new__(cls)
            found.type, found.index = type, index
        return found

    @property
    def xp(self) -> Any:
        """The array module of this device: ``numpy`` or ``cupy``."""
        return _cupy() if self.type == "cuda" else np

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.type == "cuda" else self.type

    def __reduce__(self) -> tuple[Any, ...]:
        return Device, (self.type, self.index)


device = Device
cpu = Device("cpu")
emu = Device("emu")


def _cupy() -> Any:
    if importlib.util.find_spec("cupy") is None:
        raise RuntimeError(
            "device 'cuda' needs CuPy: pip install 'scratchgen[cuda12]' or 'scratchgen[cuda13]', "
            "by the CUDA version of your driver"
        )
    import cupy

    return cupy


def cuda_is_available() -> bool:
    """Whether CuPy is installed and sees at least one GPU."""
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    try:
        return cupy.cuda.runtime.getDeviceCount() > 0
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def array_device(array: Any) -> Device:
    """The device an array lives on, by its type: a NumPy array is on ``cpu``."""
    if isinstance(array, np.ndarray):
        return cpu
    return Device("cuda", array.device.id)


def move(array: Any, source: Device, target: Device) -> Any:
    """The array on ``target``; shares memory where both devices use the same memory."""
    if source.type != "cuda" and target.type != "cuda":
        return array
    cupy = _cupy()
    if target.type == "cuda":
        with cupy.cuda.Device(target.index):
            return cupy.asarray(array)
    return cupy.asnumpy(array)


def synchronize(device: Device | str = cpu) -> None:
    """Wait until all work submitted to ``device`` is done."""
    where = Device(device)
    if where.type == "cuda":
        _cupy().cuda.Device(where.index).synchronize()
