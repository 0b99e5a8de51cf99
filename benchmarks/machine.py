"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def cpu_model() -> str:
    """The processor's name as it gives it itself."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1).strip() if found else platform.machine()


def cpu_flags() -> list[str]:
    """The vector extensions that matter to kernels."""
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd")
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return []
    return [flag for flag in wanted if flag in words]


def cpu_slug() -> str:
    """The processor and its vectors as a part of a file name: ``intel-xeon-processor-avx512f``."""
    words = re.sub(r"\((r|tm)\)|cpu|@.*", "", cpu_model().lower())
    widest = [flag for flag in ("asimd", "avx2", "avx512f") if flag in cpu_flags()][-1:]
    return "-".join([*re.findall(r"[a-z0-9]+", words), *widest])


def git_hash() -> str:
    """The commit, with a ``+`` if files that git knows have changed since; empty outside of a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def versions() -> dict[str, str]:
    """Of Python and of what computes, where installed."""
    found = {"python": platform.python_version()}
    for name in ("scratchgen", "numpy", "numba", "llvmlite", "scipy", "torch", "jax"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def header(threads: int) -> dict[str, Any]:
    """The head of a file of results."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_hash(),
        "versions": versions(),
        "cpu": cpu_model(),
        "cpu_flags": cpu_flags(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": list(os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "precision": "float32 inputs, outputs and accumulation; TF32 and bfloat16 do not occur",
    }
