"""Mini-batches: every row once an epoch, and resumed bit for bit wherever training stopped."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest

from scratchgen.data import Batches, Bucketed, in_order


def epoch(batches: Batches) -> np.ndarray:
    return np.concatenate(list(islice(batches, len(batches))))


@pytest.mark.parametrize(("rows", "size"), [(10, 3), (10, 10), (10, 64), (1, 1), (128, 32)])
def test_an_epoch_gives_every_row_once_and_the_next_in_another_order(rows: int, size: int) -> None:
    batches = Batches(np.arange(rows), size, seed=7)
    first, second = epoch(batches), epoch(batches)
    assert sorted(first) == sorted(second) == list(range(rows))
    assert batches.epoch == 1
    if rows > 1:
        assert not np.array_equal(first, second)
        assert not np.array_equal(first, np.arange(rows))


def test_the_last_batch_is_smaller_or_dropped() -> None:
    rows = np.arange(10)
    assert [len(batch) for batch in islice(Batches(rows, 4), 6)] == [4, 4, 2, 4, 4, 2]
    dropping = Batches(rows, 4, drop_last=True)
    assert [len(batch) for batch in islice(dropping, 5)] == [4, 4, 4, 4, 4]
    assert (len(Batches(rows, 4)), len(dropping), dropping.epoch) == (3, 2, 2)


def test_several_arrays_stay_aligned_and_one_comes_without_a_tuple() -> None:
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10)
    for a, b in islice(Batches((x, y), 3, seed=1), 8):
        assert a.shape == (len(b), 2)
        assert np.array_equal(a[:, 0], 2.0 * b)
    assert isinstance(next(Batches(x, 3)), np.ndarray)
    (only,) = next(Batches((x,), 3))
    assert only.shape == (3, 2)


def test_batches_are_copies() -> None:
    x = np.zeros(4)
    next(Batches(x, 4, shuffle=False))[:] = 1
    assert not x.any()


def test_order_depends_on_seed_and_epoch_alone() -> None:
    rows = np.arange(100)
    assert np.array_equal(epoch(Batches(rows, 7, seed=3)), epoch(Batches(rows, 50, seed=3)))
    assert not np.array_equal(epoch(Batches(rows, 7, seed=3)), epoch(Batches(rows, 7, seed=4)))
    # The definition, written out: a resumed run on another day must see these very rows.
    generator = np.random.Generator(np.random.Philox(key=np.array([3, 0], dtype=np.uint64)))
    assert np.array_equal(epoch(Batches(rows, 7, seed=3)), generator.permutation(100))
    assert epoch(Batches(np.arange(10), 10, seed=3)).tolist() == [6, 8, 4, 1, 3, 5, 9, 7, 0, 2]


@pytest.mark.parametrize("stop", range(12))
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_resuming_anywhere_gives_the_same_batches(stop: int, drop_last: bool, shuffle: bool) -> None:
    def fresh(seed: int) -> Batches:
        return Batches(np.arange(10), 3, seed=seed, shuffle=shuffle, drop_last=drop_last)

    run = fresh(5)
    list(islice(run, stop))
    state = json.loads(json.dumps(run.state_dict()))
    rest = list(islice(run, 15))
    resumed = fresh(99)
    list(islice(resumed, 4))  # whatever it did before must not matter
    resumed.load_state_dict(state)
    for a, b in zip(rest, islice(resumed, 15), strict=True):
        assert np.array_equal(a, b)
    assert resumed.state_dict() == run.state_dict()


def test_the_state_is_three_numbers_and_the_number_of_rows() -> None:
    batches = Batches(np.arange(10), 4, seed=2**64 - 1)
    list(islice(batches, 4))
    assert batches.state_dict() == {"seed": 2**64 - 1, "epoch": 1, "position": 4, "rows": 10}


def test_in_order_passes_once_over_everything() -> None:
    x, y = np.arange(10), np.arange(10) * 2
    got = list(in_order((x, y), 4))
    assert [len(a) for a, _ in got] == [4, 4, 2]
    assert np.array_equal(np.concatenate([a for a, _ in got]), x)
    assert np.array_equal(np.concatenate([b for _, b in got]), y)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"lengths are \[3, 4\]"):
        Batches((np.zeros(3), np.zeros(4)), 2)
    with pytest.raises(ValueError, match=r"lengths are \[0\]"):
        Batches(np.zeros(0), 2)
    with pytest.raises(ValueError, match=r"lengths are \[\]"):
        Batches((), 2)
    with pytest.raises(ValueError, match="3 rows give no batch of batch_size=0"):
        Batches(np.zeros(3), 0)
    with pytest.raises(ValueError, match="3 rows give no batch of batch_size=4"):
        Batches(np.zeros(3), 4, drop_last=True)
    with pytest.raises(ValueError, match="seed must be"):
        Batches(np.zeros(3), 2, seed=-1)
    state = Batches(np.zeros(4), 2).state_dict()
    with pytest.raises(ValueError, match="does not belong to data of 3 rows"):
        Batches(np.zeros(3), 2).load_state_dict(state)


# --- batches of rows of like length


def lengths(rows: int = 1000) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 40, rows)


def test_bucketed_rows_are_of_like_length_and_each_comes_once() -> None:
    n = lengths()
    batches = Bucketed(np.arange(1000), [n, -n], 16, seed=1)
    seen = [next(batches) for _ in range(len(batches))]
    assert len(seen) == 62
    assert len(np.unique(np.concatenate(seen))) == 62 * 16
    spread = np.mean([np.ptp(n[rows]) for rows in seen])
    assert spread < 4  # of the 36 that there are; without buckets it would be 33
    order = [n[rows].mean() for rows in seen]
    assert abs(np.corrcoef(order, np.arange(62))[0, 1]) < 0.4  # short and long ones are mixed
    again = [next(batches) for _ in range(62)]
    assert not np.array_equal(np.concatenate(seen), np.concatenate(again))


@pytest.mark.parametrize("stop", [0, 5, 62, 70])
def test_bucketed_batches_resume_anywhere(stop: int) -> None:
    batches = Bucketed(np.arange(1000), [lengths()], 16, seed=1)
    for _ in range(stop):
        next(batches)
    state = batches.state_dict()
    expected = [next(batches) for _ in range(70)]
    other = Bucketed(np.arange(1000), [lengths()], 16, seed=5)
    other.load_state_dict(state)
    np.testing.assert_array_equal([next(other) for _ in range(70)], expected)
