"""What all tests share: threads, determinism, hypothesis profiles."""

from __future__ import annotations

import os
import sys

# Two xdist workers with a full set of BLAS threads each would spin against one another for the same cores,
# and tests take several times as long. Numba's threads stay, waiting passively, so that parallel kernels are
# tested in parallel. NumPy, SciPy and torch read these when they are first imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "agg")

import pytest
from hypothesis import settings

# The default draws the same examples in every run, so that a failure is the change's and not the day's.
# `pytest --hypothesis-profile=explore` looks for new counterexamples and remembers the ones it finds.
settings.register_profile("deterministic", derandomize=True, database=None, deadline=None, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=1000, print_blob=True)
settings.load_profile("deterministic")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins with the same global generators, whichever tests its worker has run before."""
    import scratchgen as sg

    sg.manual_seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
