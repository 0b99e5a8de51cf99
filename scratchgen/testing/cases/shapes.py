"""Cases of functions that are about shapes: broadcasting, reductions, products of matrices, einsum, indexing."""

from __future__ import annotations

import string
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ...kernels import Case
from .arrays import arrays, shapes


@st.composite
def elementwise(draw: st.DrawFn, /, count: int = 1, values: str = "normal", **how: Any) -> Case:
    """``count`` arrays of one shape."""
    shape = draw(shapes(max_dims=3))
    return Case("elementwise", tuple(draw(arrays(shape, values=values, **how)) for _ in range(count)))


@st.composite
def broadcast(draw: st.DrawFn, /, count: int = 2, values: str | tuple[str, ...] = "normal", **how: Any) -> Case:
    """``count`` arrays that broadcast against each other, 0-d and empty ones among them.

    ``values``: one kind for all, or one for each.
    """
    kinds = (values,) * count if isinstance(values, str) else values
    found = draw(hnp.mutually_broadcastable_shapes(num_shapes=count, max_dims=3, max_side=4, min_side=1))
    sides = [list(shape) for shape in found.input_shapes]
    if draw(st.integers(0, 9)) == 0:  # a side of 0 wherever the result's last side is drawn from
        for shape, side in zip(sides, found.input_shapes):
            if side and side[-1] == found.result_shape[-1] and side[-1] > 1:
                shape[-1] = 0
    return Case("broadcast", tuple(draw(arrays(tuple(s), values=k, **how)) for s, k in zip(sides, kinds)))


@st.composite
def gufunc(draw: st.DrawFn, /, signature: str, values: str = "normal", **how: Any) -> Case:
    """Arrays for a signature such as ``"(m,n),(n)->(m)"``, with broadcasting dimensions before."""
    found = draw(hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2, max_side=4))
    return Case(signature, tuple(draw(arrays(shape, values=values, **how)) for shape in found.input_shapes))


@st.composite
def reduction(
    draw: st.DrawFn,
    /,
    values: str = "normal",
    several: bool = True,
    required: bool = False,
    empty: bool = True,
    **how: Any,
) -> Case:
    """An array with ``dim`` (none, one, or ``several``) and ``keepdim``; ``required``: always one dim, not kept."""
    shape = draw(shapes(min_dims=1 if required else 0, max_dims=3, empty=empty))
    dims = st.integers(-len(shape), len(shape) - 1) if shape else st.nothing()
    attrs: dict[str, Any] = {}
    which = draw(st.sampled_from(["one"] if required else ["all", "one", "several"] if several else ["all", "one"]))
    if which == "one" and shape:
        attrs["dim"] = draw(dims)
    elif which == "several" and shape:
        normal = st.lists(st.integers(0, len(shape) - 1), min_size=1, unique=True)
        attrs["dim"] = tuple(d - len(shape) if draw(st.booleans()) else d for d in draw(normal))
    if "dim" in attrs and not required:
        attrs["keepdim"] = draw(st.booleans())
    return Case("reduction", (draw(arrays(shape, values=values, **how)),), attrs)


@st.composite
def along(draw: st.DrawFn, /, values: str = "normal", least: int = 1, **how: Any) -> Case:
    """An array that is not empty and one ``dim`` of it, of ``least`` elements: softmax, cumsum, sort, var."""
    shape = list(draw(shapes(min_dims=1, max_dims=3, empty=False)))
    dim = draw(st.integers(-len(shape), len(shape) - 1))
    shape[dim] = max(shape[dim], least)
    return Case("along", (draw(arrays(tuple(shape), values=values, **how)),), {"dim": dim})


@st.composite
def matmul(draw: st.DrawFn, /, **how: Any) -> Case:
    """Vectors, matrices and batches of them that can be multiplied."""
    signature = "(m?,n),(n,p?)->(m?,p?)"
    found = draw(hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2, max_side=4, min_side=1))
    a, b = found.input_shapes
    if draw(st.integers(0, 9)) == 0:  # sums of nothing
        a = (*a[:-1], 0)
        b = (0,) if len(b) == 1 else (*b[:-2], 0, b[-1])
    return Case("matmul", (draw(arrays(a, **how)), draw(arrays(b, **how))))


