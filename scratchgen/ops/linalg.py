"""Linear algebra: inverse, solve, Cholesky, QR, determinants."""

from __future__ import annotations

__all__: list[str] = []
