"""Parts and tasks: what the script does, in pieces that are kept when it is cut off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .board import Board

Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """``run()`` gives the rows of one piece of work."""

    name: str
    run: Callable[[], Iterable[Row]]


@dataclass(frozen=True)
class Part:
    """``tasks(board)`` lists the work. ``seconds``: it may take; what is then left over waits for another run."""

    name: str
    says: str
    seconds: float
    tasks: Callable[[Board], list[Task]] = field(repr=False)


def work(part: Part, board: Board, done: set[str], seconds: float) -> Iterator[tuple[str, list[Row]]]:
    """Do the tasks of a part that are not done, until its time is over: names, and rows with part, task and date.

    What a task raises is its result: a row whose ``failed`` says so. The others go on.
    """
    start = time.monotonic()
    for task in part.tasks(board):
        if task.name in done:
            continue
        if time.monotonic() - start > seconds:
            return
        began = time.monotonic()
        try:
            rows = list(task.run())
        except Exception as problem:  # whatever it is, a GPU's minutes are not to be lost for it
            rows = [{"case": task.name, "failed": f"{type(problem).__name__}: {problem}"[:2000]}]
        took = round(time.monotonic() - began, 3)
        for row in rows:
            row.setdefault("failed", None)
            row |= {"part": part.name, "task": task.name, "took": took}
        yield task.name, rows
