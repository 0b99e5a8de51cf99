"""Arrays that a kernel fetches by boxes: what Hopper's tensor memory accelerator has to be told of them.

On a GPU that is a *tensor map*, 128 bytes that only the driver can make; in the emulator it is api.h's ``BoxMap``.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

MAP_BYTES = 128
RECORD = np.dtype({
    "names": ["array", "pitch", "extent", "box", "item", "swizzled", "to_tf32"],
    "formats": [np.int64, (np.int64, 2), (np.int32, 3), (np.int32, 3), np.int32, np.int32, np.int32],
    "offsets": [0, 8, 24, 36, 48, 52, 56],
    "itemsize": MAP_BYTES,
})  # fmt: skip
MOST_ROWS = 256  # of a box
ROW_BYTES = 128  # the most of a swizzled box
_TYPES = {"float16": 6, "float32": 7, "bfloat16": 9}  # CUtensorMapDataType
_TF32, _SWIZZLE_128, _L2_256 = 11, 3, 3


@dataclass(frozen=True)
class Boxes:
    """An argument of a kernel: ``array`` [rows, width] or [matrices, rows, width], read by boxes, rows x numbers.

    The array is contiguous and begins at a multiple of 16 bytes, as does each of its rows. What a box has outside of it
    comes as zeros. A box's rows have 128 bytes at most; ``swizzled``: 16 of them go to where their number xor that of
    the row (its last three bits) says. ``to_tf32``: numbers are rounded to TF32 on the way.

    Raises ValueError for what no tensor map can tell of.
    """

    array: Any
    box: tuple[int, int]
    swizzled: bool = True
    to_tf32: bool = False

    def __post_init__(self) -> None:
        a, (rows, numbers) = self.array, self.box
        if a.shape[-1] * a.itemsize % 16:
            raise ValueError(f"rows of {a.shape[-1]} x {a.dtype} are no multiples of 16 bytes")
        if rows > MOST_ROWS or numbers * a.itemsize > ROW_BYTES:
            most = f"{MOST_ROWS} rows of {ROW_BYTES} bytes"
            raise ValueError(f"a box of {rows} x {numbers} {a.dtype} is too large: it has {most} at most")

    @property
    def extent(self) -> tuple[int, int, int]:
        """Numbers, rows and matrices."""
        *matrices, rows, width = self.array.shape
        return width, rows, matrices[0] if matrices else 1

    @property
    def pitch(self) -> tuple[int, int]:
        """Bytes from row to row and from matrix to matrix."""
        width, rows, _ = self.extent
        return width * self.array.itemsize, width * rows * self.array.itemsize

    def record(self) -> np.ndarray:
        """What the emulator is given; the address goes to its field ``array``."""
        found = np.zeros(1, RECORD)
        rows, numbers = self.box
        values = 0, self.pitch, self.extent, (numbers, rows, 1), self.array.itemsize, self.swizzled, self.to_tf32
        found[0] = values
        return found

    def encoded(self) -> np.void:
        """The tensor map of an array on the GPU. Raises RuntimeError where the driver refuses to make one."""
        room = np.zeros(2 * MAP_BYTES, np.uint8)
        begin = -room.ctypes.data % 64
        place = room[begin : begin + MAP_BYTES]
        rows, numbers = self.box
        kind = _TF32 if self.to_tf32 else _TYPES[self.array.dtype.name]
        failed = _driver().cuTensorMapEncodeTiled(
            ctypes.c_void_p(place.ctypes.data), kind, 3, ctypes.c_void_p(self.array.data.ptr),
            (ctypes.c_uint64 * 3)(*self.extent), (ctypes.c_uint64 * 2)(*self.pitch),
            (ctypes.c_uint32 * 3)(numbers, rows, 1), (ctypes.c_uint32 * 3)(1, 1, 1),
            0, _SWIZZLE_128 if self.swizzled else 0, _L2_256, 0,
        )  # fmt: skip
        if failed:
            what = f"{self.array.dtype}{list(self.array.shape)}"
            raise RuntimeError(f"the driver makes no tensor map of {what}: error {failed}")
        return place.view(f"V{MAP_BYTES}")[0]


@cache
def _driver() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
