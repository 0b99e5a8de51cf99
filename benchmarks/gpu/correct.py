"""Whether every kernel computes on the GPU what its reference says in float64, and what it computes in the emulator."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen import kernels
from scratchgen.kernels import gates, precision
from scratchgen.kernels.compare import TOLERANCE, Case, cast, deviation, drawn, outputs
from scratchgen.kernels.emulate import emulator
from scratchgen.kernels.launch import HOPPER, Module

from .. import machine
from .board import Board
from .tasks import Part, Row, Task

EMULATED = 1 << 15  # numbers of a case that the emulator takes too: it would take too long over larger ones
SANITIZED = ("softmax", "layer_norm_vjp", "group_norm_silu_vjp", "sum", "cat", "matmul", "conv2d")
DTYPES = ("float32", "float16")
_UPDATES = {"step": 3, "lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "decoupled": True}
# Ops on many arrays, and in place: columns of arrays, options, and which columns change. Their sums are not compared.
IN_PLACE: dict[str, tuple[int, dict[str, Any], tuple[int, ...]]] = {
    "adam_many": (4, _UPDATES, (0, 2, 3)),
    "ema_many": (2, {"decay": 0.9}, (0,)),
    "norm_many": (1, {}, ()),
}


def _implementations(op: str, board: Board) -> list[kernels.Kernel]:
    """Those in CUDA, study versions included; in the emulator not Numba's, and nothing that this GPU cannot run."""
    found = kernels.implementations(op, board.device).values()
    on_device = [k for k in found if k.device != "any" and (board.device == "cuda" or "emu" in k.device.split())]
    return [k for k in on_device if board.hopper or (module := _module(k)) is None or module.architectures != HOPPER]


def _module(kernel: kernels.Kernel) -> Module | None:
    return getattr(sys.modules[kernel.fn.__module__], "MODULE", None)


def file_of(kernel: kernels.Kernel) -> str | None:
    """The .cu file of a kernel; None for those in Numba CUDA."""
    module = _module(kernel)
    return None if module is None else module.file


def _size(case: Case) -> int:
    return sum(a.size for a in case.arrays if isinstance(a, np.ndarray))


def _check(op: str, board: Board) -> Iterator[Row]:
    """A row for each implementation and dtype: the worst of all cases."""
    for kernel in _implementations(op, board):
        before = precision.get_matmul_precision()
        precision.set_matmul_precision("tf32" if kernel.impl.endswith("tf32") else "float32")
        try:
            for dtype in DTYPES:
                if kernel.accepts(np.dtype(dtype)):
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", "Grid size")  # Numba's, that small cases are small
                        row = _compare(op, kernel, board, dtype)
                    yield row
        finally:
            precision.set_matmul_precision(before)


def _compare(op: str, kernel: kernels.Kernel, board: Board, dtype: str) -> Row:
    truth_of = kernels.implementations(op, board.device)["reference"].fn
    worst, from_emulator, cases, emulated = ("", 0.0), 0.0, 0, 0
    tolerance = TOLERANCE[dtype] * kernel.looseness
    for case in drawn(op):
        arrays = tuple(cast(a, dtype) for a in case.arrays)
        if (board.small and _size(case) > EMULATED) or not (kernel.when is None or kernel.when(*arrays, **case.attrs)):
            continue
        attrs = {name: board.array(value) for name, value in case.attrs.items()}
        got = outputs(board.host(kernel.fn(*board.array(arrays), **attrs)))
        truth = outputs(truth_of(*case.arrays, **case.attrs))
        error = max((deviation(a, b) for a, b in zip(got, truth, strict=True)), default=0.0)
        cases += 1
        if not error <= worst[1]:  # a NaN too
            worst = (case.name, error)
        if "emu" in kernel.device.split() and _size(case) <= EMULATED:
            with emulator(schedule=0, checks=False):
                there = outputs(kernel.fn(*arrays, **case.attrs))
            apart = max((deviation(a, b) for a, b in zip(got, there, strict=True)), default=0.0)
            from_emulator, emulated = max(from_emulator, apart), emulated + 1
    failed = None if worst[1] <= tolerance else f"{worst[0]}: error {worst[1]:.1e} is above {tolerance:.0e}"
    return {
        "case": f"{op} {kernel.impl} {dtype}", "op": op, "impl": kernel.impl, "file": file_of(kernel), "cases": cases,
        "error": worst[1], "tolerance": tolerance, "emulated_cases": emulated, "from_emulator": from_emulator,
        "failed": failed, "shows": ["cases", "error", "from_emulator"],
    }  # fmt: skip


