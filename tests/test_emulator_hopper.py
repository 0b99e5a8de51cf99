"""Hopper's copies, barriers and products in the emulator: what the manual says of them, and bugs that must be found."""

from __future__ import annotations

import shutil
from itertools import product as every
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchgen.kernels.emulate import EmulatorError, emulator
from scratchgen.kernels.launch import HOPPER, Module, Out
from scratchgen.kernels.tensor_map import Boxes

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="the emulator compiles with g++")

HERE = Path(__file__).parent / "emulator"
NARROW, FLAGS = ("half_t", "bfloat_t"), (True, False)
FORMS = [  # type, columns, whether a and b lie along the depth, whether a comes from registers
    *every(NARROW, (128, 256), FLAGS, FLAGS, (False,)),
    *every(("float",), (128, 256), (True,), (True,), (False,)),
    *every(NARROW, (64, 128), (True,), FLAGS, (True,)),
]
PLACES = ((0, 0, 0), (24, 3, 1), (-8, -2, 0), (70, 30, 1), (500, 0, 0), (0, 0, 7), (8, 60, -1))


def named(form: tuple) -> str:
    return f"product<{', '.join(str(v).lower() for v in form)}>"


UNITS = Module(
    str(HERE / "hopper.cu"),
    *("boxes<half_t, 40>", "boxes<float, 8>", "around", *map(named, FORMS)),
    architectures=HOPPER,
)
SCHEDULES = pytest.mark.parametrize("schedule", [0, 1, 2, 3])


def bits_of(x: np.ndarray, t: str) -> np.ndarray:
    """What a kernel gets for numbers of its type: NumPy has no bfloat16."""
    if t == "bfloat_t":
        bits = x.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    return x.astype(np.float16 if t == "half_t" else np.float32)


def wide(x: np.ndarray, t: str) -> np.ndarray:
    if t == "bfloat_t":
        x = (x.astype(np.uint32) << 16).view(np.float32)
    return x.astype(np.float64)


