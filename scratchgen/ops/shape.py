"""Shape: views, joins, splits, padding."""

from __future__ import annotations

__all__: list[str] = []
