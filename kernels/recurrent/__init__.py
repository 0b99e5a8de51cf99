"""Recurrent layers over whole sequences: RNN, GRU and LSTM."""


from . import cases, reference



__all__ = ["cases", "reference"]
