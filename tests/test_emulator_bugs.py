"""Wrong kernels, all of which the emulator finds, and which of them a naive run on a CPU lets pass.

The naive run gives every thread its turn in order, from one synchronisation to the next, and looks at nothing but the
result: what a shim without checks does, and a GPU on a lucky day.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from scratchgen.kernels.emulate import EmulatorError, emulator
from scratchgen.kernels.launch import Changed, Module, Out

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

SOURCE = Path(__file__).parent / "emulator" / "bugs.cu"
X = np.random.default_rng(0).integers(-8, 8, 256).astype(np.float32)  # whole numbers: sums are exact
ROWS = X.reshape(2, 128)


class Bug(NamedTuple):
    kind: str
    passes_naively: bool
    wanted: Any = X  # the result of a kernel without the bug
    n: int = 256
    changed: bool = False  # the result is added to


def _shifted(by: int) -> np.ndarray:
    """In each block of ``by`` threads or in all of them, what the thread ``by`` before has; the first keep theirs."""
    return np.concatenate([ROWS[:, :by], ROWS[:, :-by]], 1).reshape(-1)


def _by_lane(lanes: Any) -> np.ndarray:
    return X.reshape(-1, 32)[:, lanes].reshape(-1)


_lanes = np.arange(32)
_sums = (ROWS - ROWS.max(1, keepdims=True)).sum(1)
BUGS = {
    "missing_barrier": Bug("race", True, _shifted(32)),
    "barrier_missing_before_reuse": Bug("race", True, np.repeat(_sums, 128)),
    "missing_warp_barrier": Bug("race", True, _by_lane(np.maximum(_lanes - 1, 0))),
    "all_write_one_place": Bug("race", True, np.repeat(ROWS[:, -1], 128)),
    "blocks_add_to_one_place": Bug("race", True, np.concatenate([ROWS.sum(0), 0 * ROWS[0]]), changed=True),
    "one_too_many": Bug("out of bounds", True, X[:200], n=200),
    "beyond_a_row": Bug("out of bounds", True),
    "misaligned_pack": Bug("misaligned", True, np.append(X[1:125], X[:132] * 0), changed=True),
    "misaligned_cast": Bug("misaligned", True, np.append(np.repeat(X[1:252:2], 2), 0), n=253, changed=True),
    "barrier_in_a_branch": Bug("barrier divergence", True),
    "leaves_before_a_barrier": Bug("barrier divergence", True, X[:200], n=200),
    "unwritten_tail": Bug("unwritten output", False, X[:200], n=200),
    "half_a_mask": Bug("wrong mask", True, _by_lane(_lanes ^ 1)),
    "shuffle_in_a_branch": Bug("deadlock", False),
    "reads_a_lane_that_left": Bug("wrong mask", False, _by_lane(np.minimum(_lanes + 1, 31))),
    "uninitialised_shared": Bug("uninitialised", False, ROWS[:, ::-1].reshape(-1)),
    "reads_its_output": Bug("uninitialised", True),
    "missing_wait": Bug("missing wait", False),
    "waits_for_too_little": Bug("missing wait", False),
    "no_barrier_after_a_wait": Bug("race", True, _shifted(1)),
    "copies_over_what_is_read": Bug("race", True, ROWS[:, ::-1].reshape(-1)),
    "writes_its_input": Bug("write to an input", True),
    "index_overflows": Bug("arithmetic", True),
    "waits_for_ever": Bug("deadlock", False),
}


@pytest.fixture(scope="module")
def module() -> Module:
    return Module(str(SOURCE), *BUGS)


def run(module: Module, name: str) -> np.ndarray:
    bug = BUGS[name]
    y = np.zeros(bug.n, np.float32)
    module.launch(name, 2, 128, X[: bug.n].copy(), (Changed if bug.changed else Out)(y), np.int32(bug.n))
    return y


@pytest.mark.parametrize("name", BUGS)
@pytest.mark.parametrize("schedule", [0, 1, 2, 3])
def test_found_at_its_line_under_every_schedule(module, name, schedule):
    with emulator(schedule=schedule), pytest.raises(EmulatorError) as found:
        run(module, name)
    error = found.value
    # What should have been waited for may not have happened yet, or may have; either shows.
    kinds = ("race", "uninitialised") if BUGS[name].kind == "race" else (BUGS[name].kind,)
    assert error.kind in kinds, error
    assert error.kernel == name
    if name == "unwritten_tail":  # no single line is to blame
        assert error.location is None
        assert "72 of 200 places of argument 1, float32[200] were never written" in str(error)
        return
    text = SOURCE.read_text()
    within = text[: text.index("\n}", text.index(f"void {name}("))]
    line = 1 + within[: within.rindex("// BUG")].count("\n")
    assert f"bugs.cu:{line}" in (error.location, error.other), error
    assert error.thread is not None
    assert 0 <= error.thread[0] < 128
    assert error.block in ((0, 0, 0), (1, 0, 0))


@pytest.mark.parametrize("name", [name for name, bug in BUGS.items() if bug.kind != "deadlock"])
def test_what_a_naive_run_lets_pass(module, name):
    with emulator(schedule=0, checks=False):
        y = run(module, name)
    assert np.array_equal(y, BUGS[name].wanted) == BUGS[name].passes_naively
