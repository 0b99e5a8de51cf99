"""Scaled dot-product attention as a fused op."""

from __future__ import annotations

__all__: list[str] = []
