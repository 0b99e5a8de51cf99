"""What the emulator finds wrong with a kernel, in words that lead to the line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

WRAPPERS = ("ptx.cuh", "hopper.cuh", "ring.cuh", "cuda.h", "api.h")  # headers under a kernel's own lines


class EmulatorError(RuntimeError):
    """A kernel did what CUDA forbids, or forgot what it promised.

    ``kind``: "out of bounds", "misaligned", "race", "uninitialised", "missing wait", "missing fence",
    "unwritten output", "write to an input", "barrier divergence", "warp divergence", "wrong mask", "too many arrivals",
    "deadlock", "arithmetic" or "assertion".
    ``location``: "file:line" of the kernel's source, or None where no single line is to blame. ``block`` and ``thread``
    are those that ran, or None. ``other``: the "file:line" of the access that a race is with, or None.
    """

    def __init__(
        self,
        kind: str,
        kernel: str,
        message: str,
        location: str | None = None,
        other: str | None = None,
        block: tuple[int, ...] | None = None,
        thread: tuple[int, ...] | None = None,
    ) -> None:
        where = f" at {location}" if location else ""
        who = f", block {block}, thread {thread}" if block is not None else ""
        at_other = f" (at {other})" if other else ""
        super().__init__(f"{kind} in {kernel}{where}{who}: {message}{at_other}")
        self.kind, self.kernel = kind, kernel
        self.location, self.other, self.block, self.thread = location, other, block, thread


def source_line(library: Path, pc: int) -> str | None:
    """The line of the .cu file that the call before ``pc`` was compiled from; addr2line comes with every g++.

    Of the frames inlined there it is the innermost that belongs to a kernel, not to the wrappers and headers below.
    """
    tool = shutil.which("addr2line")
    if tool is None or not pc:
        return None
    ran = subprocess.run([tool, "-i", "-e", str(library), hex(pc - 1)], capture_output=True, text=True)
    for frame in ran.stdout.splitlines():
        path, _, line = re.sub(r" \(discriminator \d+\)", "", frame).rpartition(":")
        if line.isdigit() and Path(path).name not in WRAPPERS:
            return f"{Path(path).name}:{line}"
    return None
