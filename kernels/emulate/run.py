"""Launching a kernel in the emulator: NumPy arrays in, an error that names the line, or the counters out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .build import library
from .errors import EmulatorError, source_line

INPUT, OUTPUT, CHANGED, VALUE = range(4)


@dataclass(frozen=True)
class Settings:
    """How kernels are run. ``schedule``: 0 is the fair one, any other number an adversarial one of its own.

    ``checks``: look at every access. Without, a wrong kernel does what it would do on a GPU that is kind to it.
    ``counters``: a list to which every launch appends its ``Counters``.
    """

    schedule: int = 1
    checks: bool = True
    counters: list[Counters] | None = None


@dataclass(frozen=True)
class Counters:
    """What one launch did, and what a **model** of the memory system makes of it; nothing here is measured.

    Bytes loaded and stored; warp-wide requests to global memory, the 32-byte sectors they touch and the fewest they
    could; requests to shared memory and the passes they take (more passes than requests: bank conflicts).
    """

    kernel: str
    global_read: int
    global_written: int
    shared_read: int
    shared_written: int
    global_requests: int
    global_sectors: int
    ideal_sectors: int
    shared_requests: int
    shared_passes: int
    barriers: int
    collectives: int
    tensor_flops: int


_DEFAULT = Settings()
_settings: ContextVar[Settings] = ContextVar("emulator")


@contextmanager
def emulator(*, schedule: int = 1, checks: bool = True, counters: list[Counters] | None = None) -> Iterator[None]:
    """Run the kernels of a ``with`` block by other settings: see ``Settings``."""
    token = _settings.set(Settings(schedule, checks, counters))
    try:
        yield
    finally:
        _settings.reset(token)


# --- the structures of api.h


class _Parameter(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_char), ("bytes", ctypes.c_int)]


class _Entry(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("call", ctypes.c_void_p),
        ("parameters", ctypes.POINTER(_Parameter)),
        ("count", ctypes.c_int),
    ]


class _Argument(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
        ("mode", ctypes.c_int),
        ("item", ctypes.c_int),
        ("misplaced", ctypes.c_int),
        ("held_at", ctypes.c_void_p),
    ]


class _Options(ctypes.Structure):
    _fields_ = [("seed", ctypes.c_uint), ("checks", ctypes.c_int), ("counters", ctypes.c_int)]


class _Report(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_char * 32),
        ("message", ctypes.c_char * 480),
        ("pc", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
        ("block", ctypes.c_uint * 3),
        ("thread", ctypes.c_uint * 3),
        ("in_block", ctypes.c_int),
    ]


_COUNTED = [f.name for f in fields(Counters)[1:]]


class _Counters(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _COUNTED]


class _Image(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_void_p), ("shared", ctypes.c_void_p), ("end", ctypes.c_void_p)]


@cache
def _launch_function() -> Any:
    # PyDLL keeps the interpreter's lock: the emulator has one state for all threads of Python.
    function = ctypes.PyDLL(str(library())).emulate_launch
    function.argtypes = [
        ctypes.POINTER(_Entry),
        ctypes.POINTER(_Image),
        ctypes.POINTER(ctypes.c_uint * 3),
        ctypes.POINTER(ctypes.c_uint * 3),
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.POINTER(_Options),
        ctypes.POINTER(_Report),
        ctypes.POINTER(_Counters),
    ]
    function.restype = ctypes.c_int
    return function


class Library:
    """The kernels of one .cu file, compiled for the emulator."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _launch_function()  # loads the emulator's library
        self._library = ctypes.PyDLL(str(path))
        self._library.emulate_image.restype = _Image
        self._image = self._library.emulate_image()
        self._entries: dict[str, _Entry] = {}
        table = ctypes.cast(self._library.emulate_kernels, ctypes.POINTER(_Entry))
        i = 0
        while table[i].name:
            self._entries[table[i].name.decode()] = table[i]
            i += 1

    def kinds(self, kernel: str) -> list[str]:
        """Of each parameter: "p" pointer, "c" pointer to const, "i", "u", "f" numbers, "s" a struct."""
        entry = self._entries[kernel]
        return [entry.parameters[i].kind.decode() for i in range(entry.count)]

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[tuple[Any, int]],
        shared: int,
        held: Sequence[tuple[np.ndarray, Any, int]] = (),
    ) -> None:
        """Run ``kernel`` to its end. ``arguments``: values and their modes (INPUT, OUTPUT, CHANGED, VALUE).

        ``held``: arrays that the kernel reaches by addresses in structs: the place of the address in a VALUE, the
        array, its mode.

        Raises EmulatorError with what the kernel does wrong, TypeError where arguments do not fit its parameters.
        """
        settings = _settings.get(_DEFAULT)
        entry = self._entries[kernel]
        packed, kept = _pack(kernel, entry, arguments, held)
        arguments = [*arguments, *((array, mode) for _, array, mode in held)]
        report, counters = _Report(), _Counters()
        options = _Options(settings.schedule, settings.checks, settings.counters is not None)
        failed = _launch_function()(
            entry, self._image, (ctypes.c_uint * 3)(*grid), (ctypes.c_uint * 3)(*block), shared,
            packed, len(arguments), options, report, counters,
        )  # fmt: skip
        if failed:
            raise self._error(kernel, report, arguments)
        del kept
        if settings.counters is not None:
            settings.counters.append(Counters(kernel, **{name: getattr(counters, name) for name in _COUNTED}))

    def _error(self, kernel: str, report: _Report, arguments: Sequence[tuple[Any, int]]) -> EmulatorError:
        message = report.message.decode()
        for i, (value, mode) in enumerate(arguments):
            if mode != VALUE and value is not None:
                message = message.replace(f"{{argument {i}}}", f"argument {i}, {value.dtype}{list(value.shape)}")
        inside = bool(report.in_block)
        return EmulatorError(
            report.kind.decode(),
            kernel,
            message,
            source_line(self.path, report.pc),
            source_line(self.path, report.other),
            tuple(report.block) if inside else None,
            tuple(report.thread) if inside else None,
        )


