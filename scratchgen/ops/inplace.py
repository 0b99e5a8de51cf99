"""Changes in place, for leaves and buffers only: graphs that saved the old values refuse to run."""

from __future__ import annotations

__all__: list[str] = []
