"""What every CUDA kernel has passed: compiled for each architecture, emulated, run on a GPU; and what it takes of one.

``evidence.json`` beside this file keeps it, for each .cu file with the hash of its sources: an observation of other
sources counts for nothing. ``python -m scratchgen.kernels.gates``, in a checkout, compiles every kernel with NVRTC,
runs the tests of all of them in the emulator, and writes the file.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any

from . import nvrtc
from .launch import ROOT, Module, all_modules
from .nvrtc import Resources
from .registry import Kernel

EVIDENCE = ROOT / "evidence.json"
# A multiprocessor hides the latency of memory by warps that wait in turn. Fewer are enough for kernels that have a
# block's work under way in asynchronous copies, and whose sums fill the registers.
LEAST_WARPS = dict.fromkeys(
    ("attention/attention.cu", "attention/backward.cu", "attention/hopper.cu", "matmul/hopper.cu"), 8
)
USUAL_WARPS = 16
_SHARED = {"sm_80": 164 << 10, "sm_90a": 228 << 10}  # bytes of a multiprocessor, of which a block takes 1 KB for itself
_REGISTERS, _WARPS, _BLOCKS, _THREADS = 65536, 64, 32, 256


def resident_warps(used: Resources, architecture: str) -> int:
    """How many warps of 256-thread blocks fit a multiprocessor at once, of 64; dynamic shared memory not counted."""
    per_warp = -(-used.registers * 32 // 256) * 256  # registers are handed out in lots
    warps = _THREADS // 32
    blocks = min(
        _BLOCKS, _WARPS // warps, _REGISTERS // (per_warp * warps), _SHARED[architecture] // (used.shared + 1024)
    )
    return blocks * warps


def resources(module: Module, architecture: str) -> dict[str, list[int]]:
    """Of each kernel of a module: registers, spilled bytes, static shared bytes, resident warps."""
    found = nvrtc.compile_kernels(module.path.read_text(), module.kernels, architecture, ROOT)
    return {
        kernel: [used.registers, used.spilled, used.shared, resident_warps(used, architecture)]
        for kernel, used in found.items()
    }


@cache
def evidence() -> dict[str, Any]:
    """What ``evidence.json`` says, by .cu file."""
    return json.loads(EVIDENCE.read_text()) if EVIDENCE.exists() else {}


def status(kernel: Kernel) -> str:
    """What a CUDA kernel has passed as its sources are now; empty for other kernels.

    ``compiled, emulated``, or ``run on H200 (2026-11-24, source 0123abcd)``; ``-`` if the sources are newer.
    """
    module = getattr(sys.modules[kernel.fn.__module__], "MODULE", None)
    if module is None:
        return ""
    found = evidence().get(module.file, {})
    if found.get("digest") != module.digest:
        return "-"
    runs = [run for run in found["gpu"] if run["digest"] == module.digest]
    if runs:
        return f"run on {runs[-1]['name']} ({runs[-1]['date']}, source {module.digest})"
    return "compiled, emulated" if found["emulated"] else "compiled"


def observe() -> dict[str, Any]:
    """Compile everything, test everything in the emulator, and say what is to be written."""
    files = [
        f"tests/test_cuda_{part}.py" for part in ("kernels", "products", "attention", "hopper", "many", "channels")
    ]
    tested = subprocess.run([sys.executable, "-m", "pytest", "-q", *files], cwd=ROOT.parent)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {
        file: {
            "digest": module.digest,
            "nvrtc": nvrtc.version(),
            "columns": ["registers", "spilled bytes", "shared bytes", "resident warps"],
            "resources": {architecture: resources(module, architecture) for architecture in module.architectures},
            "emulated": today if tested.returncode == 0 else None,
            "gpu": evidence().get(file, {}).get("gpu", []),
        }
        for file, module in all_modules().items()
    }


def note_run(files: Iterable[str], name: str) -> None:
    """Keep that the kernels of these .cu files, as they are now, computed on the GPU ``name`` what they should."""
    found = evidence()
    modules, today = all_modules(), datetime.datetime.now(datetime.UTC).date().isoformat()
    for file in files:
        run = {"name": name, "date": today, "digest": modules[file].digest}
        before = found[file]["gpu"]
        found[file]["gpu"] = [r for r in before if (r["name"], r["digest"]) != (name, run["digest"])] + [run]
    EVIDENCE.write_text(_written(found))


def _written(found: dict[str, Any]) -> str:
    """JSON with a line for each kernel, so that a change shows in a diff."""
    text = json.dumps(found, indent=1)
    lines: list[str] = []
    depth = 0
    for line in text.splitlines():
        joined = line.strip()
        if depth:
            lines[-1] += ("" if joined in "]," or lines[-1].endswith("[") else " ") + joined
        else:
            lines.append(line)
        depth += joined.count("[") - joined.count("]")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    EVIDENCE.write_text(_written(observe()))
