"""One recurrent layer over a whole sequence, from its first step to its last: RNN, GRU and LSTM.

``x`` (T, N, gates * H) is what the inputs contribute to the gates of each step, bias included: one product for all
steps, made before. What remains is the recurrence, with ``weight`` (gates * H, H), ``bias`` (gates * H) and the state
``h0`` (N, H). Gates are stacked as torch has them.

    rnn    h' = tanh(x + W h + b), or relu
    gru    r = sigmoid(x_r + W_r h + b_r),  z = sigmoid(x_z + W_z h + b_z)
           n = tanh(x_n + r (W_n h + b_n)),  h' = (1 - z) n + z h
    lstm   i, f, o = sigmoid(x + W h + b),  g = tanh(x_g + W_g h + b_g),  c' = f c + i g,  h' = o tanh(c')

``present`` (T, N), bools: where it is False the state stays as it is. ``reverse`` begins at the last step.
Results are the states after each step (T, N, H), and then what the derivative reads of the gates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..arrays import array_module, widen
from ..registry import Cost, kernel


def value_cost(x: Any, *rest: Any, **_: Any) -> Cost:
    """Reads the gates' inputs and writes gates and states once; multiplies by the weights at each step."""
    hidden = rest[0].shape[-1]
    return Cost(bytes=2 * x.nbytes + x.nbytes * hidden // max(1, x.shape[-1]), flops=2 * x.size * hidden)


def vjp_cost(g: Any, y: Any, x: Any, h0: Any, *_: Any, **__: Any) -> Cost:
    """Two products as large as that of the forward pass; gates are read, and their gradients written."""
    hidden = h0.shape[-1]
    return Cost(bytes=2 * x.nbytes + 3 * x.nbytes * hidden // max(1, x.shape[-1]), flops=4 * x.size * hidden)


def _order(steps: int, reverse: bool) -> Iterable[int]:
    return reversed(range(steps)) if reverse else range(steps)


def _sigmoid(xp: Any, x: Any) -> Any:
    return 0.5 * (1 + xp.tanh(0.5 * x))


def _before(h: Any, h0: Any, reverse: bool) -> Any:
    """The state that each step began with, (T, N, H)."""
    xp = array_module(h)
    return xp.concatenate([h[1:], h0[None]] if reverse else [h0[None], h[:-1]])


def _absent(present: Any, t: int) -> Any:
    return None if present is None else ~present[t][:, None]


def _widened(*arrays: Any) -> list[Any]:
    return [None if a is None else widen(a) for a in arrays]


def _hold(xp: Any, absent: Any, new: Any, old: Any) -> Any:
    return new if absent is None else xp.where(absent, old, new)


def _drop(xp: Any, absent: Any, x: Any) -> Any:
    return x if absent is None else xp.where(absent, x.dtype.type(0), x)


def _gradients(like: tuple[Any, ...], *values: Any) -> tuple[Any, ...]:
    return tuple(None if a is None else v.astype(a.dtype, copy=False) for a, v in zip(like, values, strict=True))


def _weight_gradients(xp: Any, slopes: Any, before: Any) -> tuple[Any, Any]:
    """Of ``weight`` and ``bias``, from those of the recurrent products (T, N, gates * H)."""
    rows = slopes.reshape((-1, slopes.shape[-1]))
    return rows.T @ before.reshape((-1, before.shape[-1])), rows.sum(0)


# --- rnn


@kernel("rnn", cost=value_cost)
def rnn(x: Any, h0: Any, weight: Any, bias: Any, present: Any = None, *, activation: str, reverse: bool) -> Any:
    """The states h (T, N, H). ``activation``: "tanh" or "relu"."""
    xp = array_module(x)
    wide, h, weight, bias = _widened(x, h0, weight, bias)
    states = xp.empty((*x.shape[:2], h0.shape[-1]), x.dtype)
    for t in _order(len(x), reverse):
        z = wide[t] + h @ weight.T
        z = z if bias is None else z + bias
        new = xp.tanh(z) if activation == "tanh" else xp.where(z <= 0, z.dtype.type(0), z)
        states[t] = h = _hold(xp, _absent(present, t), new, h)
    return states


@kernel("rnn_vjp", cost=vjp_cost)
def rnn_vjp(
    g: Any, y: Any, x: Any, h0: Any, weight: Any, bias: Any, present: Any = None, *, activation: str, reverse: bool
) -> tuple[Any, ...]:
    """Gradients in x, h0, weight and bias."""
    xp = array_module(g)
    wide, w, h = widen(g), widen(weight), widen(y)
    dx, dh = xp.empty(wide.shape, wide.dtype), xp.zeros(h0.shape, wide.dtype)
    for t in _order(len(g), not reverse):
        absent = _absent(present, t)
        dh = dh + wide[t]
        slope = 1 - h[t] * h[t] if activation == "tanh" else xp.where(h[t] <= 0, wide.dtype.type(0), 1)
        dx[t] = _drop(xp, absent, dh * slope)
        dh = _hold(xp, absent, dx[t] @ w, dh)
    dweight, dbias = _weight_gradients(xp, dx, widen(_before(y, h0, reverse)))
    return (*_gradients((x, h0, weight, bias), dx, dh, dweight, dbias), None)


# --- gru


@kernel("gru", cost=value_cost)
def gru(x: Any, h0: Any, weight: Any, bias: Any, present: Any = None, *, reverse: bool) -> tuple[Any, Any]:
    """The states h (T, N, H); and of the gates r, z, the product W_n h + b_n, and n, (T, N, 4 H)."""
    xp = array_module(x)
    wide, h, weight, bias = _widened(x, h0, weight, bias)
    size = h0.shape[-1]
    states = xp.empty((*x.shape[:2], size), x.dtype)
    gates = xp.empty((*x.shape[:2], 4 * size), wide.dtype)
    for t in _order(len(x), reverse):
        product = h @ weight.T
        product = product if bias is None else product + bias
        r = _sigmoid(xp, wide[t, :, :size] + product[:, :size])
        z = _sigmoid(xp, wide[t, :, size : 2 * size] + product[:, size : 2 * size])
        n = xp.tanh(wide[t, :, 2 * size :] + r * product[:, 2 * size :])
        gates[t] = xp.concatenate([r, z, product[:, 2 * size :], n], 1)
        states[t] = h = _hold(xp, _absent(present, t), n + z * (h - n), h)
    return states, gates


@kernel("gru_vjp", cost=vjp_cost)
def gru_vjp(
    g: Any, y: Any, x: Any, h0: Any, weight: Any, bias: Any, present: Any, gates: Any, *, reverse: bool
) -> tuple[Any, ...]:
    """Gradients in x, h0, weight and bias."""
    xp = array_module(g)
    wide, w, before = widen(g), widen(weight), widen(_before(y, h0, reverse))
    size = h0.shape[-1]
    dx = xp.empty((*g.shape[:2], 3 * size), wide.dtype)
    slopes, dh = xp.empty_like(dx), xp.zeros(h0.shape, wide.dtype)  # of the recurrent products
    for t in _order(len(g), not reverse):
        absent = _absent(present, t)
        r, z, product, n = (gates[t, :, i * size : (i + 1) * size] for i in range(4))
        dh = dh + wide[t]
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (before[t] - n) * z * (1 - z)
        dr = dn * product * r * (1 - r)
        dx[t] = _drop(xp, absent, xp.concatenate([dr, dz, dn], 1))
        slopes[t] = _drop(xp, absent, xp.concatenate([dr, dz, dn * r], 1))
        dh = _hold(xp, absent, dh * z + slopes[t] @ w, dh)
    dweight, dbias = _weight_gradients(xp, slopes, before)
    return (*_gradients((x, h0, weight, bias), dx, dh, dweight, dbias), None)


# --- lstm


@kernel("lstm", cost=value_cost)
def lstm(
    x: Any, h0: Any, c0: Any, weight: Any, bias: Any, present: Any = None, *, reverse: bool
) -> tuple[Any, Any, Any, Any]:
    """The states h (T, N, H) and the last cell state (N, H); all cell states c, and the gates i, f, g, o."""
    xp = array_module(x)
    wide, h, c, weight, bias = _widened(x, h0, c0, weight, bias)
    size = h0.shape[-1]
    states = xp.empty((*x.shape[:2], size), x.dtype)
    cells, gates = xp.empty(states.shape, wide.dtype), xp.empty(x.shape, wide.dtype)
    for t in _order(len(x), reverse):
        product = wide[t] + h @ weight.T
        product = product if bias is None else product + bias
        i, f, o = (_sigmoid(xp, product[:, k * size : (k + 1) * size]) for k in (0, 1, 3))
        g = xp.tanh(product[:, 2 * size : 3 * size])
        gates[t] = xp.concatenate([i, f, g, o], 1)
        new = f * c + i * g
        absent = _absent(present, t)
        states[t] = h = _hold(xp, absent, o * xp.tanh(new), h)
        cells[t] = c = _hold(xp, absent, new, c)
    return states, c.astype(c0.dtype), cells, gates


@kernel("lstm_vjp", cost=vjp_cost)
def lstm_vjp(
    g: tuple[Any, Any],
    y: tuple[Any, Any],
    x: Any,
    h0: Any,
    c0: Any,
    weight: Any,
    bias: Any,
    present: Any,
    cells: Any,
    gates: Any,
    *,
    reverse: bool,
) -> tuple[Any, ...]:
    """Gradients in x, h0, c0, weight and bias from those of the states and of the last cell state."""
    xp = array_module(*g)
    wide, dc, w = widen(g[0]), widen(g[1]), widen(weight)
    before, cells_before = widen(_before(y[0], h0, reverse)), _before(cells, widen(c0), reverse)
    size = h0.shape[-1]
    dx, dh = xp.empty((*wide.shape[:2], 4 * size), wide.dtype), xp.zeros(h0.shape, wide.dtype)
    for t in _order(len(wide), not reverse):
        absent = _absent(present, t)
        i, f, s, o = (gates[t, :, k * size : (k + 1) * size] for k in range(4))
        dh = dh + wide[t]
        u = xp.tanh(cells[t])
        inner = dc + dh * o * (1 - u * u)
        di, df = inner * s * i * (1 - i), inner * cells_before[t] * f * (1 - f)
        ds, do = inner * i * (1 - s * s), dh * u * o * (1 - o)
        dx[t] = _drop(xp, absent, xp.concatenate([di, df, ds, do], 1))
        dh = _hold(xp, absent, dx[t] @ w, dh)
        dc = _hold(xp, absent, inner * f, dc)
    dweight, dbias = _weight_gradients(xp, dx, before)
    return (*_gradients((x, h0, c0, weight, bias), dx, dh, dc, dweight, dbias), None)
