"""In-place changes: a graph that saved an array's old values must refuse to use its new ones.

There is no counter in every tensor. One clock orders everything: an op that is recorded and an array that is changed
each take its next number, so a saved array is stale if its memory was changed at a later number than its node's.
"""

from __future__ import annotations

import itertools
import weakref
from typing import Any

clock = itertools.count(1)

changed_at: dict[int, tuple[int, weakref.ref]] = {}  # id of the memory's owner -> (time of the last change, owner)
last_change = 0


def owner_of(array: Any) -> Any:
    """The object whose memory ``array`` views; arrays that share memory share it."""
    while (base := getattr(array, "base", None)) is not None and type(base).__weakrefoffset__:
        array = base
    return array


def mark_changed(array: Any) -> None:
    """Note that ``array`` was just changed in place, so that graphs which saved its memory refuse to use it."""
    global last_change
    last_change = next(clock)
    owner = owner_of(array)
    key = id(owner)
    known = changed_at.get(key)
    changed_at[key] = (last_change, known[1] if known else weakref.ref(owner, lambda _: changed_at.pop(key, None)))


def changed_since(array: Any, time: int) -> bool:
    """Whether the memory of ``array`` was changed in place after ``time``."""
    return changed_at.get(id(owner_of(array)), (0,))[0] > time
