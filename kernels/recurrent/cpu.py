"""RNN, GRU and LSTM in Numba, float32: what is packed, shared out and multiplied around the loops of ``loops``.

The gradient of the weights is one product over all steps and rows, after the recurrence.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np

from ..matmul.cpu import multiply
from ..matmul.tile import PANEL
from ..parallel import make, run, with_arrays
from ..registry import kernel
from .loops import CALL, compiled
from .reference import value_cost, vjp_cost

F4 = np.dtype(np.float32)
COMPILED_FROM = 1 << 14  # multiplications; below this NumPy is soon done
PARALLEL_FROM = 1 << 21  # multiplications; below this a second thread costs more than it saves
_body = cache(compiled)


def _is_worth_it(x: np.ndarray, h0: np.ndarray, *_: Any, **__: Any) -> bool:
    return x.size * h0.shape[-1] >= COMPILED_FROM


class _Layer:
    """One call: its sizes, and the arrays whose addresses the loops take."""

    def __init__(self, op: str, x: np.ndarray, h0: np.ndarray, present: np.ndarray | None, **sizes: int) -> None:
        self.op, (self.steps, self.rows, self.width) = op, x.shape
        self.hidden = h0.shape[1]
        self.sizes = {"steps": self.steps, "rows": self.rows, "hidden": self.hidden, **sizes}
        self.sizes["gates"] = self.width // self.hidden
        self.sizes.setdefault("width", self.width)
        self.arrays = {"h0": np.ascontiguousarray(h0)}
        if present is not None:
            self.arrays["present"] = np.ascontiguousarray(present)

    @property
    def is_one_product(self) -> bool:
        """A single step needs no packing of its own: matmul multiplies, and the loops do the rest."""
        return self.steps == 1

    def run(self, **arrays: np.ndarray) -> None:
        work = self.steps * self.rows * self.width * self.hidden
        units = min(numba.get_num_threads(), self.rows) if work >= PARALLEL_FROM else 1
        call = make(CALL, {**self.sizes, "units": units, "multiplied": int(self.is_one_product)})
        if self.rows:
            run(_body(self.op), with_arrays(call, **self.arrays, **arrays), units)

    def forward(
        self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, products: np.ndarray, **arrays: np.ndarray
    ) -> None:
        """``products`` (T, N, gates * H or more): where W h + b of each step goes."""
        if x.strides[2] != 4:
            x = np.ascontiguousarray(x)
        self.sizes |= {"x_step": x.strides[0] // 4, "x_row": x.strides[1] // 4}
        if self.is_one_product:
            seed = np.empty((0, 0), F4) if bias is None else bias[None]
            multiply(self.arrays["h0"], weight.T, products[0, :, : self.width], seed)
        else:
            arrays["weight"] = self._panels(weight)
            arrays["bias"] = np.zeros(self.width, F4) if bias is None else np.ascontiguousarray(bias)
        self.run(x=x, **arrays)

    def _panels(self, weight: np.ndarray) -> np.ndarray:
        """W' of each gate in panels of columns, (gates, panels, H, PANEL); the last one filled up with zeros."""
        gates, panels = self.width // self.hidden, -(-self.hidden // PANEL)
        packed = np.zeros((gates, panels * PANEL, self.hidden), F4)
        packed[:, : self.hidden] = weight.reshape(gates, self.hidden, self.hidden)
        return np.ascontiguousarray(packed.reshape(gates, panels, PANEL, self.hidden).transpose(0, 1, 3, 2))

    def backward(self, weight: np.ndarray, products: np.ndarray, dh: np.ndarray, **arrays: np.ndarray) -> None:
        """``products`` (T, N, gates * H): where the gradients of W h + b go; ``dh`` becomes that of the first state."""
        carry = np.empty((self.rows, self.hidden), F4)
        if not self.is_one_product:
            panels = -(-self.hidden // PANEL)
            packed = np.zeros((panels, self.width, PANEL), F4)
            for panel in range(panels):
                part = weight[:, panel * PANEL : (panel + 1) * PANEL]
                packed[panel, :, : part.shape[1]] = part
            arrays["weight"] = packed
        self.run(dh=dh, carry=carry, **arrays)
        if self.is_one_product:
            multiply(products[0], weight, dh, carry)

    def weight_gradients(
        self, slopes: np.ndarray, states: np.ndarray, weight: bool, bias: bool
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Of W and b, where they are wanted: the states that steps began with are those of their neighbours."""
        h0, reverse = self.arrays["h0"], self.sizes["reverse"]
        dbias = np.zeros(self.width, F4) if bias else None
        if not weight:
            return None, None if dbias is None else slopes.reshape(-1, self.width).sum(0)
        dweight = np.empty((self.width, self.hidden), F4)
        sums = np.empty(0, F4) if dbias is None else dbias
        first, later = (slopes[-1], slopes[:-1]) if reverse else (slopes[0], slopes[1:])
        before = states[1:] if reverse else states[:-1]
        multiply(first.T, h0, dweight, sums=sums)
        if self.steps > 1:
            rows = later.reshape(-1, self.width)
            multiply(rows.T, before.reshape(-1, self.hidden), dweight, dweight, sums)
        return dweight, dbias


# --- rnn


@kernel("rnn", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def rnn(
    x: np.ndarray,
    h0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None = None,
    *,
    activation: str,
    reverse: bool,
) -> np.ndarray:
    layer = _Layer("rnn", x, h0, present, reverse=int(reverse), relu=int(activation == "relu"))
    states = np.empty((*x.shape[:2], layer.hidden), F4)
    layer.forward(x, weight, bias, states, states=states)
    return states


@kernel("rnn_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def rnn_vjp(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    h0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None = None,
    *,
    activation: str,
    reverse: bool,
    needs: tuple[bool, ...] = (True,) * 4,
) -> tuple[np.ndarray | None, ...]:
    layer = _Layer("rnn_vjp", x, h0, present, reverse=int(reverse), relu=int(activation == "relu"))
    dx, dh = np.empty(x.shape, F4), np.zeros(h0.shape, F4)
    layer.backward(weight, dx, dh, g=np.ascontiguousarray(g), dx=dx, states=y)
    return dx, dh, *layer.weight_gradients(dx, y, needs[2], bias is not None and needs[3]), None


# --- gru


@kernel("gru", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def gru(
    x: np.ndarray,
    h0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None = None,
    *,
    reverse: bool,
) -> tuple[np.ndarray, np.ndarray]:
    layer = _Layer("gru", x, h0, present, reverse=int(reverse), width=4 * h0.shape[1])
    states, values = np.empty((*x.shape[:2], layer.hidden), F4), np.empty((*x.shape[:2], 4 * layer.hidden), F4)
    layer.forward(x, weight, bias, values, states=states, values=values)
    return states, values


@kernel("gru_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def gru_vjp(
    g: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    h0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None,
    gates: np.ndarray,
    *,
    reverse: bool,
    needs: tuple[bool, ...] = (True,) * 4,
) -> tuple[np.ndarray | None, ...]:
    layer = _Layer("gru_vjp", x, h0, present, reverse=int(reverse), width=4 * h0.shape[1])
    dx, slopes, dh = np.empty(x.shape, F4), np.empty(x.shape, F4), np.zeros(h0.shape, F4)
    layer.backward(weight, slopes, dh, g=np.ascontiguousarray(g), dx=dx, slopes=slopes, states=y, values=gates)
    return dx, dh, *layer.weight_gradients(slopes, y, needs[2], bias is not None and needs[3]), None


# --- lstm


@kernel("lstm", impl="numba", device="cpu", dtypes="f4", when=_is_worth_it, cost=value_cost)
def lstm(
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None = None,
    *,
    reverse: bool,
) -> tuple[np.ndarray, ...]:
    layer = _Layer("lstm", x, h0, present, reverse=int(reverse))
    states, values = np.empty((*x.shape[:2], layer.hidden), F4), np.empty(x.shape, F4)
    cells = np.empty_like(states)
    layer.forward(x, weight, bias, values, c0=np.ascontiguousarray(c0), states=states, cells=cells, values=values)
    return states, cells[0 if reverse else -1].copy(), cells, values


@kernel("lstm_vjp", impl="numba", device="cpu", dtypes="f4", cost=vjp_cost)
def lstm_vjp(
    g: tuple[np.ndarray, np.ndarray],
    y: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    h0: np.ndarray,
    c0: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    present: np.ndarray | None,
    cells: np.ndarray,
    gates: np.ndarray,
    *,
    reverse: bool,
    needs: tuple[bool, ...] = (True,) * 5,
) -> tuple[np.ndarray | None, ...]:
    layer = _Layer("lstm_vjp", x, h0, present, reverse=int(reverse))
    dx, dh, dc = np.empty(x.shape, F4), np.zeros(h0.shape, F4), np.array(g[1], F4)
    layer.backward(
        weight, dx, dh, g=np.ascontiguousarray(g[0]), dx=dx, dc=dc, c0=np.ascontiguousarray(c0), cells=cells,
        values=gates,
    )  # fmt: skip
    return dx, dh, dc, *layer.weight_gradients(dx, y[0], needs[3], bias is not None and needs[4]), None
