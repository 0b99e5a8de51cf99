"""NVRTC, NVIDIA's compiler as a library, by ctypes: CUDA C++ to machine code, with no GPU and no driver.

The wheel ``nvidia-cuda-nvrtc`` has it; a CUDA toolkit's own is taken where that is not installed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


class CompileError(RuntimeError):
    """What NVRTC has against a source, as it says it."""


@dataclass(frozen=True)
class Resources:
    """What one kernel takes of a multiprocessor, from the assembler's report. Bytes; ``shared`` is the static part."""

    registers: int
    spilled: int
    shared: int


@cache
def library() -> Any:
    """The loaded library. Raises RuntimeError if it is not installed."""
    for name in ("nvidia.cu13", "nvidia.cuda_nvrtc"):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            continue
        for folder in (spec and spec.submodule_search_locations) or ():
            for file in sorted(Path(folder, "lib").glob("libnvrtc.so.*")):
                return ctypes.CDLL(str(file))
    if found := ctypes.util.find_library("nvrtc"):
        return ctypes.CDLL(found)
    raise RuntimeError("compiling CUDA kernels needs NVRTC: pip install nvidia-cuda-nvrtc")


def is_available() -> bool:
    """Whether the library can be loaded."""
    try:
        library()
    except (RuntimeError, OSError):
        return False
    return True


def version() -> str:
    """NVRTC's version, for instance ``13.0``."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def _call(function: str, *arguments: Any) -> int:
    return getattr(library(), function)(*arguments)


def _text(size: str, get: str, program: Any) -> bytes:
    count = ctypes.c_size_t()
    _call(size, program, ctypes.byref(count))
    buffer = ctypes.create_string_buffer(count.value)
    _call(get, program, buffer)
    return buffer.raw


def compile_kernels(
    text: str, kernels: Sequence[str], architecture: str, include: Path, options: Sequence[str] = ()
) -> dict[str, Resources]:
    """Compile CUDA C++ to machine code for ``architecture`` (``sm_80``) and say what each of ``kernels`` takes.

    Raises CompileError with the compiler's log: for a syntax error, for an instruction the architecture does not have,
    and for products of warpgroups (wgmma) that the assembler makes wait for each other, since other instructions touch
    their sums in between: such a kernel would be right, and a waste of its tensor cores.
    """
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None)
    try:
        for kernel in kernels:
            _call("nvrtcAddNameExpression", program, kernel.encode())
        flags = [
            f"-arch={architecture}", "-std=c++17", f"-I{include}", "--ptxas-options=-v", *options,
        ]  # fmt: skip
        encoded = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        failed = _call("nvrtcCompileProgram", program, len(flags), encoded)
        log = _text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program).rstrip(b"\0").decode()
        if failed or "wgmma.mma_async instructions are serialized" in log:
            raise CompileError(log)
        reports = _parse(log)
        found = {}
        for kernel in kernels:
            name = ctypes.c_char_p()
            _call("nvrtcGetLoweredName", program, kernel.encode(), ctypes.byref(name))
            found[kernel] = reports[(name.value or b"").decode()]
        return found
    finally:
        _call("nvrtcDestroyProgram", ctypes.byref(program))


def _parse(log: str) -> dict[str, Resources]:
    """The assembler's report on each entry function, by its mangled name."""
    found = {}
    for part in re.split(r"Compiling entry function ", log)[1:]:
        name = re.match(r"'([^']+)'", part)
        used = re.search(r"Used (\d+) registers", part)
        if name is None or used is None:
            raise CompileError(f"the assembler's report is not in the form known here:\n{log}")
        shared = re.search(r"(\d+) bytes smem", part)
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", part)
        found[name[1]] = Resources(int(used[1]), sum(map(int, spills)), int(shared[1]) if shared else 0)
    return found
