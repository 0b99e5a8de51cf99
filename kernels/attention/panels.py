"""What both passes of attention do with panels, compiled for panels of so many vectors.

Addresses are int64, of float32; steps between rows and columns count elements unless said otherwise. Matrices of the
caller are read number by number, wherever they lie; vectors are loaded from panels only, whose rows are complete.
"""

from __future__ import annotations

import hashlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import simd
from ..numba_config import specialise
from . import vectors
from .vectors import LOWEST, flag, floats

WIDTH = simd.machine_width()
LANES = WIDTH.lanes
WIDE, NARROW = 3, 1  # vectors of a panel; the narrow one is for the few lanes left at the end
ROWS = 8 if WIDTH.registers >= 32 else 4  # of a tile of accumulators; common head sizes are multiples of it
NO_MASK, BOOLS, NUMBERS = 0, 1, 2

LOG2E, LN2 = np.float32(math.log2(math.e)), np.float32(math.log(2))
ZERO, ONE, INFINITY, MINUS_INFINITY = np.float32(0), np.float32(1), np.float32(np.inf), np.float32(-np.inf)
BOTTOM = np.float32(LOWEST)

# Numba's disk cache looks only at the file of the function that it caches, so the names tell the version of these.
_VERSION = hashlib.sha256(b"".join(Path(f).read_bytes() for f in (__file__, vectors.__file__))).hexdigest()[:8]


def compiled(body: Any, variant: str = "", **names: Any) -> Any:
    """``body``, compiled with these values of the names that it uses."""
    options = names.pop("options", {})
    return specialise(body, f"{variant}{_VERSION}", names, error_model="numpy", **options)


@cache
def on_panels(count: int) -> dict[str, Any]:
    """The names of all that works on panels of ``count`` vectors; Numba compiles each when it is first called."""
    names: dict[str, Any] = {
        "PANEL": count * LANES,
        "tile": simd.tile_product(ROWS, count, LANES),
        "tile_add": simd.tile_product(ROWS, count, LANES, accumulate=True),
        "single": simd.tile_product(1, count, LANES),
        "single_add": simd.tile_product(1, count, LANES, accumulate=True),
        "weigh": vectors.weigh(count, ROWS, LANES),
        "slope": vectors.slope(count, LANES),
        "times": vectors.times(count, LANES),
        "turn_square": vectors.transpose(LANES),
    }
    for body in (fill, turn, product, product_add, panel_of, rows_of, mask_panel):  # each calls those before it
        names[body.__name__] = compiled(body, f"{count}_", **names)
    return names


PANEL = 0  # `on_panels` gives these names their values
tile: Any = None
tile_add: Any = None
single: Any = None
single_add: Any = None
times: Any = None
turn_square: Any = None


def fill(x, count, value):
    """``count`` numbers from ``x`` on become ``value``."""
    numbers = floats(x)
    for i in range(count):
        numbers[i] = value


def turn(x, x_row, x_column, rows, columns, y, y_row):
    """y (columns, rows) = x (rows, columns) transposed."""
    squares = columns - columns % LANES if x_column == 1 else 0
    whole = rows - rows % LANES
    for i in range(0, whole, LANES):
        for j in range(0, squares, LANES):
            turn_square(x + 4 * (i * x_row + j), x_row, y + 4 * (j * y_row + i), y_row)
    source, target = floats(x), floats(y)
    for i in range(rows):
        for j in range(squares if i < whole else 0, columns):
            target[j * y_row + i] = source[i * x_row + j * x_column]


def product(a, a_row, a_column, b, c, depth, rows):
    """The panel c (rows) = a b, from a (rows, depth) and the panel b (depth). The last tile may overlap another."""
    for i in range(0, rows - ROWS + 1, ROWS):
        tile(a + 4 * i * a_row, a_row, a_column, b, PANEL, c + 4 * i * PANEL, PANEL, depth)
    if rows < ROWS:
        for i in range(rows):
            single(a + 4 * i * a_row, a_row, a_column, b, PANEL, c + 4 * i * PANEL, PANEL, depth)
    elif rows % ROWS:
        i = rows - ROWS
        tile(a + 4 * i * a_row, a_row, a_column, b, PANEL, c + 4 * i * PANEL, PANEL, depth)


def product_add(a, a_row, a_column, b, b_row, c, c_row, depth, rows):
    """c += a b, from a (rows, depth), and of b (depth) and c (rows) as many columns as a panel has."""
    whole = rows - rows % ROWS
    for i in range(0, whole, ROWS):
        tile_add(a + 4 * i * a_row, a_row, a_column, b, b_row, c + 4 * i * c_row, c_row, depth)
    for i in range(whole, rows):
        single_add(a + 4 * i * a_row, a_row, a_column, b, b_row, c + 4 * i * c_row, c_row, depth)


def panel_of(x, x_row, x_column, rows, columns, factor, panel, factors):
    """The panel (columns) of ``factor`` times x (rows, columns), transposed; lanes beyond ``rows`` are 0."""
    if rows < PANEL:
        fill(panel, columns * PANEL, ZERO)
    turn(x, x_row, x_column, rows, columns, panel, PANEL)
    fill(factors, PANEL, factor)
    times(panel, columns, factors)


def rows_of(x, x_row, x_column, rows, columns, y, wide):
    """As many rows as a panel has lanes, ``wide`` numbers each: x (rows, columns), and 0 beyond it."""
    if rows < PANEL or columns < wide:
        fill(y, PANEL * wide, ZERO)
    source, target = floats(x), floats(y)
    for i in range(rows):
        if x_column == 1:
            for j in range(columns):
                target[i * wide + j] = source[i * x_row + j]
        else:
            for j in range(columns):
                target[i * wide + j] = source[i * x_row + j * x_column]


def mask_panel(scores, rows, lanes, mask, row, lane, kind):
    """Close, or add to, the scores of a panel by a mask whose steps between rows and lanes are bytes."""
    score = floats(scores)
    for i in range(rows):
        for j in range(lanes):
            at, old = mask + i * row + j * lane, score[i * PANEL + j]
            if kind == BOOLS:
                score[i * PANEL + j] = old if flag(at) else MINUS_INFINITY
            else:
                added = floats(at)[0]
                scaled = added * LOG2E
                # The lowest number, by which many mask, must not become -inf: a row of it still has equal weights.
                score[i * PANEL + j] = old + (BOTTOM if scaled < BOTTOM and added >= BOTTOM else scaled)


def _of_head(place, lead, head):
    """The address where the matrix of this head begins, by (address, row, column, step of each dimension), in bytes."""
    address = place[0]
    for d in range(lead.size - 1, -1, -1):
        head, index = divmod(head, lead[d])
        address += index * place[3 + d]
    return address


of_head = compiled(_of_head)
