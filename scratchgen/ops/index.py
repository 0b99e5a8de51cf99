"""Indexing: getitem and scatter-add are each other's transpose, closed under differentiation."""

from __future__ import annotations

__all__: list[str] = []
