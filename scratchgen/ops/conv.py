"""Convolution: three ops closed under differentiation."""

from __future__ import annotations

__all__: list[str] = []
