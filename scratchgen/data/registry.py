"""The table of datasets: what each is called, what it is, where it comes from, and how to build it."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from scratchgen.data.dataset import Dataset
from scratchgen.data.errors import DataError
from scratchgen.data.files import DataDir, Needs

KINDS = ("images", "captioned images", "points", "text", "pairs")

Build = TypeVar("Build", bound=Callable[..., Dataset[Any]])


@dataclass(frozen=True)
class About:
    """What there is to say of a dataset on any machine.

    kind    one of `KINDS`
    size    rows that training may see + test rows
    shape   of one row
    source  who made it; `terms` is the licence
    """

    name: str
    kind: str
    what: str
    size: str
    shape: str
    source: str
    terms: str


@dataclass(frozen=True)
class Description(About):
    """A dataset on this machine; `where` is a path, "built in", or how to get it."""

    available: bool
    where: str


@dataclass(frozen=True)
class Entry:
    """One line of the table; `needs` is None for what is built in."""

    about: About
    needs: Needs | None
    build: Callable[..., Dataset[Any]]


_entries: dict[str, Entry] = {}


def dataset(
    name: str,
    *,
    kind: str,
    what: str,
    size: str,
    shape: str,
    source: str,
    terms: str,
    needs: Needs | None = None,
) -> Callable[[Build], Build]:
    """Enter the decorated function into the table as the builder of the dataset `name`."""

    def enter(build: Build) -> Build:
        if name in _entries:
            raise ValueError(f"the dataset {name!r} is already in the table")
        _entries[name] = Entry(About(name, kind, what, size, shape, source, terms), needs, build)
        return build

    return enter


def names() -> list[str]:
    """The names that `load` takes, kind by kind."""
    return sorted(_entries, key=lambda name: KINDS.index(_entries[name].about.kind))  # a stable sort


def load(name: str, data_dir: DataDir = None, seed: int = 0, download: bool = False, **options: Any) -> Dataset[Any]:
    """The dataset `name`: an ImageDataset, ShapesDataset, PointDataset, TextDataset or PairDataset.

    Every one has `train` and `validation` (disjoint, together `trainval`) and `test`.

    data_dir  looked in first for the files of a set, before $SCRATCHGEN_DATA, the system's dataset folders
              and the user's cache
    seed      of what is generated; real data and its splits are the same for every seed
    download  fetch what is missing, into `data_dir` or else the user's cache
    options   of the dataset's own builder, e.g. `load("addition", digits=3)`

    Raises DataError if there is no such dataset or it cannot be had, TypeError for an option that it lacks.
    """
    if name not in _entries:
        close = difflib.get_close_matches(name, _entries, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(f"there is no dataset {name!r}.{guess} The datasets are: {', '.join(names())}")
    build = _entries[name].build
    accepted = inspect.signature(build).parameters
    common = {"data_dir": data_dir, "seed": seed, "download": download}
    unknown = [option for option in options if option not in accepted]
    if unknown:
        own = [parameter for parameter in accepted if parameter not in common]
        raise TypeError(f"load({name!r}): no option {', '.join(unknown)}; it has: {', '.join(own) or 'none'}")
    return build(**{key: value for key, value in common.items() if key in accepted}, **options)


def describe(data_dir: DataDir = None) -> list[Description]:
    """One Description for each dataset, in the order of `names`; looks for files but does not read them."""
    return [_describe(_entries[name], data_dir) for name in names()]


def _describe(entry: Entry, data_dir: DataDir) -> Description:
    if entry.needs is None:
        available, where = True, "built in"
    else:
        path = entry.needs.locate(data_dir)
        available, where = path is not None, str(path) if path is not None else entry.needs.advice()
    return Description(**vars(entry.about), available=available, where=where)
