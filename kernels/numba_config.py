"""Numba with its threading layer chosen. CPU kernels import ``njit`` and ``prange`` from here.

A parallel region costs about 2 us with OpenMP and 50 us with ``workqueue``, so small kernels would lose on the latter.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from numba import njit, prange
from numba.core.codegen import get_host_cpu_features
from numba.np.ufunc import parallel

__all__ = ["njit", "prange", "serial_and_parallel", "specialise", "threading_layer"]

if numba.config.CPU_FEATURES is None:
    # LLVM takes vectors of 256 bits even where there are 512, for the sake of processors that clocked down with the
    # wider ones. The loops here are 1.2 to 1.4 times as fast with 512; where there are none, this changes nothing.
    numba.config.CPU_FEATURES = get_host_cpu_features() + ",-prefer-256-bit"

if numba.config.THREADING_LAYER == "default":
    numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def _set_number_of_threads(asked: str | None) -> None:
    """Take ``SCRATCHGEN_NUM_THREADS`` for Numba's own variable, unless it is not given."""
    if asked is None:
        return
    if not (asked.isascii() and asked.isdecimal() and int(asked) > 0):
        raise ValueError(f"SCRATCHGEN_NUM_THREADS must be a whole number from 1 on, got {asked!r}")
    if parallel._is_initialized:  # somebody else has started the threads
        numba.set_num_threads(int(asked))
    else:
        numba.config.NUMBA_NUM_THREADS = parallel.NUM_THREADS = int(asked)


_set_number_of_threads(os.environ.get("SCRATCHGEN_NUM_THREADS"))


def threading_layer() -> str:
    """Start Numba's threads and name the layer in use: ``omp``, ``tbb`` or ``workqueue``."""
    with _waiting_briefly():
        parallel._launch_threads()
    return str(numba.threading_layer())


# Rounds of GNU OpenMP's waiting loop before a thread goes to sleep: some 400 us, longer than the Python between two
# kernels of a training step takes.
_SPINS = "30000"


@contextmanager
def _waiting_briefly() -> Iterator[None]:
    """Let OpenMP's threads wait for the next parallel region awake, but not for long, unless the user decided.

    A thread that sleeps takes 30 to 75 us to wake on a virtual machine, 20 times as long as the region costs
    otherwise: with threads that sleep at once a step of a small GPT took 32 ms in place of 23. Threads that wait awake
    for milliseconds, which is the default, cost whole time slices where another pool of threads (BLAS) or another
    process wants the core: a training step took 180 ms in place of 14. OpenMP reads the variables once, when its
    library is loaded, so they are taken back for what this process starts.
    """
    chosen = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": _SPINS}  # the second is heard by GNU's library alone
    if chosen.keys() & os.environ.keys():
        yield
        return
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name in chosen:
            del os.environ[name]


if threading_layer() == "workqueue":
    warnings.warn(
        "Numba found neither OpenMP nor TBB and falls back to its slow 'workqueue' threads; "
        "install libgomp1 (Debian: apt-get install libgomp1) or `pip install tbb`",
        RuntimeWarning,
        stacklevel=2,
    )


# What kernels of all ops call: Numba's disk cache looks only at the file of the function that it caches.
_SHARED = hashlib.sha256(
    b"".join(Path(__file__).with_name(name).read_bytes() for name in ("vecmath.py", "simd.py", "vectors.py"))
).hexdigest()[:8]


def specialise(body: Callable[..., Any], variant: str, constants: dict[str, Any], **options: Any) -> Any:
    """``body`` compiled with other values for some of the global names it uses.

    A closure would be the natural way, but Numba's disk cache cannot tell closures over intrinsics apart from one
    process to the next. So the function gets a name of its own for each ``variant``, by which the cache finds it.
    """
    return njit(renamed(body, variant, constants), cache=True, nogil=True, **options)


def renamed(body: Callable[..., Any], variant: str = "", constants: dict[str, Any] | None = None) -> FunctionType:
    """A copy of ``body`` whose name tells the variant and the version of what all kernels share."""
    name = f"{body.__name__}_{variant}_{_SHARED}"
    function = FunctionType(body.__code__, {**body.__globals__, **(constants or {})}, name)
    function.__qualname__ = name
    return function


def serial_and_parallel(body: Callable[..., Any], **options: Any) -> tuple[Any, Any]:
    """``body`` compiled twice: its ``prange`` loops on one thread, and over all threads. Index it by a bool.

    The versions need names of their own: Numba's disk cache tells functions apart by file, name and line, not by
    their options, and would load either version where the other is wanted. Nor does it look into the files of what
    they call, so the names also tell the version of ``vecmath``.

    Let the loop in ``body`` be no more than a call for each row or block. What stands in it is compiled slowly in the
    parallel version; and after ``row, out = x[i], y[i]`` Numba may have lost sight of ``out`` being a part of ``y``,
    and write in another order than the source.
    """

    def version(suffix: str, parallel: bool) -> Any:
        return specialise(body, suffix, {}, parallel=parallel, **options)

    return version("serial", False), version("parallel", True)

from . import alignment as alignment  # noqa: E402  # at the end: it compiles, and what is above says for what CPU
