"""What is measured: a GPU through CuPy, or the emulator, on which the same script can be tried but nothing measured."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from scratchgen.device import cuda_is_available

NO_GPU = (
    "no GPU: this needs an NVIDIA GPU with its driver, and CuPy (pip install 'scratchgen[cuda12]' or "
    "'scratchgen[cuda13]'); to try the script itself in the emulator: --device emu --json FILE"
)
TURN = 0.01  # seconds that a turn should take, so that its ends do not count


class Board:
    """The emulator: NumPy arrays, and tiny sizes."""

    device = "emu"
    xp: Any = np
    small = True
    hopper = True  # it has the instructions of compute capability 9.0

    def synchronize(self) -> None:
        """Wait until all is done."""

    def array(self, a: Any) -> Any:
        """A NumPy array (or a tuple or list of some; anything else as it is) on the device."""
        if isinstance(a, (tuple, list)):
            return type(a)(self.array(x) for x in a)
        return self.to_device(a) if isinstance(a, np.ndarray) else a

    def host(self, a: Any) -> Any:
        """The same back."""
        if isinstance(a, (tuple, list)):
            return type(a)(self.host(x) for x in a)
        return self.to_host(a)

    def to_device(self, a: np.ndarray) -> Any:
        """One array."""
        return a

    def to_host(self, a: Any) -> Any:
        """One array, or None."""
        return a

    def describe(self) -> dict[str, Any]:
        """What a result must say of the device."""
        return {"name": "emulator", "measured": False}

    def turn(self, call: Callable[[], Any], most: int = 1) -> Callable[[], float]:
        """A function that makes some calls, waits for them and gives the seconds of one; each turn as many."""
        self.seconds(call, 1)  # compiles
        once = min(self.seconds(call, 1) for _ in range(2))
        count = min(max(1, round(TURN / max(once, 1e-7))), most)
        return lambda: self.seconds(call, count)

    def seconds(self, call: Callable[[], Any], count: int) -> float:
        """Of one of ``count`` calls in a row, from an idle device to an idle device."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            call()
        self.synchronize()
        return (time.perf_counter() - start) / count


class GPU(Board):
    """The current GPU, through CuPy."""

    device = "cuda"
    small = False

    def __init__(self) -> None:
        import cupy

        self.xp = self.cupy = cupy
        self.hopper = cupy.cuda.Device().compute_capability == "90"

    def synchronize(self) -> None:
        self.cupy.cuda.Device().synchronize()

    def to_device(self, a: np.ndarray) -> Any:
        laid = self.cupy.asarray(np.ascontiguousarray(a.transpose(order := _order(a))))
        return laid.transpose(np.argsort(order).tolist())

    def to_host(self, a: Any) -> Any:
        return a.get() if isinstance(a, self.cupy.ndarray) else a

    def turn(self, call: Callable[[], Any], most: int = 1000) -> Callable[[], float]:
        return super().turn(call, most)

    def describe(self) -> dict[str, Any]:
        runtime = self.cupy.cuda.runtime
        of = runtime.getDeviceProperties(self.cupy.cuda.Device().id)
        found = {
            "name": of["name"].decode(),
            "measured": True,
            "compute_capability": f"{of['major']}.{of['minor']}",
            "multiprocessors": of["multiProcessorCount"],
            "memory_bytes": of["totalGlobalMem"],
            "l2_bytes": of["l2CacheSize"],
            "driver": runtime.driverGetVersion(),
            "runtime": runtime.runtimeGetVersion(),
        }
        return {**found, **_clocks()}


def _order(a: np.ndarray) -> list[int]:
    """Dimensions from the slowest in memory to the fastest: an array lies on the device as it lies here."""
    return sorted(range(a.ndim), key=lambda i: -abs(a.strides[i]))


def _clocks() -> dict[str, str]:
    """Clocks, power and temperature as the driver's own tool tells them, where it is there."""
    asked = ("driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")
    if shutil.which("nvidia-smi") is None:
        return {}
    ran = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader"], capture_output=True, text=True
    )
    first = ran.stdout.splitlines()[:1] if ran.returncode == 0 else []
    return dict(zip(asked, (value.strip() for value in first[0].split(",")))) if first else {}


def find(device: str) -> Board:
    """The device to measure. RuntimeError with one sentence where there is none."""
    if device == "emu":
        return Board()
    if not cuda_is_available():
        raise RuntimeError(NO_GPU)
    return GPU()
