"""Compiling for the emulator: its own library, and every .cu file with its table of kernels, by g++ and only once.

What is compiled is named by a hash of all it is made of, so a changed source is a new file, and two processes that
compile the same thing at once do no harm: each renames a whole file into place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = ("schedule.cpp", "memory.cpp", "collectives.cpp", "counters.cpp", "phases.cpp", "warpgroup.cpp")
HEADERS = ("api.h", "cuda.h", "entry.h", "fiber.h", "state.h")

COMMON = ("-std=c++17", "-O2", "-g1", "-gdwarf-4", "-fPIC", "-shared", "-Wall")
# Every access to memory calls a hook (memory.cpp), as do misaligned casts, indices beyond an array and undefined
# arithmetic. -fno-gnu-unique: a template's __shared__ array is its own library's. -nostdlib: no sanitizer of GCC's own,
# and nothing but __shared__ variables among the zero-initialised data.
KERNEL = (
    *COMMON, "-fvisibility=hidden", "-fno-exceptions", "-fno-strict-aliasing", "-fno-gnu-unique",
    "-fsanitize=thread,alignment,bounds-strict,shift,integer-divide-by-zero,signed-integer-overflow",
    "-nostdlib", "-Wl,-Bsymbolic", "-Wno-unknown-pragmas", "-Wno-unused-but-set-variable",
)  # fmt: skip


@cache
def compiler() -> str:
    """g++, or what the environment variable CXX names. Raises RuntimeError where there is none."""
    name = os.environ.get("CXX", "g++")
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(
            f"device 'emu' compiles CUDA kernels with {name}, which is not on the path; install it "
            "(Debian: apt-get install g++) or name another GCC in the environment variable CXX"
        )
    return found


@cache
def folder() -> Path:
    """Where compiled kernels are kept: ``scratchgen/emulator`` in the user's cache ($XDG_CACHE_HOME or ~/.cache)."""
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scratchgen" / "emulator"
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def _identity() -> bytes:
    """The compiler's version and the emulator's own sources."""
    version = subprocess.run([compiler(), "--version"], capture_output=True, check=True).stdout
    return version + b"".join((HERE / name).read_bytes() for name in (*SOURCES, *HEADERS))


def _compile(target: Path, arguments: Sequence[str]) -> Path:
    """``target``, made by g++ if it is not there."""
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(dir=folder()) as scratch:
        made = Path(scratch) / target.name
        ran = subprocess.run([compiler(), *arguments, "-o", str(made)], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(f"{compiler()} could not compile {target.name}:\n{ran.stderr}")
        os.replace(made, target)
    return target


@cache
def library() -> Path:
    """The emulator's own library."""
    digest = hashlib.sha256(_identity() + repr(COMMON).encode()).hexdigest()[:16]
    sources = [str(HERE / name) for name in SOURCES]
    return _compile(folder() / f"emulator-{digest}.so", [*COMMON, *sources])


def build(source: Path, digest: str, names: Sequence[str], include: Path) -> Path:
    """The library of a .cu file with these kernels in its table. ``digest``: of the file and all that it includes."""
    table = ",\n    ".join(f'Entry<{name}>::named("{name}")' for name in names)
    text = f'#include "{source}"\n#include "emulate/entry.h"\nEMULATE_KERNELS(\n    {table})\n'
    identity = hashlib.sha256(_identity() + repr((digest, text, KERNEL)).encode()).hexdigest()[:16]
    target = folder() / f"{source.stem}-{identity}.so"
    if target.exists():
        return target
    with tempfile.NamedTemporaryFile("w", suffix=".cpp", dir=folder()) as main:
        main.write(text)
        main.flush()
        libraries = ["-x", "none", "-Wl,-rpath,$ORIGIN", str(library()), "-lm", "-lc"]
        return _compile(target, [*KERNEL, f"-I{include}", "-x", "c++", main.name, *libraries])
