"""What the loops of Winograd's convolution call by name: transforms of tiles and the products of a point.

Compiled apart, as C functions. What one compiled function calls by the usual way becomes a part of it: inlined side by
side, products and transforms spilled registers, and each level of calls optimised them over again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import binding
from numba import cfunc, types

from ..matmul.tile import number_at, put_number
from ..numba_config import renamed
from .filtering import Matrix, transforms, transposed
from .winograd_places import GROUP, PANEL
from .winograd_tile import LANES, SUMS, tile
from .winograd_transform import bounded_sandwich, sandwich

_PARTS = ("filtering", "winograd_functions", "winograd_places", "winograd_tile", "winograd_transform")
_SOURCES = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in _PARTS]
VERSION = hashlib.sha256(b"".join(_SOURCES)).hexdigest()[:8]  # Numba's cache looks at the file of a function only
ZEROS = np.zeros(PANEL, np.float32)


def functions_of(outputs: int, taps: int) -> dict[str, dict[str, Any]]:
    """The transforms of F(outputs, taps), under the names that the loops of filters, of x, of y and of results use."""
    at, g, bt, _ = transforms(outputs, taps)
    variant = f"f{outputs}x{taps}"

    def transform(name: str, left: Matrix, right: Matrix) -> Any:
        return _external(_transform, f"{variant}_{name}", {"apply": sandwich(left, right, LANES)})

    def edge(name: str, left: Matrix, right: Matrix, bounds: str) -> Any:
        bounded = {"apply": bounded_sandwich(left, right, LANES, bounds)}
        return _external(_bounded_transform, f"{variant}_{name}_edge", bounded)

    def all_kinds(name: str, whole: Matrix, short: Matrix, bounds: str) -> dict[str, Any]:
        sides = {"_columns": (whole, short), "": (whole, whole), "_rows": (short, whole), "_both": (short, short)}
        made = {f"transform{kind}": transform(name + kind, *both) for kind, both in sides.items()}
        if name == "x":
            return made | {f"edge{kind}": edge(name + kind, *both, bounds) for kind, both in sides.items()}
        # Outputs of short tiles are beyond an edge only where channels do not fill vectors.
        return made | dict.fromkeys([f"edge{kind}" for kind in sides], edge(name, whole, whole, bounds))

    # Without the point at infinity, the last, outputs are all but the last.
    short_at, short_bt = (tuple(row[:-1] for row in matrix[:-1]) for matrix in (at, bt))
    return {
        "filter": {
            "gather": _external(_gather, variant, {"TAPS": taps}),
            "transform_w": transform("w", g, g),
            "transform_w_back": transform("wb", transposed(g), transposed(g)),
        },
        "x": all_kinds("x", bt, short_bt, "x"),
        "y": all_kinds("y", transposed(at), transposed(short_at), "x"),
        "result": all_kinds("result", at, short_at, "y"),
    }


def _external(body: Callable[..., None], variant: str = "", constants: dict[str, Any] | None = None) -> Any:
    """``body``, of integers, compiled as a C function that its callers refer to by name."""
    function = renamed(body, f"{variant}_{VERSION}", constants)
    signature = types.void(*[types.int64] * body.__code__.co_argcount)
    compiled = cfunc(signature, cache=True, error_model="numpy")(function)
    name = f"scratchgen_{function.__name__}"
    binding.add_symbol(name, compiled.address)
    _KEPT.append(compiled)
    return types.ExternalFunction(name, signature)


_KEPT: list[Any] = []


# --- their bodies; `functions_of` gives these names their values

TAPS = 0
apply: Any = None


def _bounded_transform(x, x_row, x_column, y, y_row, y_column, top, bottom, left, right, channels):
    """All channels of a tile: where its edges are is worked out once for them."""
    for c in range(0, channels, LANES):
        apply(x + 4 * c, x_row, x_column, y + 4 * c, y_row, y_column, top, bottom, left, right, channels - c)


def _transform(x, x_row, x_column, y, y_row, y_column, channels):
    for c in range(0, channels, LANES):
        apply(x + 4 * c, x_row, x_column, y + 4 * c, y_row, y_column)


def _gather(w, row, column, by_out, lanes, rows, columns, block):
    """The taps of as many outputs as fill a vector, to block (TAPS, TAPS, LANES); zeros beyond rows and columns."""
    for i in range(TAPS):
        for j in range(TAPS):
            present = i < rows and j < columns
            for lane in range(lanes):
                tap = number_at(w + 4 * (lane * by_out + i * row + j * column)) if present else np.float32(0)
                put_number(block + 4 * ((i * TAPS + j) * LANES + lane), tap)


def _multiply(v, row, u, m, count, vectors, depth, seed, ahead):
    """One point: m (tiles, columns) = v (tiles, depth) times u (depth, columns), + seed; fetches as much from ahead."""
    columns = vectors * LANES
    tiles = -(-count * vectors // SUMS) if vectors > 1 else -(-count // GROUP)
    t = 0
    for n in range(tiles):
        rows = (n + 1) * count // tiles - t
        values, lines = v + 4 * t * row, ahead + 64 * n * depth if n < vectors else v
        tile(values, row, 1, u, columns, seed, 0, m + 4 * t * columns, columns, rows, vectors, depth, lines)
        t += rows


def _multiply_outer(v, row, g, wide, sums, between, start, stop, vectors, count, seed):
    """One point: sums (groups, ``between``) = v^T g for v (tiles, depth) and g (tiles, columns of ``wide``), + seed.

    All groups that have depths from ``start`` to ``stop``. ``seed``: a row of zeros, or 0 to add to the sums.
    """
    columns = vectors * LANES
    height = min(SUMS // vectors, GROUP)
    for c in range(start // GROUP * GROUP, stop, GROUP):
        for r in range(c, min(c + GROUP, stop), height):
            target = sums + 4 * (c // GROUP * between + (r - c) * columns)
            added, added_row = (seed, 0) if seed else (target, columns)
            rows, ahead = min(height, stop - r), target + 4 * between if c + GROUP < stop else target
            tile(v + 4 * r, 1, row, g, wide, added, added_row, target, columns, rows, vectors, count, ahead)


multiply = _external(_multiply)
multiply_outer = _external(_multiply_outer)
