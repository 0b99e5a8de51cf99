"""Transcendental and other functions of one argument, and their derivatives."""

from __future__ import annotations

__all__: list[str] = []
