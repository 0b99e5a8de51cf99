"""CUDA kernels on the CPU: compiled by g++, threads as fibers, every access checked. See docs/cuda-without-a-gpu.md."""

from .build import build
from .errors import EmulatorError
from .run import CHANGED, INPUT, OUTPUT, VALUE, Counters, Library, emulator, misplaced

__all__ = [
    "CHANGED",
    "INPUT",
    "OUTPUT",
    "VALUE",
    "Counters",
    "EmulatorError",
    "Library",
    "build",
    "emulator",
    "misplaced",
]
