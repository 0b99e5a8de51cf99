"""Finding the files of a dataset on this machine, and making sure that they are the right ones.

Every file is known by the SHA-256 of its *unpacked* bytes, so a copy may be gzipped by anybody, or not at
all. It is checked at each load: for MNIST that takes a fraction of a second, while a dataset that is
silently another one costs days.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scratchgen.data.errors import DataError
from scratchgen.data.fetch import download as fetch

ENVIRONMENT = "SCRATCHGEN_DATA"

DataDir = str | os.PathLike[str] | None


class Needs(Protocol):
    """What a dataset needs that does not come with this package."""

    def locate(self, data_dir: DataDir = None) -> Path | None:
        """Where it lies on this machine, or None."""

    def advice(self) -> str:
        """How to get it, in one line."""


@dataclass(frozen=True)
class DataFile:
    """One file: its unpacked name, the SHA-256 of its unpacked bytes, and the address of its original."""

    name: str
    sha256: str
    url: str

    def path_in(self, folder: Path) -> Path | None:
        """The file in `folder`, plain or gzipped, or None."""
        for name in (self.name, self.name + ".gz"):
            if (folder / name).is_file():
                return folder / name
        return None

    def read(self, path: Path) -> bytes:
        """The unpacked and checked bytes of the copy at `path`."""
        return read_checked(path, self.sha256)


@dataclass(frozen=True)
class FileSet:
    """The files of one dataset, which lie together in one folder.

    folders  the names that the folder goes by below a data directory; ours first, then torchvision's
    hint     a way to get the files besides downloading them, if there is one
    """

    name: str
    files: tuple[DataFile, ...]
    folders: tuple[str, ...]
    hint: str = ""

    def places(self, data_dir: DataDir = None) -> list[Path]:
        """The folders in which the files are looked for, best first."""
        roots = [Path(data_dir)] if data_dir is not None else []
        if os.environ.get(ENVIRONMENT):
            roots.append(Path(os.environ[ENVIRONMENT]))
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        roots += [Path(root, "datasets") for root in shared.split(":") if root]
        roots.append(user_cache())
        below = [root / folder for root in roots for folder in self.folders]
        # A directory that was named for this very load may also be the dataset's own folder.
        return ([Path(data_dir)] if data_dir is not None else []) + below

    def locate(self, data_dir: DataDir = None) -> Path | None:
        """The first of the places that holds every file, by name, or None."""
        for folder in self.places(data_dir):
            if all(file.path_in(folder) for file in self.files):
                return folder
        return None

    def read(self, data_dir: DataDir = None, download: bool = False) -> dict[str, bytes]:
        """The unpacked, checked bytes of every file, by name.

        What is not on this machine is fetched if `download` is set, into `data_dir` or else the user's cache.
        Raises DataError: files missing (with all the places looked in), damaged, or not to be had.
        """
        folder = self.locate(data_dir)
        if folder is None:
            if not download:
                raise DataError(self._missing(data_dir))
            folder = self._fetch(data_dir)
        contents = {}
        for file in self.files:
            path = file.path_in(folder)
            assert path is not None, "locate and _fetch give only folders that hold every file"
            contents[file.name] = file.read(path)
        return contents

    def advice(self) -> str:
        """How to get the files, in one line."""
        ways = [f"scratchgen.data.load({self.name!r}, download=True)", self.hint]
        return " or ".join(way for way in ways if way)

    def _fetch(self, data_dir: DataDir) -> Path:
        folder = (Path(data_dir) if data_dir is not None else user_cache()) / self.folders[0]
        for file in self.files:
            if file.path_in(folder) is None:
                suffix = ".gz" if file.url.endswith(".gz") else ""
                fetch(file.url, folder / (file.name + suffix), check=file.read)
        return folder

    def _missing(self, data_dir: DataDir) -> str:
        lines = [f"the dataset {self.name!r} is not on this machine; looked in"]
        for folder in self.places(data_dir):
            absent = [file.name for file in self.files if file.path_in(folder) is None]
            if not folder.is_dir():
                state = "no such folder"
            elif len(absent) == len(self.files):
                state = "none of its files"
            else:
                state = f"{', '.join(absent)} missing"
            lines.append(f"  {folder} ({state})")
        lines += [
            "To get it, do one of:",
            f"  - download it: scratchgen.data.load({self.name!r}, download=True), or --download",
            f"  - put {', '.join(file.name for file in self.files)} (.gz or not) into a folder "
            f"{self.folders[0]!r}, and name the folder above it by data_dir= (--data-dir) "
            f"or by the environment variable {ENVIRONMENT}",
        ]
        if self.hint:
            lines.append(f"  - {self.hint}")
        return "\n".join(lines)


@dataclass(frozen=True)
class PackagedFile:
    """A data file inside another Python package, which one of our extras installs."""

    package: str
    path: str
    sha256: str
    extra: str

    def locate(self, data_dir: DataDir = None) -> Path | None:
        """The file, or None; a package lies where Python looks for it, whatever `data_dir` is."""
        spec = importlib.util.find_spec(self.package)  # finds the package without importing it
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin).parent / self.path
        return path if path.is_file() else None

    def read(self) -> bytes:
        """The unpacked and checked bytes of the file. Raises DataError if it is missing or another."""
        path = self.locate()
        if path is None:
            raise DataError(f"this dataset is in the package {self.package!r}; to get it: {self.advice()}")
        return read_checked(path, self.sha256)

    def advice(self) -> str:
        """The command that installs the package."""
        return f"pip install 'scratchgen[{self.extra}]'"


def user_cache() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/scratchgen`, by default `~/.cache/scratchgen`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scratchgen"


def unpack(path: Path) -> bytes:
    """The bytes of a file, gunzipped if it is a gzip file, whatever its name."""
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file ({error}); delete it and get it again") from error


def read_checked(path: Path, sha256: str) -> bytes:
    """The unpacked bytes of `path`; raises DataError if their SHA-256 is not the expected one."""
    content = unpack(path)
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise DataError(
            f"{path}: wrong checksum: the SHA-256 of its content is\n  {actual}, expected\n  {sha256}\n"
            "The file is damaged or is not the original; delete it and get it again."
        )
    return content
