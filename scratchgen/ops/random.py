"""Random draws from explicit generators."""

from __future__ import annotations

__all__: list[str] = []
