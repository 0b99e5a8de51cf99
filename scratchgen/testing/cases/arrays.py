"""Arrays to test on: every shape, every way to lie in memory, and values that bring out what goes wrong.

Strategies of hypothesis. Shapes, layouts and options shrink; the values come from one drawn seed, so that a failing
case of a hundred numbers does not take a thousand calls to make small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

LAYOUTS = ("c", "fortran", "transposed", "sliced", "reversed", "broadcast", "offset")
VALUES = ("normal", "integer", "spaced", "positive", "unit", "tie", "edge")
FLOATS = ("f8", "f4")


def shapes(min_dims: int = 0, max_dims: int = 4, max_side: int = 5, empty: bool = True) -> st.SearchStrategy[tuple]:
    """Shapes, 0-d and (unless ``empty`` is false) with sides of 0 included."""
    return hnp.array_shapes(min_dims=min_dims, max_dims=max_dims, min_side=0 if empty else 1, max_side=max_side)


@st.composite
def arrays(
    draw: st.DrawFn,
    /,
    shape: Any = None,
    dtype: str | Sequence[str] = "f8",
    layout: str | Sequence[str] = "any",
    values: str | Sequence[str] = "normal",
) -> np.ndarray:
    """One array. ``shape``: a shape, a strategy, or None for any.

    ``layout``: of LAYOUTS, several of them, or ``any``. ``values``: of VALUES, or several: normal numbers; small
    ``integer`` ones; ``spaced`` numbers, distinct and away from each other and from 0, so that no kink is near;
    ``positive``; in ``unit`` from 0 to 1; numbers with a ``tie``; and the ``edge`` of the number type, where the
    smallest, the largest, infinities and NaN are.
    """
    if shape is None:
        shape = draw(shapes())
    elif isinstance(shape, st.SearchStrategy):
        shape = draw(shape)
    code = draw(st.sampled_from([dtype] if isinstance(dtype, str) else list(dtype)))
    kind = draw(st.sampled_from([values] if isinstance(values, str) else list(values)))
    names = LAYOUTS if layout == "any" else (layout,) if isinstance(layout, str) else tuple(layout)
    if kind == "spaced":  # repeated numbers are not apart
        names = tuple(name for name in names if name != "broadcast")
    how = draw(st.sampled_from(names))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return laid_out(numbers(tuple(shape), kind, rng).astype(code), how, rng)


def numbers(shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Values of one of the kinds that ``arrays`` describes, in float64."""
    size = math.prod(shape)
    if kind == "normal":
        found = rng.standard_normal(size)
    elif kind == "integer":
        found = rng.integers(-4, 5, size).astype(float)
    elif kind == "spaced":
        found = (0.35 + 0.1 * rng.permutation(size)) * rng.choice([-1.0, 1.0], size)
    elif kind == "positive":
        found = rng.uniform(0.3, 3.0, size)
    elif kind == "unit":
        found = rng.uniform(0.05, 0.95, size)
    elif kind == "tie":
        found = rng.choice([-1.5, 0.0, 0.5, 2.0], size)
    elif kind == "edge":
        tiny, huge = np.finfo(np.float32).tiny, np.finfo(np.float32).max
        found = rng.choice(np.array([0.0, -0.0, tiny, -tiny / 2, huge, -huge, np.inf, -np.inf, np.nan, 1.0]), size)
    else:
        raise ValueError(f"unknown values={kind!r}; expected of {', '.join(VALUES)}")
    return found.reshape(shape)


def laid_out(x: np.ndarray, layout: str, rng: np.random.Generator) -> np.ndarray:
    """The same numbers in another memory layout; ``broadcast`` repeats the first along one dimension."""
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout={layout!r}; expected any or of {', '.join(LAYOUTS)}")
    if layout == "c" or x.ndim == 0:
        return x
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "transposed":
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if layout == "broadcast":
        dim = int(rng.integers(x.ndim))
        return np.broadcast_to(np.take(x, [0], dim), x.shape) if x.shape[dim] else x
    if layout == "offset":
        memory = np.empty(x.size + 3, x.dtype)
        view = memory[3:].reshape(x.shape)
    else:
        step = 2 if layout == "sliced" else -1
        view = np.empty([abs(step) * n for n in x.shape], x.dtype)[(slice(None, None, step),) * x.ndim]
    view[...] = x
    return view
