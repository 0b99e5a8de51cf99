"""What the steps of a CUDA ladder do to memory, counted in the emulator: ``python -m scratchgen.kernels.model matmul``.

Counts are of a model of the memory system (``emulate.Counters``): sectors of 32 bytes, 32 banks, no cache, no clock.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from .emulate import Counters, emulator

OPS = ("matmul", "conv2d", "attention")
COLUMNS = (
    "step", "read, KB", "sectors", "of those needed", "shared memory, KB", "bank conflicts", "of accesses", "barriers",
)  # fmt: skip
Step = tuple[str, Callable[[], Any]]


def count(run: Callable[[], Any]) -> list[Counters]:
    """The counters of every launch of ``run``."""
    found: list[Counters] = []
    with emulator(counters=found):
        run()
    return found


def conflicts(found: list[Counters]) -> int:
    """Passes through the banks of shared memory beyond one for each access."""
    return sum(c.shared_passes - c.shared_requests for c in found)


def rows(steps: Iterator[Step]) -> Iterator[tuple[str, ...]]:
    """The table's cells, step by step."""
    for name, run in steps:
        found = count(run)

        def total(what: str, found: list[Counters] = found) -> int:
            return sum(getattr(c, what) for c in found)

        yield (
            name,
            f"{total('global_read') / 1024:,.0f}",
            f"{total('global_sectors'):,}",
            f"{total('global_sectors') / total('ideal_sectors'):.2f}",
            f"{(total('shared_read') + total('shared_written')) / 1024:,.0f}",
            f"{conflicts(found):,}",
            f"{total('shared_requests'):,}",
            f"{total('barriers'):,}",
        )


def table(op: str) -> str:
    """The steps of ``op``'s ladder in Markdown. They are what ``ladder()`` of its ``cuda.py`` yields."""
    steps = importlib.import_module(f"{__package__}.{op}.cuda").ladder()
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows(steps)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in OPS:
        raise SystemExit(f"usage: python -m scratchgen.kernels.model {'|'.join(OPS)}")
    print(table(sys.argv[1]))
