"""Dropout layers. They draw from the default generator unless given one, and only in training mode."""

from __future__ import annotations

from .. import ops
from ..rng import Generator
from ..tensor import Tensor
from .module import Module


class _Dropout(Module):
    def __init__(self, p: float = 0.5, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{self._get_name()}: p must be in [0, 1], got {p}")
        self.p = p
        self.generator = generator

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropout):
    """Zeros each element with probability ``p``, scales the others by ``1 / (1 - p)`` (Srivastava et al. 2014)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout(input, self.p, self.training, generator=self.generator)


class Dropout1d(_Dropout):
    """Drops whole channels of ``(N, C, L)`` or ``(C, L)``."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout1d(input, self.p, self.training, generator=self.generator)


class Dropout2d(_Dropout):
    """Drops whole channels of ``(N, C, H, W)`` or ``(C, H, W)`` (Tompson et al. 2015)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.dropout2d(input, self.p, self.training, generator=self.generator)
