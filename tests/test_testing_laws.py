"""Laws hold for the ops that have them, and are broken by those that do not."""

from __future__ import annotations

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.nn import functional as F
from scratchgen.testing import Case, GradientError, check_laws, laws

rng = np.random.default_rng(0)
IMAGE, WEIGHT = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 3, 3))
Q, K, V = (rng.standard_normal((2, 3, n, 5)) for n in (4, 6, 6))
X = rng.standard_normal((3, 4))
attention = F.scaled_dot_product_attention


def affine(x: sg.Tensor) -> tuple[sg.Tensor, sg.Tensor]:
    """A coupling of two halves, with the log-determinant of its Jacobian."""
    a, b = x[:, :2], x[:, 2:]
    scale = a.tanh()
    return sg.cat([a, b * scale.exp() + a], 1), scale.sum(1)


def undo(y: sg.Tensor, logdet: sg.Tensor) -> sg.Tensor:
    a, b = y[:, :2], y[:, 2:]
    return sg.cat([a, (b - a) * (-a.tanh()).exp()], 1)


HOLD = {
    "convolution is linear in both": (F.conv2d, (IMAGE, WEIGHT), {}, [laws.linearity(0), laws.linearity(1)]),
    "convolution moves with its input": (F.conv2d, (IMAGE, WEIGHT), {"padding": 1}, [laws.translation()]),
    "with a stride too": (F.conv2d, (IMAGE, WEIGHT), {"stride": 2}, [laws.translation(stride=2, by=2)]),
    "so does pooling": (F.avg_pool2d, (IMAGE,), {"kernel_size": 2}, [laws.translation(stride=2), laws.linearity()]),
    "images do not mix": (F.conv2d, (IMAGE, WEIGHT), {}, [laws.batch_splitting()]),
    "the transpose is the adjoint": (F.conv2d, (IMAGE, WEIGHT), {}, [laws.adjoint(F.conv_transpose2d)]),
    "softmax has no level": (sg.softmax, (X,), {"dim": 1}, [laws.shift()]),
    "nor has a norm over all": (F.layer_norm, (X, (4,)), {}, [laws.shift(0, -1)]),
    "ReLU is of degree 1": (sg.relu, (X,), {}, [laws.homogeneity()]),
    "a cosine is of degree 0": (F.cosine_similarity, (X, X + 1), {}, [laws.homogeneity(1, 0)]),
    "attention is to a set of keys": (attention, (Q, K, V), {}, [laws.permutation([(1, -2), (2, -2)])]),
    "queries do not see each other": (attention, (Q, K, V), {}, [laws.permutation([(0, -2)], [(0, -2)])]),
    "attention is linear in the values": (attention, (Q, K, V), {}, [laws.linearity(2)]),
    "a coupling can be undone": (affine, (X,), {}, [laws.inverse(undo), laws.log_determinant(affine)]),
}
BROKEN = {
    "softmax is not linear": (sg.softmax, (X,), {"dim": 1}, laws.linearity()),
    "log-sum-exp has a level": (sg.logsumexp, (X,), {"dim": 1}, laws.shift()),
    "causal attention is to a sequence": (
        attention, (Q, Q, Q), {"is_causal": True}, laws.permutation([(1, -2), (2, -2)])
    ),
    "batch norm mixes images": (
        lambda x: F.batch_norm(x, None, None, training=True), (IMAGE,), {}, laws.batch_splitting()
    ),
    "a stride hides what moves by less": (F.conv2d, (IMAGE, WEIGHT), {"stride": 2}, laws.translation(by=1)),
    "padding by reflection is no adjoint": (
        lambda x, w: F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), w), (IMAGE, WEIGHT), {},
        laws.adjoint(lambda u, w: F.conv_transpose2d(u, w, padding=1)),
    ),
    "SiLU has no degree": (F.silu, (X,), {}, laws.homogeneity()),
    "a wrong inverse": (affine, (X,), {}, laws.inverse(lambda y, logdet: y)),
    "a wrong log-determinant": (
        lambda x: (affine(x)[0], affine(x)[1] * (1 + 1e-9)), (X,), {}, laws.log_determinant(affine)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLD)
def test_law_holds(name):
    f, arrays, attrs, held = HOLD[name]
    assert check_laws(f, Case(name, arrays, attrs), held).resolution < 1e-10


@pytest.mark.parametrize("name", BROKEN)
def test_law_is_broken(name):
    f, arrays, attrs, law = BROKEN[name]
    with pytest.raises(GradientError, match="law of"):
        check_laws(f, Case(name, arrays, attrs), [law])
