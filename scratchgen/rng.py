"""Random streams: explicit generators whose whole state is (seed, counter).

The numbers are Philox4x32-10, so they are the same on every device, and a draw can be repeated by going back to the
counter it started from: that is how ``checkpoint`` draws the same dropout masks again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from . import kernels
from .device import Device, cpu

Place = tuple[int, int]  # a generator's seed and counter

_notes: ContextVar[tuple[dict[Generator, Place], ...]] = ContextVar("scratchgen_draws", default=())


class Generator:
    """A stream of random numbers. ``seed`` (any 64-bit integer) names the stream, ``counter`` the place in it."""

    __slots__ = ("__weakref__", "_keys", "counter", "seed")

    def __init__(self, seed: int = 0) -> None:
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Go to the start of stream ``seed``."""
        self.seed = int(seed) & 0xFFFFFFFFFFFFFFFF
        self.counter = 0
        self._keys: dict[Device, Any] = {}
        return self

    def state_dict(self) -> dict[str, int]:
        return {"seed": self.seed, "counter": self.counter}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._go_to((state["seed"], state["counter"]))

    def _go_to(self, place: Place) -> None:
        seed, counter = place
        if seed != self.seed:
            self.manual_seed(seed)
        self.counter = int(counter)

    def spawn(self, index: int) -> Generator:
        """An independent stream, determined by this one's seed and ``index``."""
        words = np.random.SeedSequence(self.seed, spawn_key=(index,)).generate_state(2, np.uint32)
        return Generator(int(words[0]) | int(words[1]) << 32)

    def bits(self, count: int, device: Device = cpu) -> Any:
        """``count`` random uint32."""
        return self._draw("philox_bits", count, 1, device, {})

    def uniform(self, shape: tuple[int, ...], dtype: Any = np.float32, device: Device = cpu) -> Any:
        """An array of numbers uniform on [0, 1)."""
        words = 2 if np.dtype(dtype).itemsize == 8 else 1
        return self._draw("philox_uniform", _size(shape), words, device, {"dtype": np.dtype(dtype)}).reshape(shape)

    def normal(self, shape: tuple[int, ...], dtype: Any = np.float32, device: Device = cpu) -> Any:
        """An array of standard normal numbers."""
        return self._draw("philox_normal", _size(shape), 1, device, {"dtype": np.dtype(dtype)}).reshape(shape)

    def integers(self, low: int, high: int, shape: tuple[int, ...], device: Device = cpu) -> Any:
        """An int64 array uniform on ``low .. high - 1``.

        The probability of each number is off by at most 2^-32 (2^-64 for ranges above 2^32).
        """
        if high <= low:
            raise ValueError(f"integers: the range {low} .. {high - 1} is empty")
        if not -(1 << 63) <= low <= high - 1 < 1 << 63:
            raise ValueError(f"integers: the range {low} .. {high - 1} is not within int64")
        if high - low <= 1 << 32:
            words = self.bits(_size(shape), device).astype(np.uint64)
            offset = (words * np.uint64(high - low)) >> np.uint64(32)
        else:
            offset = self._words64(_size(shape), device)
            if high - low < 1 << 64:
                offset %= np.uint64(high - low)
        return (offset + np.uint64(low % (1 << 64))).astype(np.int64).reshape(shape)  # modulo 2^64, as int64 is

    def permutation(self, n: int, device: Device = cpu) -> Any:
        """A random order of ``0 .. n - 1``, int64."""
        return device.xp.argsort(self._words64(n, device)).astype(np.int64)

    def _words64(self, count: int, device: Device) -> Any:
        bits = self.bits(2 * count, device).astype(np.uint64)
        return (bits[0::2] << np.uint64(32)) | bits[1::2]

    def reserve(self, count: int, device: Device = cpu) -> tuple[Any, int]:
        """Take ``count`` numbers of 32 bits out of the stream, for a kernel to draw: its key and first counter."""
        key = self._keys.get(device)
        if key is None:
            key = self._keys[device] = device.xp.asarray([self.seed], dtype=np.uint64)
        for draws in _notes.get():
            draws.setdefault(self, (self.seed, self.counter))
        start, self.counter = self.counter, self.counter + -(-count // 4)
        return key, start

    def _draw(self, op: str, count: int, words: int, device: Device, attrs: dict[str, Any]) -> Any:
        key, start = self.reserve(count * words, device)
        chosen = kernels.select(op, device.type, (key,), {"counter": start, "count": count, **attrs})
        return chosen.fn(key, counter=start, count=count, **attrs)

    def __repr__(self) -> str:
        return f"Generator(seed={self.seed}, counter={self.counter})"


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, which random ops use when none is given."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the operating system's entropy; returns the seed."""
    chosen = int.from_bytes(os.urandom(8), "little")
    default_generator.manual_seed(chosen)
    return chosen


@contextmanager
def note_draws() -> Iterator[dict[Generator, Place]]:
    """Note where each generator that draws inside stood at its first draw."""
    draws: dict[Generator, Place] = {}
    token = _notes.set((*_notes.get(), draws))
    try:
        yield draws
    finally:
        _notes.reset(token)


@contextmanager
def replay(draws: dict[Generator, Place]) -> Iterator[None]:
    """Draw the noted numbers again inside, then go on from where the generators stand now.

    Numbers drawn again are not noted again: whoever replays the surroundings comes through here anyway.
    """
    now = {generator: (generator.seed, generator.counter) for generator in draws}
    token = _notes.set(())
    for generator, noted in draws.items():
        generator._go_to(noted)
    try:
        yield
    finally:
        _notes.reset(token)
        for generator, stood in now.items():
            generator._go_to(stood)
