"""Products of matrices in CUDA C++: the ladder of matmul.cu, and what of it runs.

float32 is multiplied on the ordinary units, unless ``set_matmul_precision("tf32")`` has been said: then ``cuda-tf32``
is chosen. 16-bit arrays are multiplied on tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..arrays import array_module
from ..launch import TYPES, Module, Out, begins_at_multiples_of, blocks_for
from ..precision import get_matmul_precision
from ..registry import kernel
from .reference import linear_activation_cost, linear_cost, linear_vjp_cost, matmul_cost, told_by_output

SMALL, SIDE, DEPTH = 16, 4, 16  # of versions 3 and 4
TILES = (64, 128)  # sides of a block's results in the later versions
PANEL_BYTES = 64
BLOCKS = 264  # two for each multiprocessor of the largest GPU: fewer tiles than that leave some idle
ACTIVATIONS = ("none", "relu", "silu", "gelu", "gelu_tanh")  # in the order of finish.cuh


class Way(NamedTuple):
    """How panels are multiplied: on tensor cores or not, how many are under way, swizzled or not."""

    tensor: bool
    stages: int
    swizzled: bool = True

    def kernel(self, t: str, tile: int, a_deep: bool, b_deep: bool) -> str:
        flags = (f"{flag}".lower() for flag in (a_deep, b_deep, self.tensor, self.swizzled))
        return f"matmul_pipelined<{t}, {tile}, {self.stages}, {', '.join(flags)}>"


PLAIN, TENSOR = Way(False, 3), Way(True, 4)
LAYOUTS = ((True, True), (True, False), (False, False))  # whether a and b lie along the depth
STEPS = {"cuda-5-warps": Way(False, 1, False), "cuda-7-tensor": Way(True, 1, False), "cuda-8-swizzled": Way(True, 1)}

MODULE = Module(
    "matmul/matmul.cu",
    *(
        name
        for t in TYPES.values()
        for name in (
            f"matmul_naive<{t}, false>",
            f"matmul_naive<{t}, true>",
            f"matmul_tiled<{t}, {SMALL}>",
            f"matmul_registers<{t}, {TILES[0]}, {DEPTH}, {SIDE}>",
            f"matmul_parts<{t}>",
            f"column_sums<{t}, {t}>",
            *(way.kernel(t, TILES[0], True, False) for way in STEPS.values() if way.tensor == (t != "float")),
            *(
                way.kernel(t, tile, *layout)
                for way in ((PLAIN, TENSOR) if t == "float" else (TENSOR,))
                for tile in TILES
                for layout in LAYOUTS
            ),
        )
    ),
)

STRIDES = np.dtype([("batch", np.int64), ("row", np.int64), ("column", np.int64)])
PROBLEM = np.dtype(
    [(name, np.int64) for name in ("a_batch", "a_pitch", "b_batch", "b_pitch")]
    + [(name, np.int32) for name in ("m", "n", "k", "panels", "a_aligned", "b_aligned", "activation", "wide")]
)


def operands(a: Any, b: Any) -> tuple[tuple[int, ...], Any, Any]:
    """The leading dimensions of the product, and both with these or with a single matrix."""
    lead, xp = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), array_module(a)
    count = prod(lead)
    return (
        lead, *(x if prod(x.shape[:-2]) in (1, count) else xp.broadcast_to(x, lead + x.shape[-2:]) for x in (a, b))
    )  # fmt: skip


def _lies_by_columns(x: Any) -> bool:
    return not x.flags.c_contiguous and x.swapaxes(-1, -2).flags.c_contiguous


def memory(x: Any) -> tuple[Any, bool]:
    """``x`` [..., rows, columns] as contiguous memory, transposed if it lies so; and whether it is."""
    return (x.swapaxes(-1, -2), True) if _lies_by_columns(x) else (array_module(x).ascontiguousarray(x), False)


def _strides(x: Any, turned: bool) -> Any:
    """Of memory as ``memory`` gives it, in elements, for ``Matrix`` in matmul.cu."""
    rows, columns = x.shape[-2:]
    row, column = (1, columns) if turned else (columns, 1)
    return np.array((rows * columns if prod(x.shape[:-2]) > 1 else 0, row, column), STRIDES)[()]


def _simple(version: str, a: Any, b: Any) -> Any:
    """The first four versions."""
    lead, a, b = operands(a, b)
    (left, a_turned), (right, b_turned) = memory(a), memory(b)
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    t = TYPES[a.dtype.name]
    name, side, threads = {
        "cuda-1-naive": (f"matmul_naive<{t}, false>", 16, 256),
        "cuda-2-coalesced": (f"matmul_naive<{t}, true>", 16, 256),
        "cuda-3-tiled": (f"matmul_tiled<{t}, {SMALL}>", SMALL, SMALL * SMALL),
        "cuda-4-registers": (f"matmul_registers<{t}, {TILES[0]}, {DEPTH}, {SIDE}>", TILES[0], (TILES[0] // SIDE) ** 2),
    }[version]
    out = array_module(a).empty((*lead, m, n), a.dtype)
    grid = -(-n // side), -(-m // side), prod(lead)
    strides = _strides(left, a_turned), _strides(right, b_turned)
    MODULE.launch(name, grid, threads, left, right, None, Out(out), *map(np.int32, (m, n, k)), *strides)
    return out


def aligned(*arrays: Any) -> bool:
    """Whether every row of every array, None left out, begins at a multiple of 16 bytes."""
    return all(
        x is None or (begins_at_multiples_of(16, x) and x.shape[-1] * x.itemsize % 16 == 0) for x in arrays
    )  # fmt: skip


def tile_for(m: int, n: int, batch: int) -> int:
    """The side of a block's part of the results: large ones load less, small ones keep more multiprocessors busy."""
    small, large = TILES
    return large if -(-m // large) * -(-n // large) * batch >= BLOCKS // 2 else small


def splits_for(blocks: int, panels: int, enough: int = BLOCKS) -> int:
    """Into how many parts the depth is divided where tiles alone are fewer than ``enough``; of 8 panels at least."""
    return max(1, min(panels // 8, enough // max(blocks, 1)))


def product(
    a: Any,
    b: Any,
    bias: Any = None,
    residual: Any = None,
    *,
    activation: str = "none",
    keep: bool = False,
    way: Way,
    tile: int | None = None,
    splits: int | None = None,
) -> tuple[Any, Any]:
    """``activation(a b + bias) + residual``; and, if ``keep``, what the activation was given, else None.

    ``a`` [..., m, k], ``b`` [..., k, n], leading dimensions broadcast; ``bias`` [n]; ``residual`` as the result.
    """
    xp = array_module(a)
    lead, a, b = operands(a, b)
    (left, a_turned), (right, b_turned) = memory(a), memory(b)
    if a_turned and b_turned:  # no kernel for that: two of three layouts have one operand by rows
        right, b_turned = xp.ascontiguousarray(b), False
    if not way.swizzled or way.stages == 1:  # study versions know one layout
        left, right, a_turned, b_turned = xp.ascontiguousarray(a), xp.ascontiguousarray(b), False, False
    m, k, n, batch, t = a.shape[-2], a.shape[-1], b.shape[-1], prod(lead), TYPES[a.dtype.name]
    bias, residual = (None if x is None else xp.ascontiguousarray(x) for x in (bias, residual))
    out = xp.empty((*lead, m, n), a.dtype)
    before = xp.empty_like(out) if keep else None

    tile = tile_for(m, n, batch) if tile is None else tile
    blocks, panels = -(-m // tile) * -(-n // tile), -(-k * a.itemsize // PANEL_BYTES)
    splits = splits_for(blocks * batch, panels) if splits is None else splits
    each = -(-panels // splits) if panels else 0
    splits = -(-panels // each) if each else 1
    parts = xp.empty((splits, batch, m, n), np.float32) if splits > 1 else None

    def batch_of(x: Any) -> int:
        return x.shape[-2] * x.shape[-1] if prod(x.shape[:-2]) > 1 else 0

    wide = aligned(out, bias, residual)
    kind, finish = np.int32(ACTIVATIONS.index(activation)), np.int32(wide)
    problem = np.array(
        (batch_of(left), left.shape[-1], batch_of(right), right.shape[-1],
         m, n, k, each, aligned(left), aligned(right), kind, finish), PROBLEM,
    )[()]  # fmt: skip
    name, shared = way.kernel(t, tile, not a_turned, b_turned), way.stages * 2 * tile * PANEL_BYTES
    grid, threads = (blocks, splits, batch), 256 if tile == TILES[1] else 128
    end = (bias, residual, Out(out), Out(before))
    if parts is None:
        MODULE.launch(name, grid, threads, left, right, *end, None, problem, shared=shared)
    else:
        MODULE.launch(name, grid, threads, left, right, None, None, None, None, Out(parts), problem, shared=shared)
        numbers = np.int32(splits), np.int64(out.size), np.int32(n), kind, finish
        MODULE.launch(f"matmul_parts<{t}>", *blocks_for(out.size), parts, *end, *numbers)
    return out, before


def column_sums(g: Any) -> Any:
    """The sums of the columns of a contiguous matrix."""
    out = array_module(g).empty(g.shape[1], g.dtype)
    grid = -(-g.shape[1] // 32)
    t = TYPES[g.dtype.name]
    MODULE.launch(f"column_sums<{t}, {t}>", grid, (32, 8), g, Out(out), *map(np.int32, g.shape))
    return out


def _rows(x: Any) -> Any:
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def way_for(dtype: Any, tf32: bool = False) -> Way:
    """float32 on the ordinary units unless TF32 is asked for, 16-bit numbers on tensor cores."""
    return TENSOR if tf32 or dtype.itemsize == 2 else PLAIN


def _fits(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) < 1 << 16  # of grid.z


_on_gpu: dict[str, Any] = {"device": "cuda emu"}


def chosen(*_: Any, **__: Any) -> bool:
    """Whether TF32 has been asked for."""
    return get_matmul_precision() == "tf32"


def _study(version: str, dtypes: str, multiply: Callable[[Any, Any], Any]) -> None:
    kernel("matmul", impl=version, cost=matmul_cost, when=_fits, study=True, dtypes=dtypes, **_on_gpu)(multiply)


def _simply(version: str) -> Callable[[Any, Any], Any]:
    return lambda a, b: _simple(version, a, b)


def _by_panels(way: Way) -> Callable[[Any, Any], Any]:
    return lambda a, b: product(a, b, way=way, tile=TILES[0])[0]


for _name in ("cuda-1-naive", "cuda-2-coalesced", "cuda-3-tiled", "cuda-4-registers"):
    _study(_name, "f4 f2", _simply(_name))
for _name, _way in STEPS.items():
    _study(_name, "f2" if _way.tensor else "f4", _by_panels(_way))


def register(impl: str, multiply: Callable[..., tuple[Any, Any]], **options: Any) -> None:
    """The ops by a function like ``product``, under a name. ``options``: of ``kernel``."""

    def attach(op: str, **more: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def of_its_sources(fn: Callable[..., Any]) -> Callable[..., Any]:
            fn.__module__ = multiply.__module__  # whose MODULE says what the kernel has passed
            return kernel(op, impl=impl, **more, **_on_gpu)(fn)

        return of_its_sources

    when = options.pop("when", None)

    def fits(a: Any, b: Any) -> bool:
        return _fits(a, b) and (when is None or when(a, b))

    @attach("matmul", cost=matmul_cost, when=fits, **options)
    def matmul(a: Any, b: Any) -> Any:
        return multiply(a, b)[0]

    options["when"] = when

    @attach("linear", cost=linear_cost, **options)
    def linear(input: Any, weight: Any, bias: Any = None) -> Any:
        """``input`` [..., k] times the transpose of ``weight`` [n, k], plus ``bias`` [n]."""
        y, _ = multiply(_rows(input), weight.T, bias)
        return y.reshape(*input.shape[:-1], weight.shape[0])

    @attach("linear_vjp", cost=linear_vjp_cost, **options)
    def linear_vjp(g: Any, y: Any, input: Any, weight: Any, bias: Any = None, *, needs: tuple[bool, ...]) -> tuple:
        """Gradients for input, weight and bias."""
        g_rows = array_module(g).ascontiguousarray(_rows(g))
        return (
            multiply(g_rows, weight)[0].reshape(input.shape) if needs[0] else None,
            multiply(g_rows.T, _rows(input))[0] if needs[1] else None,
            column_sums(g_rows) if needs[2] else None,
        )

    @attach("linear_activation", cost=linear_activation_cost, **options)
    def linear_activation(
        input: Any, weight: Any, bias: Any = None, residual: Any = None, *, activation: str
    ) -> tuple[Any, Any]:
        """``activation(linear(input, weight, bias)) + residual``, and what its gradient is computed from."""
        told = told_by_output(activation, residual)
        more = residual if residual is None else _rows(residual)
        y, z = multiply(_rows(input), weight.T, bias, more, activation=activation, keep=not told)
        shape = (*input.shape[:-1], weight.shape[0])
        return y.reshape(shape), (y if told else z).reshape(shape)


def _multiply(a: Any, b: Any, *more: Any, **how: Any) -> tuple[Any, Any]:
    return product(a, b, *more, **how, way=way_for(a.dtype))


def _multiply_tf32(a: Any, b: Any, *more: Any, **how: Any) -> tuple[Any, Any]:
    return product(a, b, *more, **how, way=TENSOR)


register("cuda", _multiply, dtypes="f4 f2")
register("cuda-tf32", _multiply_tf32, when=chosen, dtypes="f4", priority=20, looseness=500.0)


def ladder() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The steps at 128 x 128 x 128, for ``kernels.model``: what is for tensor cores in float16, the rest in float32."""
    from . import cuda_hopper  # which imports this module

    wide = np.random.default_rng(0).standard_normal((128, 128)).astype(np.float32)
    narrow = wide.astype(np.float16)
    for name in ("cuda-1-naive", "cuda-2-coalesced", "cuda-3-tiled", "cuda-4-registers"):
        yield name, lambda name=name: _simple(name, wide, wide)  # type: ignore[misc]
    large, small = TILES[1], TILES[0]
    for name, x, way, tile in (
        ("cuda-5-warps", wide, STEPS["cuda-5-warps"], small),
        ("cuda (float32)", wide, PLAIN, large),
        ("cuda-7-tensor", narrow, STEPS["cuda-7-tensor"], small),
        ("cuda-8-swizzled", narrow, STEPS["cuda-8-swizzled"], small),
        ("cuda (float16)", narrow, TENSOR, large),
        ("cuda-tf32", wide, TENSOR, large),
    ):
        yield name, lambda x=x, way=way, tile=tile: product(x, x, way=way, tile=tile, splits=1)  # type: ignore[misc]
    yield "cuda (float16), 4 parts", lambda: product(narrow, narrow, way=TENSOR, tile=large, splits=4)
    for name, x in (("cuda-wgmma (float16)", narrow), ("cuda-wgmma-tf32", wide)):
        yield name, lambda x=x: cuda_hopper.product(x, x, splits=1)  # type: ignore[misc]
