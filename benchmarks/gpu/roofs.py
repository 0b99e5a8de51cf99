"""Roofs: copies, multiplications, a matrix product of bfloat16. And what it costs to launch anything at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scratchgen.kernels.launch import Module, Out

from .board import Board
from .tasks import Part, Row, Task

MODULE = Module(str(Path(__file__).with_name("roof.cu")), "copy", "multiply_add", "nothing")
REPEATS = 15
THREADS = 256


def best(board: Board, call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """The fewest seconds of a call: what the hardware can do, not what it does on average."""
    turn = board.turn(call)
    return min(turn() for _ in range(1 if board.small else repeats))


def _copies(board: Board) -> Iterator[Row]:
    """Of 2 MB to 1 GB, read and written together."""
    for power in (12,) if board.small else range(21, 31):
        size = 1 << power  # bytes read and written
        x = board.xp.zeros(size // 8, np.float32)
        y = board.xp.empty_like(x)
        packs = x.size // 4
        blocks = min(-(-packs // THREADS), 132 * 16)

        def run(x: Any = x, y: Any = y, packs: int = packs, blocks: int = blocks) -> None:
            MODULE.launch("copy", blocks, THREADS, x, Out(y), np.int64(packs))

        seconds = best(board, run)
        yield {
            "case": f"copy of {size >> 10} KB", "bytes": size, "bytes_per_second": size / seconds,
            "shows": ["bytes_per_second"],
        }  # fmt: skip


def copy_speed(board: Board, size: float) -> float:
    """Bytes a second of a copy that moves about ``size`` bytes, but more than the caches hold."""
    floats = 512 if board.small else max(int(size), 1 << 28) // 8
    x = board.xp.zeros(floats, np.float32)
    y = board.xp.empty_like(x)
    blocks = min(-(-floats // (4 * THREADS)), 132 * 16)
    seconds = best(board, lambda: MODULE.launch("copy", blocks, THREADS, x, Out(y), np.int64(floats // 4)), 5)
    return 8 * floats / seconds


def _multiplications(board: Board) -> Iterator[Row]:
    blocks, steps = (2, 4) if board.small else (132 * 32, 4096)
    out = board.xp.empty(blocks * THREADS, np.float32)
    numbers = np.int32(steps), np.float32(0.999)
    seconds = best(board, lambda: MODULE.launch("multiply_add", blocks, THREADS, Out(out), *numbers))
    flops = 2.0 * 16 * steps * blocks * THREADS
    yield {
        "case": "multiply and add, float32", "flops": flops, "flops_per_second": flops / seconds,
        "shows": ["flops_per_second"],
    }  # fmt: skip


def _product(board: Board) -> Iterator[Row]:
    """Of square matrices by the vendor's library, through PyTorch (bfloat16) or CuPy (float16)."""
    n = 16 if board.small else 8192
    if board.device == "cuda" and torch_on_gpu():
        import torch

        a = torch.randn(n, n, device="cuda", dtype=torch.bfloat16)
        call, says = (lambda: a @ a), "bfloat16, PyTorch"
    else:
        b = board.xp.zeros((n, n), np.float16 if board.device == "cuda" else np.float32)
        call, says = (lambda: b @ b), "float16, CuPy" if board.device == "cuda" else "float32, NumPy"
    flops = 2.0 * n**3
    yield {
        "case": f"matrix product {n} ({says})", "flops": flops, "flops_per_second": flops / best(board, call),
        "shows": ["flops_per_second"],
    }  # fmt: skip


def torch_on_gpu() -> bool:
    """Whether PyTorch is there and sees a GPU."""
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


# --- launches


def _launches(board: Board) -> list[tuple[str, Callable[[], Callable[[], Any]]]]:
    """Names, and what makes a call that launches one kernel with nothing to do."""
    one = board.xp.zeros(1, np.float32)

    def ours() -> Callable[[], Any]:
        return lambda: MODULE.launch("nothing", 1, 32, Out(one))

    def raw() -> Callable[[], Any]:
        kernel = board.xp.RawKernel('extern "C" __global__ void f(float* x) { *x = 1; }', "f")
        return lambda: kernel((1,), (32,), (one,))

    def elementwise() -> Callable[[], Any]:
        return lambda: board.xp.add(one, one)

    def numba() -> Callable[[], Any]:
        from numba import cuda

        @cuda.jit
        def f(x):  # type: ignore[no-untyped-def]  # compiled
            x[0] = 1

        return lambda: f[1, 32](one)

    def torch() -> Callable[[], Any]:
        import torch

        x = torch.zeros(1, device="cuda")
        return lambda: torch.add(x, x)

    found = [("ours, through launch.py", ours), ("elementwise of the array library", elementwise)]
    if board.device == "cuda":
        found += [("CuPy RawKernel", raw), ("Numba CUDA", numba)]
        found += [("PyTorch elementwise", torch)] if torch_on_gpu() else []
    return found


def _launch(board: Board, name: str, make: Callable[[], Callable[[], Any]]) -> Iterator[Row]:
    call = make()
    call()
    count = 2 if board.small else 2000
    samples = [board.seconds(call, count) * 1e6 for _ in range(1 if board.small else 7)]
    yield {
        "case": f"a launch: {name}", "microseconds": float(np.median(samples)), "samples": samples,
        "shows": ["microseconds"],
    }  # fmt: skip


ROOFS = Part(
    "roofs", "copy, multiply-add, product of bfloat16 matrices", 40,
    lambda board: [
        Task("copies", lambda: _copies(board)),
        Task("multiplications", lambda: _multiplications(board)),
        Task("product", lambda: _product(board)),
    ],
)  # fmt: skip
OVERHEAD = Part(
    "overhead", "what a launch costs: ours, CuPy's, Numba's, PyTorch's", 20,
    lambda board: [
        Task(name, lambda name=name, make=make: _launch(board, name, make))  # type: ignore[misc]
        for name, make in _launches(board)
    ],
)  # fmt: skip
