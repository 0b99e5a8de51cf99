"""Recurrent layers and cells with torch's arguments, state_dict keys and results: RNN, GRU, LSTM.

Sequences are ``(L, N, features)``, or ``(N, L, features)`` if ``batch_first``, or ``(L, features)`` without a batch.
The product of all inputs with their weights is one; then each layer and direction is one op over the whole sequence.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import ops
from ..device import Device
from ..tensor import Tensor
from . import init
from .module import Module
from .parameter import Parameter

State = tuple[Tensor, ...]  # h, and for the LSTM c


class _Weights(Module):
    """Parameters of gates: uniform within ``+-1 / sqrt(hidden_size)``."""

    gates: ClassVar[int]
    states: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        if input_size < 1 or hidden_size < 1:
            raise ValueError(f"{type(self).__name__}: sizes must be 1 or more, got {input_size} and {hidden_size}")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias

    def _add(self, inputs: int, suffix: str, device: Device | str | None, dtype: Any) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, self.hidden_size)}
        shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {}
        for name, shape in shapes.items():
            setattr(self, name + suffix, Parameter(ops.empty(shape, dtype=dtype, device=device)))

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _run(self, x: Tensor, state: State, suffix: str, present: Tensor | None, reverse: bool) -> tuple[Tensor, State]:
        """All states (T, N, H) of inputs (T, N, features), and the last of each kind (N, H)."""
        w_ih, w_hh = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}")
        b_ih = getattr(self, f"bias_ih{suffix}") if self.bias else None
        b_hh = getattr(self, f"bias_hh{suffix}") if self.bias else None
        return self._sequence(ops.linear(x, w_ih, b_ih), state, w_hh, b_hh, present, reverse)

    def _sequence(
        self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None, present: Tensor | None, reverse: bool
    ) -> tuple[Tensor, State]:
        raise NotImplementedError

    def _zeros(self, like: Tensor, *shape: int) -> State:
        return tuple(ops.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(self.states))


class _RNNGates:
    """``h' = tanh(...)`` or ``relu(...)``."""

    gates: ClassVar[int] = 1
    nonlinearity: str

    def _sequence(
        self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None, present: Tensor | None, reverse: bool
    ) -> tuple[Tensor, State]:
        h = ops.rnn(x, state[0], weight, bias, present, activation=self.nonlinearity, reverse=reverse)
        return h, (h[0 if reverse else -1],)

    def _check_nonlinearity(self, nonlinearity: str) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"{type(self).__name__}: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity


class _GRUGates:
    gates: ClassVar[int] = 3

    def _sequence(
        self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None, present: Tensor | None, reverse: bool
    ) -> tuple[Tensor, State]:
        h = ops.gru(x, state[0], weight, bias, present, reverse=reverse)
        return h, (h[0 if reverse else -1],)


class _LSTMGates:
    gates: ClassVar[int] = 4
    states: ClassVar[int] = 2

    def _sequence(
        self, x: Tensor, state: State, weight: Tensor, bias: Tensor | None, present: Tensor | None, reverse: bool
    ) -> tuple[Tensor, State]:
        h, c = ops.lstm(x, state[0], state[1], weight, bias, present, reverse=reverse)
        return h, (h[0 if reverse else -1], c)


# --- layers


