"""A worker process: one library in one memory layout, blocked on a pipe until it is its turn.

The driver's ``Worker`` calls the methods of a ``Bench``, ``StepBench`` or ``QualityBench`` in it. Between turns the
process is stopped (SIGSTOP): threads that spin while they wait for work, as OpenMP's do by default, would take the core
from the library whose turn it is. So each library can keep its own way of waiting, which is part of its speed.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple


class Setting(NamedTuple):
    """What a worker runs: the library's name and the layout of its images."""

    library: str
    layout: str


OURS = "scratchgen"
SETTINGS = {
    OURS: Setting("scratchgen", "channels-last"),
    "torch channels-last": Setting("torch", "channels-last"),
    "torch NCHW": Setting("torch", "NCHW"),
    "torch channels-last, default optimizer": Setting("torch", "channels-last"),
    "torch NCHW, default optimizer": Setting("torch", "NCHW"),
    "torch.compile": Setting("torch.compile", "channels-last"),
    "jax": Setting("jax", "NCHW"),
}


class WorkerError(Exception):
    """A call failed in a worker: ``summary`` is its error, the message holds the traceback."""

    def __init__(self, summary: str, details: str = "") -> None:
        super().__init__(f"{summary}\n{details}")
        self.summary = summary


def environment(threads: int) -> dict[str, str]:
    """So many threads in every library; all else as the user has it."""
    names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "SCRATCHGEN")
    root = str(Path(__file__).resolve().parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        **{f"{name}_NUM_THREADS": str(threads) for name in names},
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }


class Worker:
    """The driver's end: ``worker.call("open", ...)`` runs a method in the process and returns what it returned."""

    def __init__(self, name: str, threads: int, bench: str = "ops") -> None:
        self.name = name
        self.setting = SETTINGS[name]
        command = [sys.executable, "-m", "benchmarks.worker", name, bench, str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(threads)
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        self.version: str = self._receive()
        self._stop()

    def call(self, method: str, *arguments: Any) -> Any:
        """Let the process run, and stop it again when it has answered."""
        self.process.send_signal(signal.SIGCONT)
        try:
            pickle.dump((method, arguments), self._to)
            self._to.flush()
            return self._receive()
        finally:
            self._stop()

    def _receive(self) -> Any:
        try:
            failed, value = pickle.load(self._from)
        except EOFError:
            raise WorkerError(f"the worker {self.name!r} ended, status {self.process.wait()}") from None
        if failed:
            summary, details = value
            raise WorkerError(f"{self.name}: {summary}", details)
        return value

    def _stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._to.close()
        self._from.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def make_library(name: str, threads: int) -> Any:
    """The library of a setting, in this process."""
    if name == "jax":
        from .jax_library import Jax

        return Jax()
    from .library import CompiledTorch, Scratchgen, Torch

    if name == OURS:
        return Scratchgen()
    layout = SETTINGS[name].layout == "channels-last"
    kind = CompiledTorch if name == "torch.compile" else Torch
    return kind(layout, fused="default optimizer" not in name, threads=threads)


def make_bench(name: str, bench: str, threads: int) -> Any:
    """What a worker process holds."""
    if bench == "quality":
        from .quality import QualityBench

        return QualityBench(name)
    if name == "jax":  # has no other way to say how many threads: it takes as many as there are cores for it
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    library = make_library(name, threads)
    if bench == "steps":
        from .stepping import StepBench

        return StepBench(library)
    if name == "jax":
        from .jax_library import JaxBench

        return JaxBench(library)
    from .running import Bench

    return Bench(library)


def serve(bench: Any, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer calls until the driver closes the pipe."""
    while True:
        try:
            method, arguments = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (False, getattr(bench, method)(*arguments))
        except Exception as error:
            summary = traceback.format_exception_only(error)[0].splitlines()[0]
            answer = (True, (summary, traceback.format_exc()))
        pickle.dump(answer, answers)
        answers.flush()


def main() -> None:
    """``python -m benchmarks.worker NAME BENCH THREADS``."""
    name, bench, threads = sys.argv[1:]
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    made = make_bench(name, bench, int(threads))
    pickle.dump((False, made.version()), answers)
    answers.flush()
    serve(made, sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
