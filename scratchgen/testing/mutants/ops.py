"""The table of planted bugs: the mistakes that people make in derivatives, and the right ops as controls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import ops
from ...nn import functional as F
from ...tensor import Tensor, as_tensor
from .plant import Arrays, Made, mutant, normal, planted

Rng = np.random.Generator


def _softmax(rng: Rng) -> Made:
    return (lambda x: ops.softmax(x, 1)), [normal(rng, 3, int(rng.integers(3, 6)))]


def _conv(rng: Rng) -> Made:
    x, w = normal(rng, 1, 2, 3, int(rng.integers(3, 5))), normal(rng, 2, 2, 2, 2)
    return (lambda x, w: F.conv2d(x, w, padding=1)), [x, w]


def _norm(rng: Rng) -> Made:
    n = int(rng.integers(3, 6))
    return (lambda x, w: F.layer_norm(x, (n,), w)), [normal(rng, 3, n), normal(rng, n)]


def _attention(rng: Rng) -> Made:
    shape = (1, 3, int(rng.integers(2, 4)))
    return F.scaled_dot_product_attention, [normal(rng, *shape) for _ in range(3)]


ACCURATE = {"softmax": _softmax, "conv2d": _conv, "layer_norm": _norm, "attention": _attention}
for _name, _make in ACCURATE.items():
    mutant(f"{_name}, right", "control", 0.0)(_make)
    for _size in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):

        def _scaled(rng: Rng, make: Callable[[Rng], Made] = _make, size: float = _size) -> Made:
            f, arrays = make(rng)
            return planted(f, lambda gs, g, y, *xs: [gs[0] * (1 + size), *gs[1:]]), arrays

        mutant(f"{_name}: gradient times 1 + {_size:.0e}", "relative error", _size)(_scaled)


def _of(f: Callable[..., Any], wrong: Callable[..., Any], *shapes: tuple[int, ...]) -> Callable[[Rng], Made]:
    """A mutant of ``f`` at normal inputs of given shapes."""
    return lambda rng: (planted(f, wrong), [normal(rng, *shape) for shape in shapes])


def _first(rule: Callable[..., Any]) -> Callable[..., Any]:
    """``wrong`` for a function of one input: its gradient is ``rule(g, y, x)``."""
    return lambda gs, g, y, x: [rule(g, y, x)]


SHAPE = (3, 4)
SQUARE = (3, 3)

# ------------------------------------------------------------------------------------------------------- wrong sign

mutant("tanh: 1 + y^2", "wrong sign")(_of(ops.tanh, _first(lambda g, y, x: g * (1 + y * y)), SHAPE))
mutant("a - b: the gradient of b", "wrong sign")(
    _of(lambda a, b: a - b, lambda gs, g, y, a, b: [gs[0], -gs[1]], SHAPE, SHAPE)
)
mutant("log_softmax: plus the sum", "wrong sign")(
    _of(lambda x: ops.log_softmax(x, 1), _first(lambda g, y, x: g + y.exp() * g.sum(1, keepdim=True)), SHAPE)
)
mutant("division: by b instead of -b", "wrong sign")(
    _of(lambda a, b: a / (b * b + 1), lambda gs, g, y, a, b: [gs[0], -gs[1]], SHAPE, SHAPE)
)

# ----------------------------------------------------------------------------------------------------- dropped term

mutant("softmax: without the sum", "dropped term")(
    _of(lambda x: ops.softmax(x, 1), _first(lambda g, y, x: g * y), SHAPE)
)
mutant("layer_norm: without the variance's part", "dropped term")(
    _of(
        lambda x: F.layer_norm(x, (4,)),
        _first(lambda g, y, x: (g - g.mean(1, True)) / (ops.var(x, 1, correction=0, keepdim=True) + 1e-5).sqrt()),
        SHAPE,
    )
)
mutant("product: no gradient of b", "dropped term")(
    _of(lambda a, b: a * b, lambda gs, g, y, a, b: [gs[0], gs[1] * 0], SHAPE, SHAPE)
)
mutant("silu: without x sigma'(x)", "dropped term")(_of(F.silu, _first(lambda g, y, x: g * ops.sigmoid(x)), SHAPE))
mutant("attention: the keys' gradient without the scale", "dropped term")(
    lambda rng: (
        planted(F.scaled_dot_product_attention, lambda gs, g, y, q, k, v: [gs[0], gs[1] * q.shape[-1] ** 0.5, gs[2]]),
        [normal(rng, 1, 3, 2) for _ in range(3)],
    )
)

# -------------------------------------------------------------------------------------------------- transposed axes

mutant("matmul: g b instead of g b'", "transposed axes")(
    _of(ops.matmul, lambda gs, g, y, a, b: [g @ b, gs[1]], SQUARE, SQUARE)
)
mutant("conv2d: the filter's gradient turned round", "transposed axes")(
    _of(F.conv2d, lambda gs, g, y, x, w: [gs[0], ops.flip(gs[1], (2, 3))], (1, 1, 4, 4), (1, 1, 2, 2))
)
mutant("permute: by the permutation, not its inverse", "transposed axes")(
    _of(lambda x: x.permute(1, 2, 0) * 2, _first(lambda g, y, x: g.permute(1, 2, 0) * 2), (2, 2, 2))
)
mutant("linear: the weight's gradient transposed", "transposed axes")(
    _of(F.linear, lambda gs, g, y, x, w: [gs[0], gs[1].mT], SQUARE, SQUARE)
)

# ------------------------------------------------------------------------------------------------------- off by one

mutant("conv2d: padding off by one", "off by one")(
    _of(
        lambda x, w: F.conv2d(x, w, padding=1), lambda gs, g, y, x, w: [ops.roll(gs[0], 1, 3), gs[1]],
        (1, 1, 3, 4), (1, 1, 3, 3),
    )
)  # fmt: skip
mutant("cumsum: without the element itself", "off by one")(
    _of(lambda x: ops.cumsum(x, 1), lambda gs, g, y, x: [gs[0] - g], SHAPE)
)
mutant("narrow: placed one further", "off by one")(
    _of(lambda x: x[:, 1:3], lambda gs, g, y, x: [ops.roll(gs[0], 1, 1)], SHAPE)
)
mutant("layer_norm: n - 1 for n", "off by one")(
    _of(lambda x: F.layer_norm(x, (4,)), lambda gs, g, y, x: [gs[0] * (3 / 4) ** 0.5], SHAPE)
)
mutant("avg_pool2d: padding not counted", "off by one")(
    _of(
        lambda x: F.avg_pool2d(x, 2, 1, 1),
        lambda gs, g, y, x: [_gradient(lambda t: F.avg_pool2d(t, 2, 1, 1, count_include_pad=False), x, g)],
        (1, 1, 3, 3),
    )
)

# ---------------------------------------------------------------------------------------------- missing un-broadcast

mutant("bias: the first row instead of the sum", "un-broadcast")(
    _of(lambda x, b: x + b, lambda gs, g, y, x, b: [g, g[0]], SHAPE, (4,))
)
mutant("bias: the mean instead of the sum", "un-broadcast")(
    _of(lambda x, b: x * b, lambda gs, g, y, x, b: [gs[0], gs[1] / 3], SHAPE, (4,))
)
mutant("expand: one of the copies", "un-broadcast")(
    _of(lambda x: x.expand(3, 2, 4), _first(lambda g, y, x: g[:, :1]), (3, 1, 4))
)
mutant("scalar: the first element", "un-broadcast")(
    _of(lambda x, s: x * s, lambda gs, g, y, x, s: [gs[0], (g * x)[0, 0]], SHAPE, ())
)

# ------------------------------------------------------------------------------------------------------- wrong mask


def _gradient(f: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """What the gradient would be if the function were ``f``."""
    from ...autograd import is_grad_enabled
    from ..subject import vjp

    return vjp(f, [x], [True], [g], is_grad_enabled())[0]


def _causal(diagonal: int) -> Callable[..., Tensor]:
    mask = np.tril(np.ones((4, 4), bool), diagonal)
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=as_tensor(mask))


mutant("relu: x > 0.2", "wrong mask")(_of(F.relu, _first(lambda g, y, x: g.masked_fill(x <= 0.2, 0.0)), (4, 6)))
mutant("attention: causal mask off by one in the values' gradient", "wrong mask")(
    _of(
        _causal(0),
        lambda gs, g, y, q, k, v: [gs[0], gs[1], _gradient(lambda t: _causal(1)(q.detach(), k.detach(), t), v, g)],
        (1, 4, 2), (1, 4, 2), (1, 4, 2),
    )
)  # fmt: skip
mutant("clamp: the upper bound ignored", "wrong mask")(
    _of(lambda x: ops.clamp(x, -0.5, 0.5), _first(lambda g, y, x: g.masked_fill(x < -0.5, 0.0)), (4, 6))
)
mutant("where: both branches get everything", "wrong mask")(
    _of(lambda x, z: ops.where(x > 0, x * z, z), lambda gs, g, y, x, z: [gs[0], g * 1], SHAPE, SHAPE)
)
mutant("max_pool2d: every element of the window", "wrong mask")(
    _of(
        lambda x: F.max_pool2d(x, 2),
        lambda gs, g, y, x: [_gradient(lambda t: F.avg_pool2d(t, 2) * 4, x, g)],
        (1, 1, 4, 4),
    )
)

# ------------------------------------------------------------------------------------------------ stale saved value


def _stale(f: Callable[[Tensor], Tensor], rule: Callable[..., Tensor]) -> Callable[[Rng], Made]:
    """``rule(g, old)`` with what the first call saw."""

    def make(rng: Rng) -> Made:
        seen: list[np.ndarray] = [np.asarray(rng.standard_normal(SHAPE))]

        def wrong(gs: list[Tensor], g: Tensor, y: Tensor, x: Tensor) -> list[Tensor]:
            old, seen[0] = seen[0], np.array(x.detach().numpy())
            return [rule(g, x - x.detach() + as_tensor(old, dtype=x.dtype))]

        return planted(f, wrong), [normal(rng, *SHAPE)]

    return make


mutant("exp: y of the call before", "stale saved value")(_stale(ops.exp, lambda g, x: g * x.exp()))
mutant("square: x of the call before", "stale saved value")(_stale(lambda x: x * x, lambda g, x: 2 * g * x))

# ----------------------------------------------------------------------------------------- exact to first order only


def _batch_norm(x: Tensor) -> Tensor:
    mean = x.mean(0, True)
    return (x - mean) / (((x - mean.detach()) ** 2).mean(0, True) + 1e-5) ** 0.5


mutant("batch norm: mean detached in the variance", "detached term")(lambda rng: (_batch_norm, [normal(rng, 4, 3)]))
mutant("softmax: y detached in the derivative", "detached term")(
    _of(
        lambda x: ops.softmax(x, 1),
        _first(lambda g, y, x: y.detach() * (g - (g * y.detach()).sum(1, keepdim=True))),
        SHAPE,
    )
)
mutant("cube: x detached in the derivative", "detached term")(
    _of(lambda x: x**3, _first(lambda g, y, x: 3 * g * x.detach() ** 2), SHAPE)
)
mutant("layer_norm: the derivative is not differentiated", "detached term")(
    _of(lambda x: F.layer_norm(x, (4,)), lambda gs, g, y, x: [_once(lambda t: F.layer_norm(t, (4,)), x, g)], SHAPE)
)
mutant("attention: the values' gradient has detached weights", "detached term")(
    _of(
        F.scaled_dot_product_attention,
        lambda gs, g, y, q, k, v: [
            gs[0], gs[1], _gradient(lambda t: F.scaled_dot_product_attention(q.detach(), k.detach(), t), v, g),
        ],
        (1, 3, 2), (1, 3, 2), (1, 3, 2),
    )
)  # fmt: skip


def _once(f: Callable[[Tensor], Tensor], x: Tensor, g: Tensor) -> Tensor:
    """The right gradient at this x, as a function of g only."""
    return _gradient(f, x.detach(), g)


# --------------------------------------------------------------------------------------------- non-contiguous misread


def _strided(rng: Rng) -> Arrays:
    transposed = np.ascontiguousarray(rng.standard_normal((3, 4)).T).T
    return [transposed if rng.integers(2) else rng.standard_normal((3, 8))[:, ::2]]


def _reads(rng: Rng) -> Made:
    op = planted(ops.sin, lambda gs, g, y, x: gs)
    right = op.forward
    assert right is not None
    # What a kernel sees that takes memory as it comes.
    op.forward = lambda a: right(a if a.flags.c_contiguous else np.ascontiguousarray(a.T).reshape(a.shape))
    return op, _strided(rng)


mutant("forward: strides ignored", "non-contiguous")(_reads)


def _reads_gradient(rng: Rng) -> Made:
    def wrong(gs: list[Tensor], g: Tensor, y: Tensor, x: Tensor) -> list[Tensor]:
        return [2 * x * (g if g.array.flags.c_contiguous else g.mT.reshape(g.shape))]

    op = planted(lambda x: x * x, wrong)
    return (lambda x: op(x).mT), [normal(rng, 3, 4)]


mutant("backward: strides of the gradient ignored", "non-contiguous")(_reads_gradient)


# --------------------------------------------------------------------------------------- accumulation, and small ones


def _rows(rng: Rng) -> Made:
    rows = as_tensor(np.array([0, 2, 2, 1, 0]))

    def lost(gs: list[Tensor], g: Tensor, y: Tensor, x: Tensor) -> list[Tensor]:
        last = as_tensor(np.array([4, 3, 2]))  # the last occurrence of rows 0, 1, 2
        return [ops.index_select(g, 0, last)]

    return planted(lambda x: ops.index_select(x, 0, rows), lost), [normal(rng, 3, 3)]


mutant("index_select: duplicates overwrite", "accumulation")(_rows)
mutant("x + x: one of the two", "accumulation")(_of(lambda x: x + x.sin(), _first(lambda g, y, x: g), SHAPE))


def _element(size: float) -> Callable[..., Any]:
    def wrong(gs: list[Tensor], g: Tensor, y: Tensor, x: Tensor, w: Tensor) -> list[Tensor]:
        error = np.ones(w.shape)
        error[0, 0, 0, 1] += size
        return [gs[0], gs[1] * as_tensor(error, dtype=w.dtype)]

    return wrong


for _size in (1e-2, 1e-4, 1e-6):
    mutant(f"conv2d: one element of the filter's gradient times 1 + {_size:.0e}", "one element", _size)(
        _of(lambda x, w: F.conv2d(x, w), _element(_size), (1, 2, 4, 4), (2, 2, 2, 2))
    )
mutant("gelu: 0.0447 for 0.044715", "wrong constant", 1e-4)(
    _of(
        lambda x: F.gelu(x, approximate="tanh"),
        lambda gs, g, y, x: [_gradient(lambda t: 0.5 * t * (1 + (0.7978845608 * (t + 0.0447 * t**3)).tanh()), x, g)],
        SHAPE,
    )
)
mutant("layer_norm: eps 2e-5 for 1e-5", "wrong constant", 1e-5)(
    _of(
        lambda x: F.layer_norm(x, (4,)),
        lambda gs, g, y, x: [_gradient(lambda t: F.layer_norm(t, (4,), eps=2e-5), x, g)],
        SHAPE,
    )
)
mutant("softmax: gradient rounded to float32", "precision", 1e-8)(
    _of(lambda x: ops.softmax(x, 1), lambda gs, g, y, x: [gs[0].to(np.float32).to(x.dtype)], SHAPE)
)
mutant("tanh, right", "control", 0.0)(_of(ops.tanh, lambda gs, g, y, x: gs, SHAPE))
mutant("matmul, right", "control", 0.0)(_of(ops.matmul, lambda gs, g, y, a, b: gs, SQUARE, SQUARE))
