"""The loops of recurrent layers, for one thread: ``body(call, unit)`` runs a share of the rows through all steps.

Rows do not know of each other, so threads share them out and never wait: one parallel region for a whole sequence. A
step is a product on matmul's register tile, whose right side was packed once for all steps, and the gates of each row
while it is in the cache.
"""

from __future__ import annotations

import numpy as np
from llvmlite import binding
from numba import cfunc, types

from ..matmul.gemm import _TILE
from ..matmul.tile import PANEL, ROWS, tile
from ..numba_config import njit, renamed
from ..parallel import array, c_function, fields, record
from ..vecmath import ONE, ZERO, sigmoid, tanh, vector

FLOATS = np.float32

CALL = fields(
    "steps rows hidden gates width units reverse multiplied relu present "
    "x x_step x_row h0 c0 weight bias states cells values "  # both ways; values: what is kept of the gates
    "g dx slopes dh dc carry"  # of the derivative
)


def _tile(a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, rows, columns, depth):
    tile(a, a_row, a_step, b, b_step, seed, seed_row, c, c_row, rows, columns, depth, depth, a, 0)


_SIGNATURE = types.void(*[types.int64] * 12)
_compiled = cfunc(_SIGNATURE, cache=True, error_model="numpy")(renamed(_tile, _TILE))
binding.add_symbol("scratchgen_recurrent_tile", _compiled.address)
_tile_by_name = types.ExternalFunction("scratchgen_recurrent_tile", _SIGNATURE)


