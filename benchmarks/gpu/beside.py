"""Kernels beside PyTorch's, CuPy's and JAX's, on arrays that no cache holds, and beside a copy of as many bytes.

All contenders read the same memory, which they share without a copy. They take turns as in ``benchmarks ops``: a turn
is some calls in a row from an idle GPU to an idle GPU, and the median of the ratios of a round counts. What PyTorch has
in one function is held against that; a derivative against PyTorch's own kernel of it, without its graph.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scratchgen import kernels
from scratchgen.kernels import precision
from scratchgen.kernels.compare import deviation, outputs

from .. import paired
from .board import Board
from .roofs import copy_speed, torch_on_gpu
from .rows import ROWS, Beside, Draws
from .tasks import Part, Row, Task

ROUNDS, LEAST = 21, 5
SECONDS = 1.5  # to time a row for


@dataclass(frozen=True)
class Peer:
    """Another library: how it takes an array of ours, and how a function of its is called and waited for."""

    name: str
    module: Any
    take: Callable[[Any], Any]
    prepared: Callable[[Callable], Callable]


def peers(board: Board) -> dict[str, Peer]:
    """Those that are installed and see the GPU; in the emulator NumPy in CuPy's place."""

    def as_it_is(function: Callable) -> Callable:
        return function

    found = {"cupy": Peer("NumPy" if board.xp is np else "CuPy", board.xp, lambda a: a, as_it_is)}
    if board.device == "cuda" and torch_on_gpu():
        import torch

        found["torch"] = Peer("PyTorch", torch, torch.utils.dlpack.from_dlpack, as_it_is)
        found["compiled"] = Peer("torch.compile (Triton)", torch, torch.utils.dlpack.from_dlpack, torch.compile)
    if board.device == "cuda" and importlib.util.find_spec("jax") is not None:
        import jax

        if jax.default_backend() == "gpu":

            def waited(function: Callable) -> Callable:
                compiled = jax.jit(function)
                return lambda *arrays: jax.block_until_ready(compiled(*arrays))

            found["jax"] = Peer("JAX", jax, jax.dlpack.from_dlpack, waited)
    return found


def _calls(row: Beside, board: Board, arrays: tuple, attrs: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """What each library is to do; ours first, under the name ``ours``."""
    kernel, arguments = row.kernel(board.device, arrays, attrs), row.arguments(arrays)
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: kernel.fn(*arguments, **attrs)}
    for name, peer in peers(board).items():
        of = row.peers.get("torch" if name == "compiled" else name)
        if of is None or (name == "compiled" and not row.compiled):
            continue
        theirs = [_taken(peer, a) for a in arrays]
        if row.setup:  # a function of its own, that a peer makes from what it works on
            calls[peer.name] = of(peer.module, *theirs)
        else:
            calls[peer.name] = partial(peer.prepared(partial(of, peer.module)), *theirs)
    if kernel.unasked is not None:  # Hopper's rung: also beside the one that runs on all GPUs
        below = kernels.implementations(row.op, board.device)[kernel.impl.replace("-wgmma", "")]
        calls[f"our {below.impl}"] = lambda: below.fn(*arguments, **attrs)
    return calls


def _taken(peer: Peer, a: Any) -> Any:
    if isinstance(a, (list, tuple)):
        return [_taken(peer, x) for x in a]
    return peer.take(a) if hasattr(a, "dtype") else a


def _measure(row: Beside, board: Board, dtype: str) -> Iterator[Row]:
    before = precision.get_matmul_precision()
    precision.set_matmul_precision("tf32" if row.tf32 else "float32")
    try:
        arrays, attrs = row.make(Draws(board, dtype))
        calls = _calls(row, board, arrays, attrs)
        result: Row = {"case": f"{row.name} {dtype}", "op": row.op, "dtype": dtype, "tf32": row.tf32}
        result["apart"] = None if row.setup or row.random else _apart(board, calls)
        turns = {name: board.turn(call) for name, call in calls.items()}
        few = (3, 1, 0.0) if board.small else (ROUNDS, LEAST, SECONDS)
        samples = paired.rounds(turns, few[0], budget=few[2], least=few[1])
        ours = samples["ours"]
        kernel = row.kernel(board.device, arrays, attrs)
        cost = kernel.cost(*row.arguments(arrays), **attrs) if kernel.cost else None
        seconds = float(np.median(ours))
        result |= {"ms": seconds * 1e3, "samples_ms": [round(s * 1e3, 6) for s in ours.tolist()]}
        if cost:
            speed = cost.bytes / seconds
            result |= {"bytes": cost.bytes, "flops": cost.flops, "bytes_per_second": speed}
            result["of_a_copy"] = speed / copy_speed(board, cost.bytes)
        result["flops_per_second"] = cost.flops / seconds if cost else None
        result["peers"] = [_peer(name, samples[name], ours) for name in calls if name != "ours"]
        result["shows"] = ["ms", "of_a_copy"] if cost and row.memory else ["ms", "flops_per_second"]
        yield result
    finally:
        precision.set_matmul_precision(before)


def _apart(board: Board, calls: dict[str, Callable[[], Any]]) -> float | None:
    """How far our first result is from the first peer's: a check that both do the same."""
    names = [name for name in calls if name != "ours"]
    if not names:
        return None
    ours, theirs = (calls[name]() for name in ("ours", names[0]))
    first = [v[0] if isinstance(v, (tuple, list)) else v for v in (ours, theirs)]
    return deviation(*(_on_host(board, a).astype(np.float64) for a in first))


def _on_host(board: Board, a: Any) -> np.ndarray:
    if hasattr(a, "detach"):
        return np.asarray(a.detach().float().cpu().numpy())
    return outputs(board.host(a))[0]


def _peer(name: str, samples: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    found = paired.ratio(samples, ours)
    return {
        "name": name, "ms": float(np.median(samples)) * 1e3, "ratio": found.median,
        "interval": [found.low, found.high], "samples_ms": [round(s * 1e3, 6) for s in samples.tolist()],
    }  # fmt: skip


def _tasks(board: Board) -> list[Task]:
    return [
        Task(f"{row.name} {dtype}", lambda row=row, dtype=dtype: _measure(row, board, dtype))  # type: ignore[misc]
        for row in ROWS
        for dtype in row.dtypes
    ]


KERNELS = Part("kernels", "kernels beside PyTorch's, CuPy's, Triton's and JAX's, and beside a copy", 170, _tasks)
