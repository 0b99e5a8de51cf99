"""The generated micro-kernels, at every vector width: LLVM splits vectors that are wider than the machine's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from scratchgen.kernels import simd

WIDTHS = [(width.lanes, width.rows, width.vectors) for width in simd.WIDTHS.values()]


@pytest.mark.parametrize(("lanes", "rows", "vectors"), [*WIDTHS, (8, 1, 1), (4, 5, 3)])
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_tile_is_the_product(lanes, rows, vectors, accumulate):
    tile = simd.tile_product(rows, vectors, lanes, accumulate)

    @njit
    def run(a, b, c):
        a_row, a_step = a.strides[0] // 4, a.strides[1] // 4
        tile(
            a.ctypes.data, a_row, a_step, b.ctypes.data, b.strides[0] // 4, c.ctypes.data, c.strides[0] // 4, b.shape[0]
        )

    rng = np.random.default_rng(0)
    columns = vectors * lanes
    for depth in (0, 1, 2, 37):
        b = rng.standard_normal((depth, columns + 3)).astype(np.float32)[:, :columns]
        row_major = rng.standard_normal((rows, depth)).astype(np.float32)
        for a in (row_major, np.asfortranarray(row_major)):
            whole = rng.standard_normal((rows + 1, columns + 5)).astype(np.float32)
            before = whole.copy()
            run(a, b, whole[:rows, :columns])
            expected = a.astype(np.float64) @ b + (before[:rows, :columns] if accumulate else 0)
            np.testing.assert_allclose(whole[:rows, :columns], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(whole[rows:], before[rows:])  # nothing outside the tile is written
            np.testing.assert_array_equal(whole[:, columns:], before[:, columns:])


def test_the_machine_has_one_of_the_known_widths():
    assert simd.machine_width() in simd.WIDTHS.values()
