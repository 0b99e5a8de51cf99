"""Dropout layers. They draw from the default generator unless given one, and only in training mode."""

from __future__ import annotations

from .. import ops
from ..rng import Generator
from ..tensor import Tensor
from .module import Module


class _Dropout(Module):
    """``inplace`` is accepted as in torch and changes nothing: results never overwrite inputs."""

    def __init__(self, p: float = 0.5, inplace: bool = False, *, generator: Generator | None = None) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{self._get_name()}: p must be in [0, 1], got {p}")
        self.p, self.inplace, self.generator = p, inplace, generator

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


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


class AlphaDropout(_Dropout):
    """Dropout for SELU, which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""

    def forward(self, input: Tensor) -> Tensor:
        return ops.alpha_dropout(input, self.p, self.training, generator=self.generator)
