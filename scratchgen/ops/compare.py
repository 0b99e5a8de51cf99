"""Comparisons, logic, choice and limits: where, clamp, minimum, maximum."""

from __future__ import annotations

__all__: list[str] = []