class _Layers(_Weights):
    """Layers over whole sequences, stacked, in one or both directions."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        if num_layers < 1:
            raise ValueError(f"{type(self).__name__}: num_layers must be 1 or more, got {num_layers}")
        if not 0 <= dropout <= 1:
            raise ValueError(f"{type(self).__name__}: dropout must be from 0 to 1, got {dropout}")
        self.num_layers, self.batch_first, self.dropout = num_layers, batch_first, dropout
        self.bidirectional = bidirectional
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                inputs = hidden_size * self._directions if layer else input_size
                self._add(inputs, suffix, device, dtype)
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def _forward(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> tuple[Tensor, State]:
        batched = x.ndim == 3
        self._check(x, hx, lengths)
        if not batched:
            x, hx = x.unsqueeze(1), None if hx is None else tuple(state.unsqueeze(1) for state in hx)
        elif self.batch_first:
            x = x.transpose(0, 1)
        present = None if lengths is None else ops.arange(x.shape[0], device=x.device).unsqueeze(1) < lengths
        first = hx or self._zeros(x, self.num_layers * self._directions, x.shape[1], self.hidden_size)
        last: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = ops.dropout(x, self.dropout)
            found = []
            for suffix in self._suffixes(layer):
                state = tuple(kind[len(last)] for kind in first)
                h, end = self._run(x, state, suffix, present, suffix.endswith("reverse"))
                found.append(h)
                last.append(end)
            x = found[0] if len(found) == 1 else ops.cat(found, -1)
            if present is not None:
                x = ops.where(present.unsqueeze(-1), x, 0)
        ends = tuple(ops.stack(list(kind)) for kind in zip(*last, strict=True))
        if not batched:
            return x.squeeze(1), tuple(state.squeeze(1) for state in ends)
        return x.transpose(0, 1) if self.batch_first else x, ends

    def _check(self, x: Tensor, hx: State | None, lengths: Tensor | None) -> None:
        name = type(self).__name__
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(
                f"{name}: expected (L, N, {self.input_size}) or (L, {self.input_size}), got {list(x.shape)}"
            )
        time, batch = (1, 0) if self.batch_first and x.ndim == 3 else (0, 1)
        if x.shape[time] == 0:
            raise ValueError(f"{name}: a sequence needs at least one step, got {list(x.shape)}")
        stacked = self.num_layers * self._directions
        shape = (stacked, x.shape[batch], self.hidden_size) if x.ndim == 3 else (stacked, self.hidden_size)
        for state in hx or ():
            if state.shape != shape:
                raise ValueError(f"{name}: an initial state must be {list(shape)}, got {list(state.shape)}")
        if lengths is not None and (x.ndim != 3 or lengths.shape != (x.shape[batch],)):
            raise ValueError(f"{name}: lengths must be one number for each row of a batch, got {list(lengths.shape)}")

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, value, usual in (
            ("num_layers", self.num_layers, 1),
            ("bias", self.bias, True),
            ("batch_first", self.batch_first, False),
            ("dropout", self.dropout, 0),
            ("bidirectional", self.bidirectional, False),
        ):
            if value != usual:
                text += f", {name}={value}"
        return text


class RNN(_RNNGates, _Layers):
    """``h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, or ``relu`` (Elman 1990); ``num_layers`` of them stacked.

    ``bidirectional``: a second one from the end to the beginning, its states beside those of the first.
    ``dropout``: between layers, in training.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)
        self._check_nonlinearity(nonlinearity)

    def forward(self, input: Tensor, hx: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All states of the last layer, ``(L, N, directions * H)``, and the last state of each layer and direction,
        ``(num_layers * directions, N, H)``.

        ``hx``: first states, zeros by default. ``lengths`` (N): how many steps of each row are there; the others have
        no part in any state, and zeros for output, as with torch's packed sequences.
        """
        x, (h,) = self._forward(input, None if hx is None else (hx,), lengths)
        return x, h


class GRU(_GRUGates, _Layers):
    """Gated recurrent units (Cho et al. 2014; ``F.gru`` has the equations), ``num_layers`` of them stacked.

    ``bidirectional``: a second one from the end to the beginning, its states beside those of the first.
    ``dropout``: between layers, in training.
    """

    def forward(self, input: Tensor, hx: Tensor | None = None, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As ``RNN.forward``."""
        x, (h,) = self._forward(input, None if hx is None else (hx,), lengths)
        return x, h


class LSTM(_LSTMGates, _Layers):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; ``F.lstm`` has the equations), ``num_layers`` stacked.

    ``bidirectional``: a second one from the end to the beginning, its states beside those of the first.
    ``dropout``: between layers, in training.
    """

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As ``RNN.forward``, with first and last states that are pairs of h and c."""
        x, (h, c) = self._forward(input, hx, lengths)
        return x, (h, c)


# --- cells


class _Cell(_Weights):
    """One step."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._add(input_size, "", device, dtype)
        self.reset_parameters()

    def _forward(self, x: Tensor, hx: State | None) -> State:
        name = type(self).__name__
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"{name}: expected (N, {self.input_size}) or ({self.input_size},), got {list(x.shape)}")
        rows = x if x.ndim == 2 else x.unsqueeze(0)
        shape = (*x.shape[:-1], self.hidden_size)
        for state in hx or ():
            if state.shape != shape:
                raise ValueError(f"{name}: the state must be {list(shape)}, got {list(state.shape)}")
        before = self._zeros(x, *shape) if hx is None else hx
        first = tuple(state.reshape(len(rows), self.hidden_size) for state in before)
        _, last = self._run(rows.unsqueeze(0), first, "", None, False)
        return tuple(state.reshape(shape) for state in last)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        return text if self.bias else f"{text}, bias=False"


class RNNCell(_RNNGates, _Cell):
    """One step of an ``RNN``."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Device | str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self._check_nonlinearity(nonlinearity)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state ``(N, H)`` after ``input`` ``(N, features)``; ``hx`` is the one before, zeros by default."""
        return self._forward(input, None if hx is None else (hx,))[0]


class GRUCell(_GRUGates, _Cell):
    """One step of a ``GRU``."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The state ``(N, H)`` after ``input`` ``(N, features)``; ``hx`` is the one before, zeros by default."""
        return self._forward(input, None if hx is None else (hx,))[0]


class LSTMCell(_LSTMGates, _Cell):
    """One step of an ``LSTM``."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The states h and c, ``(N, H)`` each, after ``input`` ``(N, features)``; ``hx`` are the ones before."""
        h, c = self._forward(input, hx)
        return h, c
