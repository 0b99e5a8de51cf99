"""Softmax, log-softmax, logsumexp as fused ops."""

from __future__ import annotations

__all__: list[str] = []