@njit(nogil=True, error_model="numpy")
def _product(a, a_row, panel, depth, seed, seed_row, c, c_row, rows, columns):
    """``c = seed + a panel`` for one panel of columns, tile by tile."""
    tiles, i = -(-rows // ROWS), 0
    for t in range(tiles):
        count = (t + 1) * rows // tiles - i
        _tile_by_name(
            a + 4 * i * a_row, a_row, 1, panel, PANEL, seed + 4 * i * seed_row, seed_row, c + 4 * i * c_row, c_row,
            count, columns, depth,
        )  # fmt: skip
        i += count


@njit(nogil=True, error_model="numpy")
def _recur(call, h, values, low, high):
    """``W h + b`` of all gates, for rows ``low`` to ``high``, where the values of the gates will stand."""
    hidden = call.hidden
    for g in range(call.gates):
        for left in range(0, hidden, PANEL):
            columns = min(PANEL, hidden - left)
            place = g * (-(-hidden // PANEL)) + left // PANEL
            _product(
                h + 4 * low * hidden, hidden, call.weight + 4 * place * hidden * PANEL, hidden,
                call.bias + 4 * (g * hidden + left), 0,
                values + 4 * (low * call.width + g * hidden + left), call.width, high - low, columns,
            )  # fmt: skip


@njit(nogil=True, error_model="numpy")
def _recur_back(call, slopes, low, high):
    """The gradient of the state before: that of the products times W, and what is carried over."""
    hidden, width = call.hidden, call.gates * call.hidden
    for left in range(0, hidden, PANEL):
        columns = min(PANEL, hidden - left)
        _product(
            slopes + 4 * low * width, width, call.weight + 4 * left * width, width,
            call.carry + 4 * (low * hidden + left), hidden, call.dh + 4 * (low * hidden + left), hidden,
            high - low, columns,
        )  # fmt: skip


@njit(inline="always")
def _row(address, offset, size):
    return array(address + 4 * offset, (size,), FLOATS)


@njit(inline="always")
def _is_absent(call, t, i):
    return call.present != 0 and array(call.present, (call.steps * call.rows,), np.uint8)[t * call.rows + i] == 0


@njit(inline="always")
def _before(call, first, all_steps, s, t):
    """The address of the states that step ``s``, which is at time ``t``, begins with."""
    if s == 0:
        return first
    return all_steps + 4 * (t + (1 if call.reverse else -1)) * call.rows * call.hidden


# --- of one row; each loop touches few arrays, or LLVM would not vectorise it


@vector
def _add(x, y):
    for j in range(y.size):
        y[j] += x[j]


@vector
def _open(x, y):
    for j in range(y.size):
        y[j] = sigmoid(y[j] + x[j])


@vector
def _squash(x, y):
    for j in range(y.size):
        y[j] = tanh(y[j] + x[j])


@vector
def _rectify(x, y):
    for j in range(y.size):
        z = y[j] + x[j]
        y[j] = ZERO if z <= ZERO else z


@vector
def _new(x, r, product, n):
    for j in range(n.size):
        n[j] = tanh(x[j] + r[j] * product[j])


@vector
def _mix(z, n, old, h):
    for j in range(h.size):
        h[j] = n[j] + z[j] * (old[j] - n[j])


@vector
def _cell(i, f, g, old, c):
    for j in range(c.size):
        c[j] = f[j] * old[j] + i[j] * g[j]


@vector
def _show(o, c, h):
    for j in range(h.size):
        h[j] = o[j] * tanh(c[j])


@vector
def _copy(x, y):
    for j in range(y.size):
        y[j] = x[j]


@vector
def _clear(y):
    for j in range(y.size):
        y[j] = ZERO


# --- forward


def _rnn(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    for s in range(call.steps):
        t = call.steps - 1 - s if call.reverse else s
        h, new = _before(call, call.h0, call.states, s, t), call.states + 4 * t * call.rows * size
        if not call.multiplied:
            _recur(call, h, new, low, high)
        for i in range(low, high):
            x, y = _row(call.x, t * call.x_step + i * call.x_row, size), _row(new, i * size, size)
            if call.relu:
                _rectify(x, y)
            else:
                _squash(x, y)
            if _is_absent(call, t, i):
                _copy(_row(h, i * size, size), y)


def _gru(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    for s in range(call.steps):
        t = call.steps - 1 - s if call.reverse else s
        h, new = _before(call, call.h0, call.states, s, t), call.states + 4 * t * call.rows * size
        values = call.values + 4 * t * call.rows * call.width
        if not call.multiplied:
            _recur(call, h, values, low, high)
        for i in range(low, high):
            at, place = t * call.x_step + i * call.x_row, i * call.width
            _open(_row(call.x, at, 2 * size), _row(values, place, 2 * size))
            n = _row(values, place + 3 * size, size)
            _new(_row(call.x, at + 2 * size, size), _row(values, place, size), _row(values, place + 2 * size, size), n)
            old, y = _row(h, i * size, size), _row(new, i * size, size)
            if _is_absent(call, t, i):
                _copy(old, y)
            else:
                _mix(_row(values, place + size, size), n, old, y)


def _lstm(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    for s in range(call.steps):
        t = call.steps - 1 - s if call.reverse else s
        h, new = _before(call, call.h0, call.states, s, t), call.states + 4 * t * call.rows * size
        c, new_c = _before(call, call.c0, call.cells, s, t), call.cells + 4 * t * call.rows * size
        values = call.values + 4 * t * call.rows * call.width
        if not call.multiplied:
            _recur(call, h, values, low, high)
        for i in range(low, high):
            at, place = t * call.x_step + i * call.x_row, i * call.width
            _open(_row(call.x, at, 2 * size), _row(values, place, 2 * size))
            _squash(_row(call.x, at + 2 * size, size), _row(values, place + 2 * size, size))
            _open(_row(call.x, at + 3 * size, size), _row(values, place + 3 * size, size))
            y, y_c, old_c = _row(new, i * size, size), _row(new_c, i * size, size), _row(c, i * size, size)
            if _is_absent(call, t, i):
                _copy(_row(h, i * size, size), y)
                _copy(old_c, y_c)
            else:
                _cell(
                    _row(values, place, size), _row(values, place + size, size), _row(values, place + 2 * size, size),
                    old_c, y_c,
                )  # fmt: skip
                _show(_row(values, place + 3 * size, size), y_c, y)


# --- backward


@vector
def _slope_of_tanh(dh, h, dx):
    for j in range(dx.size):
        dx[j] = dh[j] * (ONE - h[j] * h[j])


@vector
def _slope_of_relu(dh, h, dx):
    for j in range(dx.size):
        dx[j] = ZERO if h[j] <= ZERO else dh[j]


@vector
def _slope_of_new(dh, z, n, dn):
    for j in range(dn.size):
        dn[j] = dh[j] * (ONE - z[j]) * (ONE - n[j] * n[j])


@vector
def _slope_of_update(dh, old, z, n, dz):
    for j in range(dz.size):
        dz[j] = dh[j] * (old[j] - n[j]) * z[j] * (ONE - z[j])


@vector
def _slope_of_reset(dn, product, r, dr):
    for j in range(dr.size):
        dr[j] = dn[j] * product[j] * r[j] * (ONE - r[j])


@vector
def _times(x, y, z):
    for j in range(z.size):
        z[j] = x[j] * y[j]


@vector
def _slope_of_output(dh, u, o, do):
    for j in range(do.size):
        do[j] = dh[j] * u[j] * o[j] * (ONE - o[j])


@vector
def _add_through_output(dh, u, o, dc):
    for j in range(dc.size):
        dc[j] += dh[j] * o[j] * (ONE - u[j] * u[j])


@vector
def _slope_of_gate(dc, other, gate, d):
    """Of a gate that opens for ``other``."""
    for j in range(d.size):
        d[j] = dc[j] * other[j] * gate[j] * (ONE - gate[j])


@vector
def _slope_of_candidate(dc, i, g, dg):
    for j in range(dg.size):
        dg[j] = dc[j] * i[j] * (ONE - g[j] * g[j])


@vector
def _tanh_of(x, y):
    for j in range(y.size):
        y[j] = tanh(x[j])


def _rnn_back(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    for s in range(call.steps - 1, -1, -1):
        t = call.steps - 1 - s if call.reverse else s
        for i in range(low, high):
            place = (t * call.rows + i) * size
            dh, dx = _row(call.dh, i * size, size), _row(call.dx, place, size)
            carry = _row(call.carry, i * size, size)
            _add(_row(call.g, place, size), dh)
            if _is_absent(call, t, i):
                _clear(dx)
                _copy(dh, carry)
                continue
            _clear(carry)
            if call.relu:
                _slope_of_relu(dh, _row(call.states, place, size), dx)
            else:
                _slope_of_tanh(dh, _row(call.states, place, size), dx)
        if not call.multiplied:
            _recur_back(call, call.dx + 4 * t * call.rows * size, low, high)


def _gru_back(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    for s in range(call.steps - 1, -1, -1):
        t = call.steps - 1 - s if call.reverse else s
        h = _before(call, call.h0, call.states, s, t)
        for i in range(low, high):
            at, place = 3 * (t * call.rows + i) * size, (t * call.rows + i) * call.width
            dh, carry = _row(call.dh, i * size, size), _row(call.carry, i * size, size)
            _add(_row(call.g, (t * call.rows + i) * size, size), dh)
            if _is_absent(call, t, i):
                _clear(_row(call.dx, at, 3 * size))
                _clear(_row(call.slopes, at, 3 * size))
                _copy(dh, carry)
                continue
            r, z = _row(call.values, place, size), _row(call.values, place + size, size)
            product, n = _row(call.values, place + 2 * size, size), _row(call.values, place + 3 * size, size)
            dr, dz = _row(call.dx, at, size), _row(call.dx, at + size, size)
            dn = _row(call.dx, at + 2 * size, size)
            _slope_of_new(dh, z, n, dn)
            _slope_of_update(dh, _row(h, i * size, size), z, n, dz)
            _slope_of_reset(dn, product, r, dr)
            _copy(_row(call.dx, at, 2 * size), _row(call.slopes, at, 2 * size))
            _times(dn, r, _row(call.slopes, at + 2 * size, size))
            _times(dh, z, carry)
        if not call.multiplied:
            _recur_back(call, call.slopes + 12 * t * call.rows * size, low, high)


def _lstm_back(call, unit):
    call = record(call, CALL)
    low, high, size = unit * call.rows // call.units, (unit + 1) * call.rows // call.units, call.hidden
    shown = np.empty(size, np.float32)
    for s in range(call.steps - 1, -1, -1):
        t = call.steps - 1 - s if call.reverse else s
        c = _before(call, call.c0, call.cells, s, t)
        for i in range(low, high):
            place = (t * call.rows + i) * 4 * size
            dh, dc = _row(call.dh, i * size, size), _row(call.dc, i * size, size)
            carry = _row(call.carry, i * size, size)
            _add(_row(call.g, (t * call.rows + i) * size, size), dh)
            if _is_absent(call, t, i):
                _clear(_row(call.dx, place, 4 * size))
                _copy(dh, carry)
                continue
            _clear(carry)
            gate_i, gate_f = _row(call.values, place, size), _row(call.values, place + size, size)
            g, o = _row(call.values, place + 2 * size, size), _row(call.values, place + 3 * size, size)
            _tanh_of(_row(call.cells, (t * call.rows + i) * size, size), shown)
            _slope_of_output(dh, shown, o, _row(call.dx, place + 3 * size, size))
            _add_through_output(dh, shown, o, dc)
            _slope_of_gate(dc, g, gate_i, _row(call.dx, place, size))
            _slope_of_gate(dc, _row(c, i * size, size), gate_f, _row(call.dx, place + size, size))
            _slope_of_candidate(dc, gate_i, g, _row(call.dx, place + 2 * size, size))
            _times(dc, gate_f, dc)
        if not call.multiplied:
            _recur_back(call, call.dx + 16 * t * call.rows * size, low, high)


BODIES = {"rnn": _rnn, "gru": _gru, "lstm": _lstm, "rnn_vjp": _rnn_back, "gru_vjp": _gru_back, "lstm_vjp": _lstm_back}


def compiled(op: str):
    """The body of ``op`` as a C function for ``parallel.run``."""
    return c_function(BODIES[op], _TILE)
