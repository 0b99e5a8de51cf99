"""Freed memory stays with the process, so that large arrays do not cost page faults each time.

The C library maps fresh pages for every array from 32 MiB and gives the top of its heap back whenever some tens of MiB
of it are free. The kernel then zeroes each page again on its first use: filling a fresh array of 64 MiB takes three
times as long as filling one that was there before, and a training step frees and allocates all its activations. Two
settings of glibc's allocator end that. All arrays come from its heap, which reuses what is freed, and up to 2 GiB of
free memory stay at its top.

It is a setting of the whole process. ``SCRATCHGEN_HEAP=system`` leaves it as it was; other C libraries know nothing of
it and are left alone.
"""

from __future__ import annotations

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_MOST_KEPT = (1 << 31) - 1  # bytes; the largest number that mallopt takes


def keep_freed_memory() -> bool:
    """Set the allocator of this process; whether it was set."""
    choice = os.environ.get("SCRATCHGEN_HEAP", "keep")
    if choice not in ("keep", "system"):
        raise ValueError(f"SCRATCHGEN_HEAP must be 'keep' or 'system', got {choice!r}")
    if choice == "system" or not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT))


KEPT = keep_freed_memory()  # on import, before the first large array
