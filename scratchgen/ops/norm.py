"""Batch, layer, group, instance and RMS norm as fused ops."""

from __future__ import annotations

__all__: list[str] = []
