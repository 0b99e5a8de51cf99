"""Softmax in CUDA C++: the ladder's six versions, the derivative, and which of them takes which rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..launch import TYPES, Module, Out, begins_at_multiples_of
from ..layout import from_rows, row_order, to_rows
from ..registry import kernel
from .reference import log_vjp_cost, value_cost, vjp_cost

THREADS = 256  # of a block
# Numbers that a thread keeps and threads that share a row; the first that holds the row is taken.
HELD = [(8, 32), (32, 32), (32, 256)]

MODULE = Module(
    "softmax/softmax.cu",
    *(
        name
        for t in TYPES.values()
        for name in (
            f"softmax_thread<{t}>",
            f"softmax_tree<{t}, {THREADS}>",
            f"softmax_shuffle<{t}, {THREADS}>",
            f"softmax_warp<{t}>",
            *(
                f"softmax_{kind}<{t}, {shape}, {log}>"
                for log in ("false", "true")
                for kind, shape in (
                    *((k, f"{per}, {threads}") for k in ("registers", "vjp_registers") for per, threads in HELD),
                    ("online", THREADS),
                    ("vjp_long", THREADS),
                )
            ),
        )
    ),
)


def _by_rows(run: Callable[..., None], *arrays: Any, dim: int) -> Any:
    """``run(rows of each array, rows of the result)`` along ``dim``, in the memory order of the last array."""
    like = arrays[-1]
    order = row_order(like, dim)
    rows = [to_rows(a, order) for a in arrays]
    out = np.empty_like(rows[-1])
    if out.size:
        run(*rows, out)
    return from_rows(out, like.shape, order)


def _sizes(rows: Any) -> tuple[np.int32, np.int32]:
    return np.int32(rows.shape[0]), np.int32(rows.shape[1])


def _in_packs(*arrays: Any) -> bool:
    """Whether every row of every matrix begins at a multiple of 16 bytes."""
    return all(begins_at_multiples_of(16, a) and a.shape[1] * a.itemsize % 16 == 0 for a in arrays)


def _held(kind: str, log: bool, *matrices: Any) -> bool:
    """Launch version 5, or its derivative, on whichever shape holds a row; False if none does."""
    rows, width = matrices[0].shape
    for per, threads in HELD:
        if width <= per * threads:
            beside = THREADS // threads  # rows of a block
            name = f"softmax_{kind}<{TYPES[matrices[0].dtype.name]}, {per}, {threads}, {str(log).lower()}>"
            aligned = np.int32(_in_packs(*matrices))
            inputs = (*matrices[:-1], Out(matrices[-1]), *_sizes(matrices[0]), aligned)
            MODULE.launch(name, -(-rows // beside), (threads, beside), *inputs)
            return True
    return False


# --- the ladder


def thread_per_row(x: Any, y: Any) -> None:
    """Version 1."""
    MODULE.launch(f"softmax_thread<{TYPES[x.dtype.name]}>", -(-len(x) // 128), 128, x, Out(y), *_sizes(x))


def tree(x: Any, y: Any) -> None:
    """Version 2."""
    MODULE.launch(f"softmax_tree<{TYPES[x.dtype.name]}, {THREADS}>", len(x), THREADS, x, Out(y), *_sizes(x))


def shuffle(x: Any, y: Any) -> None:
    """Version 3."""
    MODULE.launch(f"softmax_shuffle<{TYPES[x.dtype.name]}, {THREADS}>", len(x), THREADS, x, Out(y), *_sizes(x))


def warp_per_row(x: Any, y: Any) -> None:
    """Version 4; rows that do not begin at multiples of 16 bytes go to version 3."""
    if not _in_packs(x, y):
        return shuffle(x, y)
    MODULE.launch(f"softmax_warp<{TYPES[x.dtype.name]}>", -(-len(x) // 8), (32, 8), x, Out(y), *_sizes(x))


def registers(x: Any, y: Any) -> None:
    """Version 5; rows too long for it go to version 6."""
    if not _held("registers", False, x, y):
        online(x, y)


def online(x: Any, y: Any, log: bool = False) -> None:
    """Version 6."""
    name = f"softmax_online<{TYPES[x.dtype.name]}, {THREADS}, {str(log).lower()}>"
    MODULE.launch(name, len(x), THREADS, x, Out(y), *_sizes(x), np.int32(_in_packs(x, y)))


def log_registers(x: Any, y: Any) -> None:
    """Version 5 or 6 of the logarithm."""
    if not _held("registers", True, x, y):
        online(x, y, log=True)


def backward(g: Any, y: Any, dx: Any, log: bool = False) -> None:
    """The derivative, by rows in registers or in two passes."""
    if not _held("vjp_registers", log, g, y, dx):
        name = f"softmax_vjp_long<{TYPES[y.dtype.name]}, {THREADS}, {str(log).lower()}>"
        MODULE.launch(name, len(y), THREADS, g, y, Out(dx), *_sizes(y))


_on_gpu: dict[str, Any] = {"device": "cuda emu", "dtypes": "f4 f2"}
LADDER = {
    "cuda-1-thread-per-row": thread_per_row,
    "cuda-2-tree": tree,
    "cuda-3-shuffle": shuffle,
    "cuda-4-warp-per-row": warp_per_row,
    "cuda-6-online": online,
}


def _step(impl: str, run: Callable[..., None]) -> None:
    @kernel("softmax", impl=impl, study=True, cost=value_cost, **_on_gpu)
    def version(x: Any, *, dim: int) -> Any:
        return _by_rows(run, x, dim=dim)


for _impl, _run in LADDER.items():
    _step(_impl, _run)


@kernel("softmax", impl="cuda", cost=value_cost, **_on_gpu)
def softmax(x: Any, *, dim: int) -> Any:
    """Version 5, or 6 where a row is too long."""
    return _by_rows(registers, x, dim=dim)


@kernel("softmax_vjp", impl="cuda", cost=vjp_cost, **_on_gpu)
def softmax_vjp(g: Any, y: Any, x: None, *, dim: int) -> Any:
    """The derivative."""
    return _by_rows(backward, g, y, dim=dim)


@kernel("log_softmax", impl="cuda", cost=value_cost, **_on_gpu)
def log_softmax(x: Any, *, dim: int) -> Any:
    """Version 5 or 6 of the logarithm."""
    return _by_rows(log_registers, x, dim=dim)


@kernel("log_softmax_vjp", impl="cuda", cost=log_vjp_cost, **_on_gpu)
def log_softmax_vjp(g: Any, y: Any, x: None, *, dim: int) -> Any:
    """The derivative of the logarithm."""
    return _by_rows(lambda g, y, dx: backward(g, y, dx, log=True), g, y, dim=dim)
