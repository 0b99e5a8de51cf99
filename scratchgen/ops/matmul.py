"""Matrix products with NumPy's broadcasting."""

from __future__ import annotations

__all__: list[str] = []