def _check_in_place(op: str, board: Board) -> Iterator[Row]:
    """Of arrays of all kinds of lengths; more of them than one launch takes."""
    count, options, changed = IN_PLACE[op]
    sizes = [1, 7, 4096, 4097, 9000, *[3] * 90]
    kernel = kernels.implementations(op, board.device)["cuda"]
    for dtype in DTYPES:
        rng = np.random.default_rng(0)
        columns = [[(np.abs(rng.standard_normal(n)) + 0.5).astype(dtype) for n in sizes] for _ in range(count)]
        truth: Any = [[a.astype(np.float64) for a in column] for column in columns]
        mine: Any = [board.array(column) for column in columns]
        right = kernels.implementations(op, board.device)["reference"].fn(*truth, **options)
        result = kernel.fn(*mine, **options)
        pairs = [(a, b) for c in changed for a, b in zip(board.host(mine[c]), truth[c])]
        pairs += [] if changed else [(board.host(result), right)]
        error = max(deviation(a, b) for a, b in pairs)
        tolerance = TOLERANCE[dtype]
        yield {
            "case": f"{op} cuda {dtype}", "op": op, "impl": "cuda", "file": file_of(kernel), "cases": len(sizes),
            "error": error, "tolerance": tolerance,
            "failed": None if error <= tolerance else f"error {error:.1e} is above {tolerance:.0e}",
            "shows": ["cases", "error"],
        }  # fmt: skip


def _sanitize(tool: str) -> Iterator[Row]:
    """NVIDIA's own checker over some kernels in a process of its own."""
    program = shutil.which("compute-sanitizer")
    row: Row = {"case": f"compute-sanitizer {tool}", "installed": program is not None, "shows": ["installed"]}
    if program is None:
        yield row
        return
    code = (
        "from scratchgen import kernels; from benchmarks.gpu.board import GPU; from benchmarks.gpu import correct\n"
        f"for op in {SANITIZED!r}:\n    correct.run_small(op, GPU())\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        ran = subprocess.run(
            [program, "--tool", tool, "--log-file", str(log), "--error-exitcode", "9", sys.executable, "-c", code],
            cwd=machine.ROOT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        said = log.read_text()[-2000:] if log.exists() else ""
    found = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (\d+)", said)
    row["errors"] = int(found[1]) if found else None
    row["failed"] = None if ran.returncode == 0 else f"exit status {ran.returncode}: {(said or ran.stderr)[-500:]}"
    yield {**row, "shows": ["installed", "errors"]}


def run_small(op: str, board: Board) -> None:
    """The kernel that runs ``op``, on its small cases."""
    kernel = kernels.implementations(op, board.device)["cuda"]
    for case in drawn(op):
        arrays = tuple(cast(a, "float32") for a in case.arrays)
        if _size(case) <= 4096 and (kernel.when is None or kernel.when(*arrays, **case.attrs)):
            kernel.fn(*board.array(arrays), **case.attrs)
    board.synchronize()


def _tasks(board: Board) -> list[Task]:
    ops = [op for op in kernels.comparable() if _implementations(op, board)]
    found = [Task(op, lambda op=op: _check(op, board)) for op in ops]  # type: ignore[misc]
    found += [Task(op, lambda op=op: _check_in_place(op, board)) for op in IN_PLACE]  # type: ignore[misc]
    if board.device == "cuda":
        tools = ("memcheck", "racecheck")
        found += [Task(f"sanitizer {tool}", lambda tool=tool: _sanitize(tool)) for tool in tools]  # type: ignore[misc]
    return found


def note(rows: list[Row], board: Board, name: str) -> list[str]:
    """Let ``scratchgen kernels`` say which files' kernels have run on this GPU: those whose ops have all passed."""
    given = [row for row in rows if row["part"] == "correct" and row.get("file")]
    ops: dict[str, set[str]] = {}
    for op in [*kernels.comparable(), *IN_PLACE]:
        for kernel in _implementations(op, board):
            if (file := file_of(kernel)) is not None:
                ops.setdefault(file, set()).add(op)
    failed = {row["file"] for row in given if row["failed"]}
    done = {op for row in given for op in [row["op"]]}
    passed = [file for file, needed in ops.items() if needed <= done and file not in failed]
    gates.note_run(passed, name)
    return passed


CORRECT = Part(
    "correct", "every kernel against float64 and against the emulator; compute-sanitizer where present", 170, _tasks
)
