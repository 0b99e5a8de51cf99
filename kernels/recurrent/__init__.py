"""Recurrent layers over whole sequences: RNN, GRU and LSTM."""

from ..registry import provide
from . import cases, reference

provide("scratchgen.kernels.recurrent.cpu", "cpu", "rnn", "rnn_vjp", "gru", "gru_vjp", "lstm", "lstm_vjp")

__all__ = ["cases", "reference"]
