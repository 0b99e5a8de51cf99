"""The one way to launch a CUDA kernel: on a GPU through CuPy, or in the emulator where the arrays are NumPy's.

    softmax = Module("softmax/softmax.cu", "softmax_naive<float>", "softmax_naive<half_t>")
    softmax.launch("softmax_naive<float>", grid, block, x, Out(y), np.int32(rows), np.int32(width))

Nothing is compiled before the first launch, and CuPy is imported only where an array of its comes in.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from . import emulate
from .arrays import array_module
from .tensor_map import Boxes

ROOT = Path(__file__).parent
TYPES = {"float32": "float", "float16": "half_t", "bfloat16": "bfloat_t"}  # the kernels' names for NumPy's dtypes
MOST_THREADS = 1024
MOST_SHARED = 227 << 10  # on Hopper; Ampere has 163 KB
ARCHITECTURES = ("sm_80", "sm_90a")
HOPPER = ("sm_90a",)  # the architectures of a module of which no other GPU has the instructions
MODULES: dict[str, Module] = {}  # every module made so far, by its file


@dataclass(frozen=True)
class Out:
    """An argument that the kernel writes, every element, and does not read before."""

    array: Any


@dataclass(frozen=True)
class Changed:
    """An argument that the kernel reads and writes."""

    array: Any


@dataclass(frozen=True)
class Holding:
    """A struct passed by value that holds addresses of arrays, for kernels that take any number of them.

    ``record``: one structured number; its field ``address``, pointers in an array, is filled in here. ``arrays``: a row
    of arrays (or ``Out``, ``Changed``) for each row of it, as many as there are.
    """

    record: np.ndarray
    arrays: Sequence[Sequence[Any]]

    def places(self) -> Iterator[tuple[np.ndarray, Any]]:
        """Where in the record the address of each array belongs, and the array."""
        for addresses, row in zip(self.record["address"], self.arrays):
            for i, array in enumerate(row):
                yield addresses[i : i + 1], array


class Module:
    """A .cu file, named relative to this folder, and those instantiations of its kernels that are used.

    ``architectures``: for which it is compiled, and the only ones if they are not the usual two.
    """

    def __init__(self, file: str, *kernels: str, architectures: tuple[str, ...] = ARCHITECTURES) -> None:
        self.file = file
        self.kernels = kernels
        self.architectures = architectures
        self.path = ROOT / file
        MODULES[file] = self

    @cached_property
    def sources(self) -> dict[str, str]:
        """The file and all that it includes, by name, without the emulator's side of them."""
        return read_sources(self.path)

    @cached_property
    def digest(self) -> str:
        """A hash of the sources: what an observation of these kernels is an observation of."""
        return hashlib.sha256(repr(sorted(self.sources.items())).encode()).hexdigest()[:16]

    def launch(
        self, kernel: str, grid: int | Sequence[int], block: int | Sequence[int], *arguments: Any, shared: int = 0
    ) -> None:
        """Run ``kernel`` over ``grid`` blocks of ``block`` threads, with ``shared`` bytes of dynamic shared memory.

        Arguments are contiguous arrays (``Out`` or ``Changed`` if the kernel writes them; None is a null pointer),
        NumPy scalars of exactly the parameter's type, structs that hold addresses (``Holding``), and arrays that are
        read by boxes (``Boxes``). An empty grid does nothing.
        """
        if kernel not in self.kernels:
            raise KeyError(f"{self.file} has no kernel {kernel!r}; it has: {', '.join(self.kernels)}")
        grid, block = _three(grid), _three(block)
        if 0 in grid:
            return
        if prod(block) > MOST_THREADS:
            raise ValueError(f"{kernel}: {prod(block):,} threads; a block has at most {MOST_THREADS:,}")
        if shared > MOST_SHARED:
            raise ValueError(f"{kernel}: {shared:,} bytes of shared memory; a block has at most {MOST_SHARED:,}")
        given = [a for argument in arguments for a in _reached(argument)]
        if any(isinstance(a, np.ndarray) and not a.flags.writeable for a in _written(given)):
            raise ValueError(f"{kernel}: an array to write to is read-only")
        arrays = [_bare(a) for a in given]
        for a in arrays:
            if hasattr(a, "flags") and a.ndim and not a.flags.c_contiguous:
                raise ValueError(f"{kernel}: arrays must be contiguous, got strides {a.strides} of shape {a.shape}")
        if array_module(*arrays) is np:
            self._emulate(kernel, grid, block, arguments, shared)
        else:
            self._on_gpu(kernel, grid, block, arguments, shared)

    def _emulate(self, kernel: str, grid: Any, block: Any, arguments: Sequence[Any], shared: int) -> None:
        passed: list[tuple[Any, int]] = []
        held = []
        for a in arguments:
            if isinstance(a, Holding):
                passed.append((a.record, emulate.VALUE))
                held += [(place, *_mode(array)) for place, array in a.places()]
            elif isinstance(a, Boxes):
                record = a.record()
                passed.append((record, emulate.VALUE))
                held.append((record["array"], a.array, emulate.INPUT))
            else:
                passed.append(_mode(a))
        self._library.launch(kernel, grid, block, passed, shared, held)

    @cached_property
    def _library(self) -> Any:
        return emulate.Library(emulate.build(self.path, self.digest, self.kernels, ROOT))

    def _on_gpu(self, kernel: str, grid: Any, block: Any, arguments: Sequence[Any], shared: int) -> None:
        function = self._gpu_module.get_function(kernel)
        if shared > 32 << 10:  # with the static part it may be more than the 48 KB that need not be asked for
            function.max_dynamic_shared_size_bytes = shared
        function(grid, block, tuple(_on_device(a) for a in arguments), shared_mem=shared)

    @cached_property
    def _gpu_module(self) -> Any:
        import cupy

        options = ("-std=c++17", f"-I{ROOT}", *(["-arch=sm_90a"] if self.architectures == HOPPER else []))
        return cupy.RawModule(code=self.path.read_text(), options=options, name_expressions=list(self.kernels))


