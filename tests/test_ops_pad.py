"""Padding, sliding windows, pixel shuffling: torch's values and gradients, and pairs that are transposes."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, lying, torch

import scratchgen as sg
from scratchgen.testing import check_grad

F = torch.nn.functional
rng = np.random.default_rng(0)

CONSTANT = [(1, 2), (0, 0), (-1, 2), (2, -3), (-2, -1), (1, 0, 2, 3), (-1, 1, 1, -1, 0, 2), (1,) * 8]


@pytest.mark.parametrize("widths", CONSTANT)
def test_constant_padding_is_torchs(widths):
    for x in lying((2, 3, 4, 5)):
        assert_like_torch(lambda x: sg.pad(x, widths), lambda x: F.pad(x, widths), x)
        assert_like_torch(lambda x: sg.pad(x, widths, value=-2.5), lambda x: F.pad(x, widths, value=-2.5), x)
    check_grad(lambda x: sg.pad(x, widths, value=1.5).sin(), x, order=2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("widths", [(2, 3), (4, 0), (0, 4), (4, 4), (-1, 2), (2, -1), (-2, -1), (0, 0)])
def test_the_other_modes_are_torchs_in_one_dimension(mode, widths):
    for x in lying((2, 3, 5)):
        assert_like_torch(lambda x: sg.pad(x, widths, mode), lambda x: F.pad(x, widths, mode=mode), x)
    check_grad(lambda x: sg.pad(x, widths, mode).sin(), x, order=2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("widths", [(1, 2, 2, 1), (3, 3, 0, 0), (0, 0, 2, 2), (-1, 1, 1, -1), (1, 1, 2, 2, 1, 0)])
def test_the_other_modes_are_torchs_in_more_dimensions(mode, widths):
    for x in lying((2, 2, 3, 4, 5)[-2 - len(widths) // 2 :]):
        assert_like_torch(lambda x: sg.pad(x, widths, mode), lambda x: F.pad(x, widths, mode=mode), x)
    check_grad(lambda x: sg.pad(x, widths, mode).sin(), x, order=2)


def test_padding_integers_and_any_number_of_dimensions():
    assert_like_torch(lambda x: sg.pad(x, (1, 1), value=2), lambda x: F.pad(x, (1, 1), value=2), np.arange(3))
    x = rng.standard_normal((2, 3))
    for mode in ("reflect", "circular"):
        expected = np.pad(x, ((1, 0), (1, 2)), {"circular": "wrap"}.get(mode, mode))
        np.testing.assert_array_equal(sg.pad(sg.tensor(x), (1, 2, 1, 0), mode).numpy(), expected)


MISTAKES = [
    (((1,),), r"pad: expects two numbers for each of the last dimensions, got \[1\] for shape \[1, 1, 6\]"),
    (((1,) * 8,), r"pad: expects two numbers"),
    (((-3, -4),), r"pad: \[-3, -4\] crops more than there is of shape \[1, 1, 6\]"),
    (((6, 0), "reflect"), r"pad: \(6, 0\) for a dimension of 6 in mode 'reflect', expected at most 5"),
    (((7, 0), "circular"), r"pad: \(7, 0\) for a dimension of 6 in mode 'circular', expected at most 6"),
    (((1, 1), "reflect", 3.0), r"pad: mode 'reflect' takes no value, got 3.0"),
    (((1, 1), "mirror"), r"pad: mode must be 'constant', 'reflect', 'replicate' or 'circular', got 'mirror'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_padding_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sg.pad(sg.zeros(1, 1, 6), *arguments)


# --- sliding windows


@pytest.mark.parametrize(("dim", "size", "step"), [(0, 1, 1), (1, 2, 1), (2, 3, 2), (-1, 5, 3), (1, 4, 1)])
def test_windows_of_a_dimension_are_torchs(dim, size, step):
    for x in lying((2, 4, 5)):
        assert_like_torch(lambda x: x.unfold(dim, size, step), lambda x: x.unfold(dim, size, step), x)
    check_grad(lambda x: x.unfold(dim, size, step).sin(), x, order=2)


GEOMETRIES = [
    {"kernel_size": 2}, {"kernel_size": (3, 1), "stride": 2}, {"kernel_size": 2, "dilation": (1, 2)},
    {"kernel_size": (2, 3), "padding": (0, 2), "stride": (1, 2)}, {"kernel_size": 3, "padding": 1, "dilation": 2},
]  # fmt: skip


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_unfold_and_fold_are_torchs_and_each_others_transpose(geometry):
    def unfold(x):
        return sg.unfold(x, **geometry)

    def fold(x):
        return sg.fold(x, (5, 6), **geometry)

    for x in lying((2, 3, 5, 6)):
        assert_like_torch(unfold, lambda x: F.unfold(x, **geometry), x)
        assert_like_torch(unfold, lambda x: F.unfold(x, **geometry), x[0])
    columns = unfold(sg.tensor(x)).shape
    for c in lying(columns, seed=1):
        assert_like_torch(fold, lambda x: F.fold(x, (5, 6), **geometry), c)
        assert_like_torch(fold, lambda x: F.fold(x, (5, 6), **geometry), c[0])
    np.testing.assert_allclose(np.vdot(unfold(sg.tensor(x)).numpy(), c), np.vdot(x, fold(sg.tensor(c)).numpy()))
    check_grad(lambda x: unfold(x).sin(), x, order=2)
    check_grad(lambda c: fold(c).sin(), c, order=2)


def test_window_mistakes_are_named():
    x = sg.zeros(2, 3, 4)
    with pytest.raises(ValueError, match=r"unfold: no window of size 5, step 1, dilation 1 fits into a dimension of 4"):
        x.unfold(2, 5, 1)
    with pytest.raises(ValueError, match=r"unfold: no window of size 2, step 0"):
        x.unfold(2, 2, 0)
    with pytest.raises(ValueError, match=r"unfold: expects images"):
        sg.unfold(x[0], 2)
    with pytest.raises(ValueError, match=r"unfold: kernel_size must be one or two numbers of at least 1, got 0"):
        sg.unfold(x, 0)
    with pytest.raises(ValueError, match=r"fold: expects columns \[N, C \* 4, 9\] for 3 by 3 windows, got shape"):
        sg.fold(x, 4, 2)


# --- pixels


@pytest.mark.parametrize("shape", [(8, 2, 3), (2, 4, 3, 1), (2, 1, 12, 2, 2)])
def test_pixel_shuffle_is_torchs_and_unshuffle_undoes_it(shape):
    for x in lying(shape):
        assert_like_torch(lambda x: sg.pixel_shuffle(x, 2), lambda x: F.pixel_shuffle(x, 2), x)
        shuffled = sg.pixel_shuffle(sg.tensor(x), 2)
        assert_like_torch(lambda x: sg.pixel_unshuffle(x, 2), lambda x: F.pixel_unshuffle(x, 2), shuffled.numpy())
        np.testing.assert_array_equal(sg.pixel_unshuffle(shuffled, 2).numpy(), x)
    check_grad(lambda x: sg.pixel_shuffle(x, 2).sin(), x, order=2)
    check_grad(lambda x: sg.pixel_unshuffle(x, 2).sin(), shuffled.numpy(), order=2)


def test_pixel_mistakes_are_named():
    with pytest.raises(ValueError, match=r"pixel_shuffle: expects \[..., C \* 2\^2, H, W\], got shape \[3, 2, 2\]"):
        sg.pixel_shuffle(sg.zeros(3, 2, 2), 2)
    with pytest.raises(ValueError, match=r"pixel_unshuffle: expects .* got shape \[3, 2, 3\]"):
        sg.pixel_unshuffle(sg.zeros(3, 2, 3), 2)
