"""Errors that a user can mend: shown as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something about the call or its surroundings is wrong; the message says what to do."""


def unknown(what: str, name: str, known: Iterable[str]) -> UserError:
    """An error for a misspelt name, with the closest known one."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(
        f"unknown {what} {name!r}{hint} Known: {', '.join(names)}"
        if hint
        else f"unknown {what} {name!r}; known: {', '.join(names)}"
    )
