"""New tensors: zeros, ones, arange, linspace, eye and their like."""

from __future__ import annotations

__all__: list[str] = []
