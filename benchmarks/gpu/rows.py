"""The table of kernels that are timed: what they are given, and the same in other libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scratchgen import kernels

from .board import Board

Shape = tuple[int, ...]


class Draws:
    """Normal numbers on the device, drawn there. ``big`` shapes are for a GPU, ``small`` ones for the emulator."""

    def __init__(self, board: Board, dtype: str) -> None:
        self.board, self.dtype, self.next = board, np.dtype(dtype), 0

    def pick(self, big: Any, small: Any) -> Any:
        """One of the two."""
        return small if self.board.small else big

    def normal(self, *shape: int) -> Any:
        """An array of this shape."""
        key = self.board.array(np.array([7], np.uint64))
        kernel = kernels.implementations("philox_normal", self.board.device)["cuda"]
        count = int(np.prod(shape))
        self.next += count
        return kernel.fn(key, counter=self.next, count=count, dtype=self.dtype).reshape(shape)

    def image(self, n: int, c: int, h: int, w: int) -> Any:
        """(n, c, h, w), channels last in memory."""
        return self.normal(n, h, w, c).transpose(0, 3, 1, 2)

    def integers(self, high: int, *shape: int) -> Any:
        """Whole numbers below ``high``."""
        return self.board.array(np.random.default_rng(self.next).integers(high, size=shape))


Made = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Beside:
    """A row. ``make``: arrays and attributes of the kernel. ``peers``: ``f(module, *arrays)`` of torch, cupy and jax.

    ``setup``: a peer's function returns the call to time. ``columns``: so many arguments are lists of arrays.
    ``memory``: the bar is a copy's speed. ``random``: results differ.
    """

    name: str
    op: str
    make: Callable[[Draws], Made]
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    dtypes: tuple[str, ...] = ("float32", "float16")
    compiled: bool = False
    setup: bool = False
    columns: int = 0
    memory: bool = True
    random: bool = False
    tf32: bool = False

    def kernel(self, device: str, arrays: tuple, attrs: dict[str, Any]) -> kernels.Kernel:
        """The kernel that runs."""
        if self.columns:  # chosen by one of the arrays
            first = arrays[0][0] if self.columns > 1 else arrays[0]
            return kernels.select(self.op, device, (first,), {})
        return kernels.select(self.op, device, arrays, attrs)

    def arguments(self, arrays: tuple) -> tuple:
        """What the kernel and its cost are given."""
        return (list(arrays),) if self.columns == 1 else arrays


def _statistics(x: Any) -> tuple[Any, Any]:
    mean = x.astype(np.float32).mean(-1, keepdims=True)
    return mean, 1 / np.sqrt(x.astype(np.float32).var(-1, keepdims=True) + EPS)


EPS = 1e-5


def _softmax(name: str, big: Shape, small: Shape) -> list[Beside]:
    return [
        Beside(
            f"softmax {name}", "softmax", lambda d: ((d.normal(*d.pick(big, small)),), {"dim": 1}),
            {"torch": lambda T, x: T.softmax(x, 1), "jax": lambda J, x: J.nn.softmax(x, 1)}, compiled=True,
        ),
        Beside(
            f"softmax backward {name}", "softmax_vjp",
            lambda d: ((d.normal(*d.pick(big, small)), abs(d.normal(*d.pick(big, small))), None), {"dim": 1}),
            {"torch": lambda T, g, y, _: T.ops.aten._softmax_backward_data(g, y, 1, g.dtype)},
        ),
    ]  # fmt: skip


def _layer_norm(name: str, big: Shape, small: Shape) -> list[Beside]:
    def forward(d: Draws) -> Made:
        rows, width = d.pick(big, small)
        return (d.normal(rows, width), d.normal(width), d.normal(width)), {"normalized_shape": (width,), "eps": EPS}

    def backward(d: Draws) -> Made:
        (x, w, b), attrs = forward(d)
        return (d.normal(*x.shape), None, x, w, b, *_statistics(x)), attrs

    def residual(d: Draws) -> Made:
        (x, w, b), attrs = forward(d)
        return (x, d.normal(*x.shape), w, b), attrs

    def torch_backward(T: Any, g: Any, _: Any, x: Any, w: Any, b: Any, mean: Any, rstd: Any) -> Any:
        return T.ops.aten.native_layer_norm_backward(g, x, w.shape, mean, rstd, w, b, [True] * 3)

    return [
        Beside(
            f"layer_norm {name}", "layer_norm", forward,
            {"torch": lambda T, x, w, b: T.nn.functional.layer_norm(x, w.shape, w, b, EPS)}, compiled=True,
        ),
        Beside(f"layer_norm backward {name}", "layer_norm_vjp", backward, {"torch": torch_backward}),
        Beside(
            f"layer_norm of a sum {name}", "layer_norm_residual", residual,
            {"torch": lambda T, x, r, w, b: T.nn.functional.layer_norm(x + r, w.shape, w, b, EPS)}, compiled=True,
        ),
    ]  # fmt: skip


def _images(d: Draws, channels: int) -> tuple[Any, Any, Any]:
    n, side = d.pick((64, 64), (2, 6))
    return d.image(n, channels, side, side), d.normal(channels), d.normal(channels)


def _group_norm_backward(d: Draws) -> Made:
    x, w, b = _images(d, 128)
    wide = x.astype(np.float32).reshape(len(x), 32, -1)
    mean = wide.mean(-1).reshape(len(x), 32, 1, 1, 1)
    rstd = (1 / np.sqrt(wide.var(-1) + EPS)).reshape(mean.shape)
    return (d.image(*x.shape), None, x, w, b, mean, rstd), {"num_groups": 32, "eps": EPS}


def _torch_group_norm_backward(T: Any, g: Any, _: Any, x: Any, w: Any, b: Any, mean: Any, rstd: Any) -> Any:
    n, c, h, width = x.shape
    flat = (s.reshape(n, 32).to(x.dtype) for s in (mean, rstd))
    return T.ops.aten.native_group_norm_backward(g, x, *flat, w, n, c, h * width, 32, [True] * 3)


def _adamw(d: Draws) -> Made:
    sizes = d.pick([1_000_000] * 100, [100] * 10)
    columns = tuple([abs(d.normal(n)) for n in sizes] for _ in range(4))
    numbers = {"step": 10, "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2, "decoupled": True}
    return columns, numbers


def _torch_adamw(T: Any, params: Any, grads: Any, first: Any, second: Any) -> Callable[[], Any]:
    steps = [T.tensor(10.0, device=p.device) for p in params]
    numbers = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "weight_decay": 1e-2, "eps": 1e-8}
    return lambda: T._fused_adamw_(
        params, grads, first, second, [], steps, amsgrad=False, maximize=False, **numbers
    )  # fmt: skip


def _matmul(tf32: bool, *dtypes: str) -> Beside:
    def make(d: Draws) -> Made:
        n = d.pick(4096, 32)
        return (d.normal(n, n), d.normal(n, n)), {}

    def torch(T: Any, a: Any, b: Any) -> Any:
        T.backends.cuda.matmul.allow_tf32 = tf32
        return a @ b

    return Beside(
        f"matmul 4096{' TF32' * tf32}", "matmul", make, {"torch": torch, "cupy": lambda X, a, b: a @ b}, dtypes,
        memory=False, tf32=tf32,
    )  # fmt: skip


def _conv(d: Draws) -> Made:
    n, c, side = d.pick((64, 128, 32), (1, 8, 6))
    how = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    return (d.image(n, c, side, side), d.normal(c, c, 3, 3), d.normal(c)), {"size": (side, side), **how}


def _attention(d: Draws) -> Made:
    shape = d.pick((8, 16, 2048, 64), (1, 2, 16, 8))
    return (*(d.normal(*shape) for _ in range(3)), None), {"is_causal": True, "scale": shape[-1] ** -0.5}


def _rows(d: Draws) -> Any:
    return d.normal(*d.pick((65536, 1024), (6, 40)))


def _one(op: str, name: str, **attrs: Any) -> Beside:
    torch = {"gelu": lambda T, x: T.nn.functional.gelu(x), "silu": lambda T, x: T.nn.functional.silu(x)}[op]
    return Beside(name, op, lambda d: ((_rows(d),), attrs), {"torch": torch}, compiled=True)


def _embedding(d: Draws) -> Made:
    words, width, n = d.pick((50_000, 1024, 65_536), (20, 8, 12))
    return (d.normal(words, width), d.integers(words, n)), {}


def _cross_entropy(d: Draws) -> Made:
    rows, classes = d.pick((16384, 8192), (5, 40))
    attrs = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
    return (d.normal(rows, classes), d.integers(classes, rows), None), attrs


def _dropout(d: Draws) -> Made:
    key = d.board.array(np.array([7], np.uint64))
    return (_rows(d),), {"key": key, "counter": 0, "p": 0.1}


def _uniform(d: Draws) -> Made:
    key = d.board.array(np.array([7], np.uint64))
    return (key,), {"counter": 0, "count": d.pick(1 << 26, 100), "dtype": d.dtype}


ROWS: list[Beside] = [
    *_softmax("(65536, 1024)", (65536, 1024), (6, 40)),
    *_softmax("(512, 131072), long rows", (512, 131_072), (2, 9000)),
    Beside(
        "cross_entropy (16384, 8192)", "cross_entropy", _cross_entropy,
        {"torch": lambda T, x, target, _: T.nn.functional.cross_entropy(x, target)},
    ),
    *_layer_norm("(65536, 1024)", (65536, 1024), (6, 40)),
    *_layer_norm("(8192, 8192)", (8192, 8192), (3, 520)),
    Beside(
        "rms_norm (65536, 1024)", "rms_norm",
        lambda d: ((x := _rows(d), d.normal(x.shape[1])), {"normalized_shape": x.shape[1:], "eps": EPS}),
        {"torch": lambda T, x, w: T.nn.functional.rms_norm(x, w.shape, w, EPS)},
    ),
    Beside(
        "group_norm + silu N64 128ch 64x64", "group_norm_silu",
        lambda d: (_images(d, 128), {"num_groups": 32, "eps": EPS}),
        {"torch": lambda T, x, w, b: T.nn.functional.silu(T.nn.functional.group_norm(x, 32, w, b, EPS))}, compiled=True,
    ),
    Beside(
        "group_norm backward N64 128ch 64x64", "group_norm_vjp", _group_norm_backward,
        {"torch": _torch_group_norm_backward},
    ),
    Beside(
        "batch_norm + relu N64 64ch 64x64", "batch_norm_relu", lambda d: (_images(d, 64), {"eps": EPS, "slope": 0.0}),
        {"torch": lambda T, x, w, b: T.relu(T.nn.functional.batch_norm(x, None, None, w, b, True, 0.1, EPS))},
    ),
    _one("gelu", "gelu (65536, 1024)", approximate="none"),
    _one("silu", "silu (65536, 1024)"),
    Beside(
        "dropout (65536, 1024)", "dropout", _dropout,
        {"torch": lambda T, x: T.nn.functional.dropout(x, 0.1)}, random=True,
    ),
    Beside(
        "sum of rows (65536, 1024)", "sum", lambda d: ((_rows(d),), {"dim": (1,), "keepdim": False}),
        {"torch": lambda T, x: x.sum(1), "cupy": lambda X, x: x.sum(1)},
    ),
    Beside(
        "sum of columns (65536, 1024)", "sum", lambda d: ((_rows(d),), {"dim": (0,), "keepdim": False}),
        {"torch": lambda T, x: x.sum(0), "cupy": lambda X, x: x.sum(0)},
    ),
    Beside(
        "a row added to all (65536, 1024)", "add", lambda d: ((x := _rows(d), d.normal(x.shape[1])), {}),
        {"torch": lambda T, a, b: a + b, "cupy": lambda X, a, b: a + b},
    ),
    Beside(
        "two images joined by their channels", "cat", lambda d: ((_images(d, 64)[0], _images(d, 64)[0]), {"dim": 1}),
        {"torch": lambda T, a, b: T.cat([a, b], 1), "cupy": lambda X, a, b: X.concatenate([a, b], 1)},
    ),
    Beside(
        "embedding 65536 of (50000, 1024)", "take_rows", _embedding,
        {"torch": lambda T, w, i: T.nn.functional.embedding(i, w), "cupy": lambda X, w, i: w.take(i, 0)},
    ),
    Beside(
        "AdamW 100M parameters in 100 tensors", "adam_many", _adamw, {"torch": _torch_adamw}, ("float32",), setup=True,
        columns=4,
    ),
    Beside(
        "norm of 100 gradients, 100M numbers", "norm_many", lambda d: (tuple(_adamw(d)[0][0]), {}),
        {"torch": lambda T, *grads: T.linalg.vector_norm(T.stack(T._foreach_norm(list(grads))))}, columns=1,
    ),
    Beside(
        "uniform random numbers, 67M", "philox_uniform", _uniform,
        {"torch": lambda T, key: T.rand(1 << 26, device=key.device)}, ("float32",), random=True,
    ),
    _matmul(False, "float32", "float16"),
    _matmul(True, "float32"),
    Beside(
        "conv 3x3 N64 128->128 32x32", "conv2d", _conv,
        {"torch": lambda T, x, w, b: T.nn.functional.conv2d(x, w, b, padding=1)}, memory=False,
    ),
    Beside(
        "attention (8, 16, 2048, 64) causal", "scaled_dot_product_attention", _attention,
        {"torch": lambda T, q, k, v, _: T.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)},
        memory=False,
    ),
]  # fmt: skip
