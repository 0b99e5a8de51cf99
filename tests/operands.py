"""Arrays that tests of CUDA kernels multiply and attend to, and how far off a result is."""

from __future__ import annotations

from typing import Any

import numpy as np


def operand(rng: np.random.Generator, rows: int, columns: int, turned: bool, dtype: Any) -> np.ndarray:
    x = rng.standard_normal((columns, rows) if turned else (rows, columns)).astype(dtype)
    return x.T if turned else x


def error_of(got: np.ndarray, truth: np.ndarray) -> float:
    assert got.shape == truth.shape
    return float(np.abs(got.astype(np.float64) - truth).max() / np.abs(truth).max())


def mask_of(kind: str | None, rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    """Numbers for each pair; bools, with a query that may attend to nothing; the keys beyond a sequence's length."""
    if kind == "numbers":
        return rng.standard_normal(shape).astype(dtype)
    if kind == "bools":
        mask = rng.random(shape) < 0.6
        mask[0, 0, 3] = False
        return mask
    lengths = np.array([shape[-1], shape[-1] - 3])[:, None, None, None]
    return None if kind is None else np.broadcast_to(np.arange(shape[-1]) < lengths, shape)