@st.composite
def linear(draw: st.DrawFn, /, **how: Any) -> Case:
    """Input, weight and perhaps bias of a linear layer."""
    inner, outer = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    shapes_of = [(*draw(shapes(max_dims=2, max_side=3)), inner), (outer, inner), (outer,)]
    return Case("linear", tuple(draw(arrays(shape, **how)) for shape in shapes_of[: draw(st.integers(2, 3))]))


@st.composite
def einsum(draw: st.DrawFn, /, **how: Any) -> Case:
    """An equation and its operands: products, traces, diagonals, sums, permuted results."""
    letters = string.ascii_lowercase[: draw(st.integers(1, 4))]
    sides = {letter: draw(st.integers(1, 3)) for letter in letters}
    terms = [draw(st.text(letters, max_size=3)) for _ in range(draw(st.integers(1, 3)))]
    used = sorted(set("".join(terms)))
    kept = draw(st.permutations(used))[: draw(st.integers(0, len(used)))]
    operands = [draw(arrays(tuple(sides[letter] for letter in term), **how)) for term in terms]
    return Case("einsum", (f"{','.join(terms)}->{''.join(kept)}", *operands))


@st.composite
def square(draw: st.DrawFn, /, symmetric: bool = False, right_sides: bool = False) -> Case:
    """Well-conditioned square matrices, in batches; ``right_sides``: and something to solve for."""
    n, batch = draw(st.integers(1, 4)), draw(shapes(max_dims=1, max_side=2, empty=False))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q, r = np.linalg.qr(rng.standard_normal((2, *batch, n, n)))[0]
    spectrum = 1 + 0.5 * rng.permutation(n) + rng.uniform(0, 0.1, n)
    made = [(q * spectrum) @ np.swapaxes(q if symmetric else r, -1, -2)]
    if right_sides:
        made.append(rng.standard_normal((*batch, n, draw(st.integers(1, 3)))))
    return Case("square", tuple(made))


@st.composite
def indexing(draw: st.DrawFn, /, values: str = "normal", **how: Any) -> Case:
    """An array and an ``index``: slices with steps, integers, new axes, ellipses, masks, integer arrays with repeats.

    For ``lambda x, index: x[index]``. At most one integer array or mask; several broadcast together have a case of
    their own, ``points``.
    """
    shape = draw(shapes(min_dims=1, max_dims=3, max_side=4, empty=False))
    index: list[Any] = []
    advanced = draw(st.integers(-1, len(shape) - 1))
    for dim, n in enumerate(shape[: draw(st.integers(0, len(shape)))]):
        if dim == advanced:
            kind = draw(st.sampled_from(["list", "array", "mask"]))
            if kind == "mask":
                index.append(np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))))
            else:
                places = draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=4))
                index.append(places if kind == "list" else np.array(places))
        elif draw(st.booleans()):
            index.append(draw(st.integers(-n, n - 1)))
        else:
            start, stop = (draw(st.none() | st.integers(-n - 1, n + 1)) for _ in range(2))
            index.append(slice(start, stop, draw(st.sampled_from([None, 1, 2, 3]))))
        if draw(st.integers(0, 7)) == 0:
            index.append(None)
    if draw(st.integers(0, 5)) == 0:
        index.append(Ellipsis)
    return Case("indexing", (draw(arrays(shape, values=values, **how)),), {"index": tuple(index)})


@st.composite
def gather(draw: st.DrawFn, /, source: bool = False, **how: Any) -> Case:
    """(input, dim, index), with repeats in the index; ``source``: and the values to scatter there."""
    shape = draw(shapes(min_dims=1, max_dims=3, max_side=4, empty=False))
    dim = draw(st.integers(0, len(shape) - 1))
    size = [draw(st.integers(1, n + (2 if d == dim else 0))) for d, n in enumerate(shape)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    index = rng.integers(shape[dim], size=size)
    made = (draw(arrays(shape, **how)), dim, index)
    return Case("gather", (*made, draw(arrays(tuple(size), **how))) if source else made)


@st.composite
def rows(draw: st.DrawFn, /, **how: Any) -> Case:
    """(index, weight) for an embedding: integers of any shape, with repeats, and a table of rows."""
    count, width = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    index = np.asarray(rng.integers(count, size=draw(shapes(max_dims=2, max_side=4))))
    return Case("rows", (index, draw(arrays((count, width), **how))))
