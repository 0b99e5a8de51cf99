"""The IDX file format of MNIST: a big-endian header, then the array.

Header: two zero bytes, one byte for the element type, one byte for the number of dimensions, then each
dimension as a 32-bit unsigned integer (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from scratchgen.data.errors import DataError
from scratchgen.data.files import unpack

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def read(path: str | Path) -> npt.NDArray[Any]:
    """The array in an IDX file, gzipped or not."""
    return parse(unpack(Path(path)), str(path))


def parse(content: bytes, name: str = "IDX data") -> npt.NDArray[Any]:
    """The array in the bytes of an IDX file, in native byte order; `name` is for the error messages.

    Raises DataError if the magic number, the header or the length is wrong.
    """
    if len(content) < 4:
        raise DataError(f"{name}: too short for an IDX file: {len(content)} bytes")
    zero, code, ndim = struct.unpack(">HBB", content[:4])
    if zero != 0 or code not in TYPES:
        raise DataError(f"{name}: not an IDX file: its magic number is 0x{content[:4].hex()}")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{name}: truncated: the header takes {start} bytes, found {len(content)}")
    shape = struct.unpack(f">{ndim}I", content[4:start])
    expected = start + math.prod(shape) * TYPES[code].itemsize
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "trailing bytes"
        raise DataError(f"{name}: {state}: shape {shape} takes {expected:,} bytes, found {len(content):,}")
    array = np.frombuffer(content, TYPES[code], offset=start).reshape(shape)
    return array.astype(TYPES[code].newbyteorder("="))
