"""Convolution with stride 2 and its transpose, as sums of convolutions between phases, by Winograd."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen.kernels.conv2d import reference, winograd


@st.composite
def layers(draw):
    """Filters and images of any size, even and odd, with any padding: phases then differ in length and start.

    Of nine images tiles at the end are short.
    """
    n, c, k = draw(st.sampled_from([1, 2, 3, 9])), draw(st.integers(8, 40)), draw(st.integers(8, 70))
    taps, padding = draw(st.integers(3, 6)), draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    height, width = (draw(st.integers(max(2, taps + 2 - 2 * p), 19)) for p in padding)
    return n, c, k, height, width, taps, padding


def _errors(layer, seed):
    """The three ops' largest errors, relative to the largest value."""
    n, c, k, height, width, taps, padding = layer
    rng = np.random.default_rng(seed)
    size = ((height + 2 * padding[0] - taps) // 2 + 1, (width + 2 * padding[1] - taps) // 2 + 1)
    how = {"stride": (2, 2), "padding": padding, "dilation": (1, 1), "groups": 1}
    x, w, y = (rng.standard_normal(s) for s in ((n, c, height, width), (k, c, taps, taps), (n, k, *size)))
    calls = [
        ("conv2d", (x, w, rng.standard_normal(k)), size),
        ("conv2d_input", (y, w, rng.standard_normal(c)), (height, width)),
        ("conv2d_weight", (x, y), (taps, taps)),
    ]
    for op, arrays, wanted in calls:
        truth = getattr(reference, op)(*arrays, size=wanted, **how)
        got = getattr(winograd, op)(*[a.astype(np.float32) for a in arrays], size=wanted, **how)
        yield np.abs(got - truth).max() / np.abs(truth).max()


@settings(max_examples=30)
@given(layers(), st.integers(0, 2**32 - 1))
def test_all_three_ops_agree_with_the_reference(layer, seed):
    assert max(_errors(layer, seed)) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        (4, 48, 96, 28, 28, 4, (1, 1)),
        (2, 64, 128, 32, 32, 4, (1, 1)),
        (4, 64, 128, 14, 14, 4, (1, 1)),
        (2, 64, 64, 32, 32, 3, (1, 1)),
        (2, 64, 64, 32, 32, 5, (2, 2)),
    ],
)
def test_error_of_real_layers(layer):
    assert max(_errors(layer, 0)) < 5e-6


def test_gradients_of_every_order_stay_among_the_three_ops():
    """Second derivatives through the public ops, against float64 by the reference."""
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(s) for s in ((2, 8, 6, 6), (8, 8, 4, 4))]

    def second(dtype):
        x, w = (sg.tensor(v.astype(dtype), requires_grad=True) for v in values)
        y = sg.conv_transpose2d(sg.conv2d(x, w, stride=2, padding=1), w, stride=2, padding=1)
        (g,) = sg.grad((y * y).sum(), x, create_graph=True)
        return [t.array for t in sg.grad((g * g).sum(), [x, w])]

    for narrow, wide in zip(second(np.float32), second(np.float64), strict=True):
        assert np.abs(narrow - wide).max() < 3e-5 * np.abs(wide).max()
