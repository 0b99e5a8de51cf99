"""Ctrl-C between two steps instead of in the middle of one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """Context manager that turns the first Ctrl-C into ``asked = True``; the second one stops at once, as usual.

    A step that is broken off half-way leaves weights, optimizer and generators from different moments: a state that
    could be saved but not resumed from exactly. Only the main thread gets signals; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Interrupt:
        self._in_main = threading.current_thread() is threading.main_thread()
        if self._in_main:
            self._usual: Any = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._in_main:
            signal.signal(signal.SIGINT, self._usual)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        signal.signal(signal.SIGINT, self._usual)
