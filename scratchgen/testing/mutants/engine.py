"""Bugs planted in the engine, to show that random programs find them."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ... import autograd, changes
from ...gradients import Gradients

# name -> (module or class, function, its text, the text instead)
BUGS: dict[str, tuple[Any, str, str, str]] = {
    "gradient accumulation: the last use of a value wins": (
        Gradients, "give", "self.waiting[src] = g\n", "given[src] = g\n",
    ),
    "gradient accumulation: into an array that another op still reads": (
        Gradients, "give", "if not ours(given, src):", "if not before.shape:",
    ),
    "in-place version: a saved value that was changed is used": (
        changes, "changed_since", "return changed_at", "return False and changed_at",
    ),
    "in-place version: a change through a view goes unseen": (
        changes, "owner_of", "array = base", "break",
    ),
    "un-broadcast: dimensions of 1 take the first of the gradients": (
        autograd, "_conform", "g = g.sum_to_size(like.shape)",
        "g = g.sum_to_size((*g.shape[g.ndim - len(like.shape):],))\n"
        "        for d, n in enumerate(like.shape):\n"
        "            g = g.narrow(d, 0, n)",
    ),
    "un-broadcast: the sum over leading dimensions is a mean": (
        autograd, "_conform", "g = g.sum_to_size(like.shape)",
        "g = g.sum_to_size(like.shape) / (g.shape[0] if g.ndim > len(like.shape) else 1)",
    ),
}  # fmt: skip


@contextmanager
def planted(bug: str) -> Iterator[None]:
    """The engine with one of ``BUGS`` in it, within a ``with`` block."""
    owner, name, before, after = BUGS[bug]
    right: Callable[..., Any] = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(right))
    if source.count(before) != 1:
        raise ValueError(f"{owner.__name__}.{name} has changed: it should contain {before!r} once")
    names = dict(vars(sys.modules[right.__module__]))
    exec(compile(source.replace(before, after), f"<{bug}>", "exec"), names)
    setattr(owner, name, names[name])
    users = [m for m in (autograd,) if getattr(m, name, None) is right and m is not owner]
    for user in users:
        setattr(user, name, names[name])
    try:
        yield
    finally:
        setattr(owner, name, right)
        for user in users:
            setattr(user, name, right)
