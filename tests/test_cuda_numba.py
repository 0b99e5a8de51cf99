"""The study versions in Numba CUDA, in Numba's simulator, which must be chosen before Numba is imported."""

from __future__ import annotations

import os
import subprocess
import sys

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
for op, arrays, attrs in CASES:
    found = kernels.implementations(op, "cuda")
    got = found["numba-cuda"].fn(*(None if a is None else a.astype(np.float32) for a in arrays), **attrs)
    truth = found["reference"].fn(*arrays, **attrs)
    for a, b in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, truth)), strict=True):
        assert np.abs(a - b).max(initial=0) <= 4e-6 * np.abs(b).max(initial=0), op
        assert a.dtype == np.float32 and a.shape == b.shape
    print(op)
"""


def test_study_versions_agree_with_the_reference_in_the_simulator():
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    ran = subprocess.run([sys.executable, "-W", "error", "-c", CODE], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split().count("softmax") == 3


def test_they_are_there_to_be_read_and_never_chosen():
    from scratchgen import kernels

    for op in ("softmax", "softmax_vjp", "layer_norm", "layer_norm_vjp", "matmul"):
        assert kernels.implementations(op, "cuda")["numba-cuda"].study
