"""The study versions in Numba CUDA, in Numba's simulator, which must be chosen before Numba is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

CODE = """
import numpy as np
from scratchgen import kernels

rng = np.random.default_rng(0)
x, g = 3 * rng.standard_normal((3, 70)), rng.standard_normal((3, 70))
y = np.exp(x) / np.exp(x).sum(1, keepdims=True)
weight, bias, rows = rng.standard_normal(70), rng.standard_normal(70), {"normalized_shape": (70,), "eps": 1e-5}
mean, rstd = x.mean(1, keepdims=True), (x.var(1, keepdims=True) + 1e-5) ** -0.5
CASES = [
    ("softmax", (x,), {"dim": 1}),
    ("softmax", (x.T,), {"dim": 0}),
    ("softmax", (np.zeros((2, 0)),), {"dim": 1}),
    ("softmax_vjp", (g, y, None), {"dim": 1}),
    ("layer_norm", (x, weight, bias), rows),
    ("layer_norm", (x, None, None), rows),
    ("layer_norm_vjp", (g, None, x, weight, bias, mean, rstd), rows),
    ("matmul", (x[:, :17], rng.standard_normal((17, 9))), {}),
    ("matmul", (x[:, :0], np.zeros((0, 4))), {}),
]
draw = rng.standard_normal
for size, stride, padding, dilation, groups, images, filters in (
    ((3, 4), (1, 1), (1, 0), (1, 1), 1, (2, 3, 3, 6), (5, 3, 3, 3)),
    ((2, 3), (2, 1), (0, 2), (1, 2), 2, (1, 4, 4, 3), (6, 2, 2, 3)),
):
    image, weight, out = draw(images), draw(filters), draw((images[0], filters[0], *size))
    how = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    CASES += [
        ("conv2d", (image, weight, draw(filters[0])), {"size": size, **how}),
        ("conv2d_input", (out, weight, draw(images[1])), {"size": images[2:], **how}),
        ("conv2d_weight", (image, out), {"size": filters[2:], **how}),
    ]
for lead, queries, keys, width, values, causal in (((2,), 5, 9, 4, 3, False), ((1, 2), 11, 11, 9, 17, True)):
    q, k, v = draw((*lead, queries, width)), draw((*lead, keys, width)), draw((*lead, keys, values))
    attrs = {"is_causal": causal, "scale": 0.4}
    op = "scaled_dot_product_attention"
    y, lse = kernels.implementations(op, "cuda")["reference"].fn(q, k, v, None, **attrs)
    needs = {"needs": (True, True, True, False)}
    CASES += [
        (op, (q, k, v, None), attrs),
        (f"{op}_vjp", (draw(y.shape), y, q, k, v, None, lse), {**attrs, **needs}),
    ]
for op, arrays, attrs in CASES:
    found = kernels.implementations(op, "cuda")
    got = found["numba-cuda"].fn(*(None if a is None else a.astype(np.float32) for a in arrays), **attrs)
    truth = found["reference"].fn(*arrays, **attrs)
    for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, truth)), strict=True):
        if b is None:
            assert a is None
            continue
        assert np.abs(a - b).max(initial=0) <= 4e-6 * np.abs(b).max(initial=0), op
        assert a.dtype == np.float32 and a.shape == b.shape
    print(op)
"""


def test_study_versions_agree_with_the_reference_in_the_simulator():
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    ran = subprocess.run([sys.executable, "-W", "error", "-c", CODE], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    counts = Counter(ran.stdout.split())
    assert counts == {
        "softmax": 3, "softmax_vjp": 1, "layer_norm": 2, "layer_norm_vjp": 1, "matmul": 2, "conv2d": 2,
        "conv2d_input": 2, "conv2d_weight": 2, "scaled_dot_product_attention": 2,
        "scaled_dot_product_attention_vjp": 2,
    }  # fmt: skip


def test_they_are_there_to_be_read_and_never_chosen():
    from scratchgen import kernels

    attention = "scaled_dot_product_attention"
    convolution = ("conv2d", "conv2d_input", "conv2d_weight")
    rows = ("softmax", "softmax_vjp", "layer_norm", "layer_norm_vjp", "matmul")
    for op in (*rows, *convolution, attention, f"{attention}_vjp"):
        assert kernels.implementations(op, "cuda")["numba-cuda"].study
