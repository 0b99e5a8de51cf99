"""Freed memory is used again without page faults, unless the user wants the C library's own way."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = """
import resource
import numpy as np
import scratchgen

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def work():
    arrays = [np.ones(12 << 20, np.float32) for _ in range(3)]  # of 48 MiB

work()
before = faults()
for _ in range(3):
    work()
print(faults() - before)
"""


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_arrays_cost_no_page_faults_again():
    kept, _ = run(FAULTS, SCRATCHGEN_HEAP="keep")
    fresh, _ = run(FAULTS, SCRATCHGEN_HEAP="system")
    assert int(kept) < 60
    assert int(fresh) > 200  # of 2 MiB pages; 110,000 of 4 KiB ones


def test_unknown_choice_raises():
    _, error = run("import scratchgen", SCRATCHGEN_HEAP="off")
    assert "SCRATCHGEN_HEAP must be 'keep' or 'system', got 'off'" in error


LINES = """
import numpy as np
import scratchgen
from scratchgen.kernels import numba_config

arrays = [np.empty(n, np.float32) for n in (0, 1, 7, 100, 5000, 10**6, 2**24)]
arrays += [np.zeros(n) for n in (1, 1000, 10**6)]
grown = np.arange(1000)
grown.resize(10**6)
assert grown[999] == 999 and not grown[1000:].any() and not arrays[-1].any()
grown.resize(5)
assert grown.tolist() == [0, 1, 2, 3, 4]
print(sum(a.ctypes.data % 64 != 0 for a in [*arrays, grown]))
scratchgen.kept_to_the_end = arrays  # are freed when Python has cleared its modules
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_arrays_begin_with_a_line_of_the_cache():
    kept, errors = run(LINES, SCRATCHGEN_HEAP="keep")
    assert (kept, errors) == ("0", "")
    left_alone, _ = run(LINES, SCRATCHGEN_HEAP="system")
    assert int(left_alone) > 0


PAGES = """
import re
import numpy as np
from scratchgen.kernels import numba_config

def wants_large_pages(a):
    middle, here = a.ctypes.data + a.nbytes // 2, False
    for line in open("/proc/self/smaps"):
        if ends := re.match("([0-9a-f]+)-([0-9a-f]+) ", line):
            here = int(ends[1], 16) <= middle < int(ends[2], 16)
        elif here and line.startswith("VmFlags:"):
            return "hg" in line.split()

print(wants_large_pages(np.empty(1 << 19, np.float32)), wants_large_pages(np.empty(1 << 21, np.float32)))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not Path("/sys/kernel/mm/transparent_hugepage").exists(),
    reason="neither glibc's heap nor large pages",
)
def test_large_arrays_want_large_pages():
    assert run(PAGES, SCRATCHGEN_HEAP="keep") == ("False True", "")
