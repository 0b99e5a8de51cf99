"""Who else has an array: whether it may be kept, or changed in place, without a copy.

That is told by how many refer to it. What the interpreter counts on the way is its own affair, so each number means
something only beside that of a thing which is known to be alone, counted in the same way.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from .device import cpu
from .tensor import wrap


def _references(view: Any) -> int:
    """How many refer to the memory of a view."""
    return sys.getrefcount(view.base)


_ONE_VIEW = _references(np.empty(1)[:])


def alone(array: Any) -> bool:
    """Whether ``array`` has memory of its own: it owns it, or is a view of all of what nobody else refers to."""
    whole = array.base
    if whole is None:
        return True
    alike = type(whole) is type(array) and whole.size == array.size and array.flags.c_contiguous
    del whole
    return alike and _references(array) == _ONE_VIEW


def _held(grads: dict, src: Any) -> tuple[int, int]:
    """How many refer to a tensor that ``grads`` has, and to its array."""
    g = grads[src]
    return sys.getrefcount(g), sys.getrefcount(g.array)


def _held_by_two() -> tuple[int, int]:
    before = wrap(np.empty(1), cpu)
    return _held({0: before}, 0)


_BY_TWO = _held_by_two()


def ours(grads: dict, src: Any) -> bool:
    """Whether only ``grads`` and one variable of the caller's have ``grads[src]``, and it has memory of its own."""
    return grads[src].array.base is None and _held(grads, src) == _BY_TWO