def _pack(
    kernel: str,
    entry: _Entry,
    arguments: Sequence[tuple[Any, int]],
    held: Sequence[tuple[np.ndarray, Any, int]],
) -> tuple[Any, list[Any]]:
    """The arguments as C sees them, and what must live until the launch is over."""
    if len(arguments) != entry.count:
        raise TypeError(f"{kernel} takes {entry.count} arguments, got {len(arguments)}")
    packed, kept = (_Argument * max(1, len(arguments) + len(held)))(), []
    for i, (value, mode) in enumerate(arguments):
        kind, size = entry.parameters[i].kind.decode(), entry.parameters[i].bytes
        if mode == VALUE:
            holder = np.asarray(value)
            if holder.dtype.kind.replace("V", "s") != kind or holder.itemsize != size:
                raise TypeError(f"{kernel}: parameter {i} is a {_named(kind, size)}, got {holder.dtype}")
            kept.append(holder)
            packed[i] = _Argument(holder.ctypes.data, holder.nbytes, mode, size, 0, None)
            continue
        if kind not in "pc" or (mode != INPUT and kind == "c"):
            raise TypeError(f"{kernel}: parameter {i} is a {_named(kind, size)}, got an array to write to or read")
        if value is None:
            packed[i] = _Argument(None, 0, mode, size, 0, None)
            continue
        if value.itemsize != size:
            raise TypeError(f"{kernel}: parameter {i} is a {_named(kind, size)}, got an array of {value.dtype}")
        kept.append(value)
        packed[i] = _Argument(value.ctypes.data, value.nbytes, mode, size, misplaced(value), None)
    for i, (place, array, mode) in enumerate(held, len(arguments)):
        kept += [place, array]
        packed[i] = _Argument(
            array.ctypes.data, array.nbytes, mode, array.itemsize, misplaced(array), place.ctypes.data
        )
    return packed, kept


def _named(kind: str, size: int) -> str:
    names = {"p": "pointer to", "c": "pointer to const", "i": "signed integer of", "u": "unsigned integer of"}
    return f"{names.get(kind, 'float of')} {size} bytes"


def misplaced(array: np.ndarray) -> int:
    """How far from a multiple of 256 bytes the array would begin on a device, where every allocation begins at one."""
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return (array.ctypes.data - owner.ctypes.data) % 256
