"""The same bits whatever the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np


def assert_one_thread_gives_the_same_bits(results: Callable[[], Iterable[Any]]) -> None:
    """``results`` computes arrays, here with as many threads as there are and then with one."""
    several, threads = results(), numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        alone = results()
    finally:
        numba.set_num_threads(threads)
    for a, b in zip(several, alone, strict=True):
        np.testing.assert_array_equal(a, b)
