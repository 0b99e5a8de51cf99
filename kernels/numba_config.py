"""Numba with its threading layer chosen. CPU kernels import ``njit`` and ``prange`` from here.

A parallel region costs about 2 us with OpenMP and 50 us with ``workqueue``, so small kernels would lose on the latter.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import njit, prange
from numba.np.ufunc import parallel

__all__ = ["njit", "prange", "serial_and_parallel", "threading_layer"]

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


_SHARED = hashlib.sha256(Path(__file__).with_name("vecmath.py").read_bytes()).hexdigest()[:8]


def serial_and_parallel(body: Callable[..., Any], **options: Any) -> tuple[Any, Any]:
    """``body`` compiled twice: its ``prange`` loops on one thread, and over all threads. Index it by a bool.

    The versions need names of their own: Numba's disk cache tells functions apart by file, name and line, not by
    their options, and would load either version where the other is wanted. Nor does it look into the files of what
    they call, so the names also tell the version of ``vecmath``.

    In ``body`` give each view of an array its own statement. From ``row, out = x[i], y[i]`` on, Numba may not know that
    ``out`` is a part of ``y``, and then the parallel version writes in another order than the source.
    """

    def version(suffix: str, parallel: bool) -> Any:
        function = FunctionType(body.__code__, body.__globals__, f"{body.__name__}_{suffix}_{_SHARED}")
        function.__qualname__ = function.__name__
        return njit(function, parallel=parallel, cache=True, nogil=True, **options)

    return version("serial", False), version("parallel", True)