def _bare(argument: Any) -> Any:
    return argument.array if isinstance(argument, (Out, Changed)) else argument


def _reached(argument: Any) -> list[Any]:
    """An argument, or the arrays whose addresses it holds."""
    if isinstance(argument, Boxes):
        return [argument.array]
    return [a for _, a in argument.places()] if isinstance(argument, Holding) else [argument]


def _written(arguments: Sequence[Any]) -> list[Any]:
    return [a.array for a in arguments if isinstance(a, (Out, Changed))]


def _mode(argument: Any) -> tuple[Any, int]:
    """What the emulator is given: the array or number, and what the kernel may do with it."""
    if isinstance(argument, Out):
        return argument.array, emulate.OUTPUT
    if isinstance(argument, Changed):
        return argument.array, emulate.CHANGED
    reads = argument is None or isinstance(argument, np.ndarray)
    return argument, emulate.INPUT if reads else emulate.VALUE


def _on_device(argument: Any) -> Any:
    """What CuPy is given."""
    if isinstance(argument, Boxes):
        return argument.encoded()
    if isinstance(argument, Holding):
        for place, array in argument.places():
            place[0] = _bare(array).data.ptr
        return argument.record[()]
    bare = _bare(argument)
    return 0 if bare is None else bare


def _three(size: int | Sequence[int]) -> tuple[int, ...]:
    sizes = (size,) if isinstance(size, int) else tuple(int(n) for n in size)
    return sizes + (1,) * (3 - len(sizes))


def begins_at_multiples_of(bytes: int, array: Any) -> bool:
    """Whether the array's first element lies at a multiple of ``bytes``: on a GPU every allocation does."""
    address = emulate.misplaced(array) if isinstance(array, np.ndarray) else array.data.ptr
    return address % bytes == 0


def in_whole_chunks(x: Any) -> Any:
    """``x`` [..., width], contiguous, or a copy whose rows begin at multiples of 16 bytes, filled up with zeros."""
    if missing := -x.shape[-1] % (16 // x.itemsize):
        wide = array_module(x).zeros((*x.shape[:-1], x.shape[-1] + missing), x.dtype)
        wide[..., : x.shape[-1]] = x
        return wide
    return x if begins_at_multiples_of(16, x) else x.copy()


def on_hopper(array: Any) -> bool:
    """Whether the array lies on a GPU of compute capability 9.0, the only ones with its instructions."""
    return array_module(array) is not np and array.device.compute_capability == "90"


def blocks_for(count: int, each: int = 1, threads: int = 256) -> tuple[int, int]:
    """A grid and a block for ``count`` elements of which a thread takes ``each``."""
    return -(-count // (each * threads)), threads


def read_sources(path: Path) -> dict[str, str]:
    """The text of a CUDA source and of all that it includes from this folder, but for the emulator's headers."""
    found: dict[str, str] = {}
    waiting = [path]
    while waiting:
        here = waiting.pop()
        name = here.relative_to(ROOT).as_posix() if here.is_relative_to(ROOT) else here.name
        if name in found:
            continue
        found[name] = here.read_text()
        included = re.findall(r'^#include "([^"]+)"', found[name], re.MULTILINE)
        waiting += [ROOT / file for file in included if not file.startswith("emulate/")]
    return found


def all_modules() -> dict[str, Module]:
    """Every module of every op: imports the ``cuda*.py`` of each folder."""
    for file in sorted(ROOT.glob("*/cuda*.py")):
        importlib.import_module(f"{__package__}.{file.parent.name}.{file.stem}")
    return {name: MODULES[name] for name in sorted(MODULES) if MODULES[name].path.is_relative_to(ROOT)}
