"""Cases of convolution, pooling and interpolation: combinations of options that are valid by construction."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ...kernels import Case
from .arrays import arrays


def _one_or_all(draw: st.DrawFn, /, values: list[int]) -> Any:
    """An option for each dimension: as one number where they agree and the draw says so, else as a tuple."""
    return values[0] if len(set(values)) == 1 and draw(st.booleans()) else tuple(values)


@st.composite
def conv(
    draw: st.DrawFn, /, dims: int = 2, max_side: int = 7, transposed: bool = False, bias: bool | None = None, **how: Any
) -> Case:
    """Input, weight and perhaps bias, with ``stride``, ``padding``, ``dilation``, ``groups`` that fit them.

    Sizes are solved for, not rejected: a window of span d (k - 1) + 1 needs a side of span - 2 p at least; a
    transposed one must leave an output of 1 at least. Without ``bias`` being said it is drawn.
    """
    groups = draw(st.integers(1, 3))
    inner, outer, batch = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(0, 2))
    sides, kernel, stride, padding, dilation, extra = lists = tuple[list[int], ...]([] for _ in range(6))
    for _ in range(dims):
        k, s, d = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
        span = d * (k - 1) + 1
        more = 0
        if transposed:
            more = draw(st.integers(0, max(s, d) - 1))
            n = draw(st.integers(1, max(1, max_side // s)))
            p = draw(st.integers(0, min(2, ((n - 1) * s + span + more - 1) // 2)))
        else:
            p = draw(st.integers(0, 2))
            least = max(1, span - 2 * p)
            n = draw(st.integers(least, max(least, max_side)))
        for values, value in zip(lists, (n, k, s, p, d, more)):
            values.append(value)
    x_shape = (*((batch,) if batch else ()), inner * groups, *sides)
    w_shape = (inner * groups, outer, *kernel) if transposed else (outer * groups, inner, *kernel)
    given = [draw(arrays(x_shape, **how)), draw(arrays(w_shape, **how))]
    if draw(st.booleans()) if bias is None else bias:
        given.append(draw(arrays((outer * groups,), **how)))
    attrs = {
        "stride": _one_or_all(draw, stride),
        "padding": _one_or_all(draw, padding),
        "dilation": _one_or_all(draw, dilation),
        "groups": groups,
    }
    if transposed:
        attrs["output_padding"] = _one_or_all(draw, extra)
    return Case("conv", tuple(given), attrs)


def conv1d(**options: Any) -> st.SearchStrategy[Case]:
    """``conv`` of signals."""
    return conv(1, **options)


def conv2d(**options: Any) -> st.SearchStrategy[Case]:
    """``conv`` of images."""
    return conv(2, **options)


@st.composite
def pool(
    draw: st.DrawFn, /, dims: int = 2, kind: str = "max", max_side: int = 6, values: str = "spaced", **how: Any
) -> Case:
    """An input with ``kernel_size``, ``stride``, ``padding`` (half a window at most) and what else pools take.

    ``kind``: ``max`` adds ``dilation``, ``avg`` adds ``count_include_pad``; both have ``ceil_mode``.
    """
    sides, kernel, stride, padding, dilation = lists = tuple[list[int], ...]([] for _ in range(5))
    for _ in range(dims):
        k, s = draw(st.integers(1, 3)), draw(st.integers(1, 3))
        d = draw(st.integers(1, 2)) if kind == "max" else 1
        p = draw(st.integers(0, k // 2))
        least = max(d if p else 1, d * (k - 1) + 1 - 2 * p)  # no window lies in the padding altogether
        n = draw(st.integers(least, max(least, max_side)))
        for numbers, number in zip(lists, (n, k, s, p, d)):
            numbers.append(number)
    attrs: dict[str, Any] = {
        "kernel_size": _one_or_all(draw, kernel),
        "stride": _one_or_all(draw, stride),
        "padding": _one_or_all(draw, padding),
        "ceil_mode": draw(st.booleans()),
    }
    if kind == "max":
        attrs["dilation"] = _one_or_all(draw, dilation)
    else:
        attrs["count_include_pad"] = draw(st.booleans())
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    return Case("pool", (draw(arrays((*batch, draw(st.integers(1, 2)), *sides), values=values, **how)),), attrs)


def pool2d(**options: Any) -> st.SearchStrategy[Case]:
    """``pool`` of images."""
    return pool(2, **options)


@st.composite
def resize(draw: st.DrawFn, /, dims: int = 2, max_side: int = 5, **how: Any) -> Case:
    """An input with the ``size`` or ``scale_factor``, ``mode`` and corners of ``interpolate``."""
    smooth = {1: ["linear"], 2: ["bilinear", "bicubic"]}[dims]
    mode = draw(st.sampled_from(["nearest", "nearest-exact", "area", *smooth]))
    sides = [draw(st.integers(1, max_side)) for _ in range(dims)]
    attrs: dict[str, Any] = {"mode": mode}
    if draw(st.booleans()):
        attrs["size"] = tuple(draw(st.integers(1, max_side + 2)) for _ in range(dims))
    else:
        attrs["scale_factor"] = tuple(draw(st.sampled_from([1.0, 1.5, 2.0, 2.3])) for _ in range(dims))
    if mode in smooth:
        attrs["align_corners"] = draw(st.booleans())
        if dims == 2:
            attrs["antialias"] = draw(st.booleans())
    return Case("resize", (draw(arrays((draw(st.integers(1, 2)), draw(st.integers(1, 2)), *sides), **how)),), attrs)