@SCHEDULES
@pytest.mark.parametrize("swizzled", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_boxes_come_swizzled_with_zeros_for_what_lies_outside(place, swizzled, schedule):
    x = np.random.default_rng(0).standard_normal((2, 50, 88)).astype(np.float16)
    got = np.empty((40, 64), np.float16)
    with emulator(schedule=schedule):
        box = Boxes(x, (40, 64), swizzled=swizzled)
        UNITS.launch("boxes<half_t, 40>", 1, 64, box, Out(got), *map(np.int32, place), shared=40 * 128)
    truth = np.zeros((40, 64), np.float16)
    for row in range(40):
        for column in range(64):
            at = place[2], place[1] + row, place[0] + column
            if all(0 <= i < n for i, n in zip(at, x.shape)):
                chunk = column // 8 ^ (row % 8 if swizzled else 0)
                truth[row, 8 * chunk + column % 8] = x[at]
    np.testing.assert_array_equal(got, truth)


def test_boxes_are_rounded_to_tf32_where_that_is_asked_for():
    x = np.random.default_rng(1).standard_normal((8, 32)).astype(np.float32)
    got = np.empty((8, 32), np.float32)
    for rounded in (False, True):
        box = Boxes(x, (8, 32), swizzled=False, to_tf32=rounded)
        UNITS.launch("boxes<float, 8>", 1, 32, box, Out(got), *map(np.int32, (0, 0, 0)), shared=1024)
        assert (np.abs(got - x).max() > 0) == rounded
        np.testing.assert_allclose(got, x, rtol=2.0**-11)
        assert not rounded or not (got.view(np.uint32) & 0x1FFF).any()


def test_boxes_that_no_tensor_map_can_tell_of_are_refused():
    with pytest.raises(ValueError, match="rows of 7 x float16 are no multiples of 16 bytes"):
        Boxes(np.zeros((3, 7), np.float16), (8, 8))
    with pytest.raises(ValueError, match="a box of 8 x 72 float16 is too large"):
        Boxes(np.zeros((3, 80), np.float16), (8, 72))
    base, got = np.zeros(41 * 64, np.float16), np.empty((40, 64), np.float16)
    box = Boxes(base[1:2561].reshape(40, 64), (40, 64))
    with pytest.raises(EmulatorError, match="begins at no multiple of 16 bytes"):
        UNITS.launch("boxes<half_t, 40>", 1, 64, box, Out(got), *map(np.int32, (0, 0, 0)), shared=40 * 128)


@pytest.mark.parametrize("form", FORMS, ids=named)
def test_products_of_warpgroups(form):
    """With operands put into shared memory number by number: so that descriptors are held to the manual's layouts."""
    t, columns, _, _, fragments = form
    rng, depth = np.random.default_rng(2), 32 if t == "float" else 64
    a, b = (bits_of(rng.standard_normal((rows, depth)), t) for rows in (64, columns))
    c = np.empty((64, columns), np.float32)
    truth = wide(a, t) @ wide(b, t).T
    for schedule in (0, 1, 2, 3):
        counters: list = []
        with emulator(schedule=schedule, counters=counters):
            UNITS.launch(named(form), 1, 128, a, b, Out(c), shared=(64 + columns) * 128)
        np.testing.assert_allclose(c, truth, atol=3e-2 if t == "float" else 3e-5)
        assert counters[0].tensor_flops == 2 * 64 * columns * depth
    operands = (0 if fragments else 64) + columns
    assert counters[0].shared_read == operands * 128  # each once for the four warps


@SCHEDULES
@pytest.mark.parametrize("rounds", [1, 3, 11])
def test_what_is_handed_on_through_phases_is_seen(schedule, rounds):
    x = np.random.default_rng(3).standard_normal((rounds, 32)).astype(np.float32)
    y = np.empty((2, rounds, 32), np.float32)
    with emulator(schedule=schedule):
        UNITS.launch("around", 1, 96, x, Out(y), np.int32(rounds))
    np.testing.assert_array_equal(y, np.stack([x[:, ::-1]] * 2))


# --- bugs: as what each is found, and at which lines of hopper_bugs.cu, under every schedule; the order in which boxes
# come decides which of them

BUGS: dict[str, set[str]] = {
    "barriers_not_shown": {"missing fence [copy]"},
    "no_barrier_after_begin": {"race [await]", "uninitialised [await]", "race [claim]", "uninitialised [claim]"},
    "missing_expect": {"missing wait [multiply]", "deadlock [await]"},
    "too_few_bytes": {"missing wait [multiply]", "deadlock [await]"},
    "claimed_without_wait": {"race [copy]", "too many arrivals [expect]"},
    "wrong_phase": {"missing wait [multiply]", "uninitialised [multiply]"},
    "no_wait_for_boxes": {"missing wait [multiply]", "uninitialised [multiply]"},
    "missing_fence": {"missing fence [multiply]"},
    "writes_not_shown": {"missing fence [multiply]"},
    "other_descriptor": {"warp divergence [multiply]"},
    "half_a_warpgroup": {"deadlock [wait]"},
    "missing_commit": {"missing wait [result]"},
    "sums_read_early": {"missing wait [touch]"},
    "released_too_early": {"race [copy]"},
    "one_warp_releases": {"race [copy]"},
    "never_released": {"deadlock [await]"},
    "released_twice": {"race [copy]", "too many arrivals [again]", "deadlock [await]"},
}
# A naive run (in order, nothing checked) has the right result all the same, or never ends, or else a wrong one.
RIGHT_NAIVELY = {
    "barriers_not_shown", "no_barrier_after_begin", "no_wait_for_boxes", "missing_fence", "writes_not_shown",
    "released_too_early", "one_warp_releases",
}  # fmt: skip
WRONG_NAIVELY = {"other_descriptor", "missing_commit", "sums_read_early", "released_twice"}
PANELS = 5
WRONG = Module(str(HERE / "hopper_bugs.cu"), *(f"multiply<{bug}>" for bug in ("none", *BUGS)), architectures=HOPPER)
A, B = (np.random.default_rng(4).integers(-4, 5, (rows, 64 * PANELS)).astype(np.float16) for rows in (64, 128))


def multiplied(bug: str, **how: Any) -> np.ndarray:
    c = np.zeros((64, 128), np.float32)
    boxes = Boxes(A, (64, 64), **how), Boxes(B, (128, 64), **how)
    WRONG.launch(f"multiply<{bug}>", 1, 256, *boxes, Out(c), np.int32(PANELS), shared=2 * 192 * 128)
    return c


@SCHEDULES
def test_without_a_bug_the_product_is_right(schedule):
    with emulator(schedule=schedule):
        np.testing.assert_array_equal(multiplied("none"), A.astype(np.float32) @ B.T.astype(np.float32))


@SCHEDULES
@pytest.mark.parametrize("bug", BUGS)
def test_bugs_are_found_under_every_schedule(bug, schedule):
    with emulator(schedule=schedule), pytest.raises(EmulatorError) as found:
        multiplied(bug)
    file, line = (found.value.location or "").split(":")
    assert file == "hopper_bugs.cu"
    mark = (HERE / file).read_text().splitlines()[int(line) - 1].rpartition("// ")[2]
    assert f"{found.value.kind} {mark}" in BUGS[bug], found.value


@pytest.mark.parametrize("bug", BUGS)
def test_what_a_naive_run_lets_pass(bug):
    with emulator(schedule=0, checks=False):
        if bug in RIGHT_NAIVELY | WRONG_NAIVELY:
            right = np.array_equal(multiplied(bug), A.astype(np.float32) @ B.T.astype(np.float32))
            assert right == (bug in RIGHT_NAIVELY)
        else:
            with pytest.raises(EmulatorError, match="deadlock"):
                multiplied(bug)


@SCHEDULES
def test_boxes_that_are_not_swizzled_give_a_wrong_product(schedule):
    """Nothing is forbidden about them: the descriptor tells of other places than those to which they went."""
    with emulator(schedule=schedule):
        wrong = multiplied("none", swizzled=False) != A.astype(np.float32) @ B.T.astype(np.float32)
    assert wrong.mean() > 0.8  # 7/8 of pairs of rows, if equal permutations do no harm
