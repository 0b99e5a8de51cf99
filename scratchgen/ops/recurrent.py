"""Recurrent layers over whole sequences as fused ops: RNN, GRU, LSTM.

Sequences are (T, N, ...), time first. An op takes what the inputs contribute to the gates, ``x W_ih' + b_ih`` for all
steps in one product, and runs the recurrence. Its composite is the textbook's step, once for each time; that is also
what higher derivatives differentiate.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..declare import fused
from ..dtypes import bool_
from ..tensor import Tensor
from .activation import relu, sigmoid, tanh
from .compare import where
from .join import stack
from .matmul import linear
from .precision import widened

__all__ = ["gru", "lstm", "rnn"]


def _order(x: Tensor, reverse: bool) -> Iterable[int]:
    steps = range(x.shape[0])
    return reversed(steps) if reverse else steps


def _hold(present: Tensor | None, t: int, new: Tensor, old: Tensor) -> Tensor:
    """The new state of the rows that are there, the old one of the others."""
    return new if present is None else where(present[t].unsqueeze(-1), new, old)


def _in_time(states: list[Tensor], reverse: bool) -> Tensor:
    return stack(states[::-1] if reverse else states)


@fused("y x h0 weight bias present")
@widened
def _rnn(
    x: Tensor,
    h0: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    *,
    activation: str,
    reverse: bool,
) -> Tensor:
    states, h = [], h0
    for t in _order(x, reverse):
        z = x[t] + linear(h, weight, bias)
        h = _hold(present, t, tanh(z) if activation == "tanh" else relu(z), h)
        states.append(h)
    return _in_time(states, reverse)


@fused("y x h0 weight bias present", auxiliary=1)
@widened
def _gru(
    x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None, present: Tensor | None, *, reverse: bool
) -> Tensor:
    states, h = [], h0
    for t in _order(x, reverse):
        given, product = x[t].chunk(3, -1), linear(h, weight, bias).chunk(3, -1)
        r, z = sigmoid(given[0] + product[0]), sigmoid(given[1] + product[1])
        n = tanh(given[2] + r * product[2])
        h = _hold(present, t, n + z * (h - n), h)
        states.append(h)
    return _in_time(states, reverse)


@fused("y x h0 c0 weight bias present", auxiliary=2, several=2)
@widened
def _lstm(
    x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, bias: Tensor | None, present: Tensor | None, *, reverse: bool
) -> tuple[Tensor, Tensor]:
    states, h, c = [], h0, c0
    for t in _order(x, reverse):
        i, f, g, o = (x[t] + linear(h, weight, bias)).chunk(4, -1)
        new = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = _hold(present, t, sigmoid(o) * tanh(new), h)
        c = _hold(present, t, new, c)
        states.append(h)
    return _in_time(states, reverse), c


def rnn(
    input: Tensor,
    h0: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    present: Tensor | None = None,
    *,
    activation: str = "tanh",
    reverse: bool = False,
) -> Tensor:
    """``h_t = tanh(input_t + weight h_{t-1} + bias)`` for every step, or ``relu`` (Elman 1990).

    ``input`` (T, N, H), the inputs' own part of it; ``h0`` (N, H); ``weight`` (H, H): all states, (T, N, H).
    ``present`` (T, N) bools: a row that is not there keeps its state. ``reverse`` begins with the last step.
    """
    if activation not in ("tanh", "relu"):
        raise ValueError(f"rnn: activation must be 'tanh' or 'relu', got {activation!r}")
    _check("rnn", 1, input, weight, bias, present, h0=h0)
    return _rnn(input, h0, weight, bias, present, activation=activation, reverse=reverse)


def gru(
    input: Tensor,
    h0: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    present: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """Gated recurrent units (Cho et al. 2014) with the reset gate after the product, as torch and cuDNN have it:

        r, z = sigmoid(input + weight h + bias),  n = tanh(input_n + r (weight_n h + bias_n)),  h' = (1 - z) n + z h

    ``input`` (T, N, 3 H), gates r, z, n side by side; ``weight`` (3 H, H). All else as in ``rnn``.
    """
    _check("gru", 3, input, weight, bias, present, h0=h0)
    return _gru(input, h0, weight, bias, present, reverse=reverse)


def lstm(
    input: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    present: Tensor | None = None,
    *,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):

        i, f, o = sigmoid(input + weight h + bias),  g = tanh(...),  c' = f c + i g,  h' = o tanh(c')

    ``input`` (T, N, 4 H), gates i, f, g, o side by side; ``weight`` (4 H, H); ``c0`` (N, H). All states h (T, N, H),
    and the last cell state c (N, H). All else as in ``rnn``.
    """
    _check("lstm", 4, input, weight, bias, present, h0=h0, c0=c0)
    states, last = _lstm(input, h0, c0, weight, bias, present, reverse=reverse)
    return states, last


def _check(
    op: str,
    gates: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    present: Tensor | None,
    **states: Tensor,
) -> None:
    if weight.ndim != 2 or weight.shape[0] != gates * weight.shape[1]:
        raise ValueError(f"{op}: weight must be ({gates} H, H), got {list(weight.shape)}")
    rows, size = weight.shape
    if input.ndim != 3 or input.shape[2] != rows or input.shape[0] == 0:
        raise ValueError(f"{op}: input must be (T, N, {rows}) with T of 1 or more, got {list(input.shape)}")
    expected: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {"bias": (bias, (rows,))}
    expected["present"] = (present, input.shape[:2])
    expected |= {name: (state, (input.shape[1], size)) for name, state in states.items()}
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise ValueError(f"{op}: {name} must be {list(shape)}, got {list(tensor.shape)}")
        wanted = bool_ if name == "present" else input.dtype
        if tensor.dtype != wanted:
            raise TypeError(f"{op}: {name} must be {wanted}, as the input is {input.dtype}; got {tensor.dtype}")
    if weight.dtype != input.dtype:
        raise TypeError(f"{op}: input and weight must have one dtype, got {input.dtype} and {weight.dtype}")
