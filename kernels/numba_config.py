"""Numba with its threading layer chosen. CPU kernels import ``njit`` and ``prange`` from here.

A parallel region costs about 2 us with OpenMP and 50 us with ``workqueue``, so small kernels would lose on the latter.
"""

from __future__ import annotations

import warnings

import numba
from numba import njit, prange
from numba.np.ufunc import parallel

__all__ = ["njit", "prange", "threading_layer"]

if numba.config.THREADING_LAYER == "default":
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def threading_layer() -> str:
    """Start Numba's threads and name the layer in use: ``omp``, ``tbb`` or ``workqueue``."""
    parallel._launch_threads()
    return str(numba.threading_layer())


if threading_layer() == "workqueue":
    warnings.warn(
        "Numba found neither OpenMP nor TBB and falls back to its slow 'workqueue' threads; "
        "install libgomp1 (Debian: apt-get install libgomp1) or `pip install tbb`",
        RuntimeWarning,
        stacklevel=2,
    )
