"""The public face: names, descriptions, loading, and what holds for every dataset that is built in."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scratchgen import data
from scratchgen.data.dataset import stratified_rows
from scratchgen.data.registry import KINDS

NAMES = {
    "digits", "mnist-5k", "mnist", "fashion-mnist", "stacked-digits", "shapes", "ring8", "grid25", "moons",
    "rings", "manual", "tinyshakespeare", "dates", "copy", "reverse", "sort", "addition", "multi30k",
}  # fmt: skip
BUILT_IN = sorted(NAMES - {"mnist-5k", "mnist", "fashion-mnist", "tinyshakespeare", "multi30k"})


def rows_of(split: Any) -> list[bytes]:
    """Each row of a split, all its columns together, as bytes to compare and to count."""
    columns = []
    for field in dataclasses.fields(split):
        value = getattr(split, field.name)
        if isinstance(value, list):  # of texts
            value = np.array([hash(text) for text in value])
        if isinstance(value, np.ndarray):
            columns.append(np.ascontiguousarray(value).reshape(len(split), -1).view(np.uint8))
    table = np.concatenate(columns, axis=1)
    return table.view(f"V{table.shape[1]}").ravel().tolist()


def test_every_name_is_described() -> None:
    assert len(data.names()) == len(NAMES)
    assert set(data.names()) == NAMES
    descriptions = data.describe()
    assert [d.name for d in descriptions] == data.names()
    kinds = [KINDS.index(d.kind) for d in descriptions]
    assert kinds == sorted(kinds)
    for d in descriptions:
        assert all((d.what, d.size, d.shape, d.source, d.terms, d.where))
        assert (d.where == "built in") == (d.name in BUILT_IN)
        assert d.available or "download=True" in d.where or "pip install" in d.where


def test_describe_says_where_files_are_or_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCRATCHGEN_DATA", "XDG_DATA_DIRS", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, f"{tmp_path}/none")
    by_name = {d.name: d for d in data.describe(tmp_path)}
    assert not by_name["mnist"].available
    assert by_name["mnist"].where == "scratchgen.data.load('mnist', download=True)"
    assert "apt install dataset-fashion-mnist" in by_name["fashion-mnist"].where
    (tmp_path / "tinyshakespeare").mkdir()
    (tmp_path / "tinyshakespeare" / "input.txt").write_text("only looked for, not read")
    found = next(d for d in data.describe(tmp_path) if d.name == "tinyshakespeare")
    assert (found.available, found.where) == (True, f"{tmp_path}/tinyshakespeare")


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_splits_of_what_is_built_in(name: str) -> None:
    dataset = data.load(name)
    description = next(d for d in data.describe() if d.name == name)
    assert (dataset.name, dataset.kind) == (name, description.kind)
    if name != "manual":  # whose size depends on the Python that runs
        assert description.size.startswith(f"{len(dataset.trainval):,} + {len(dataset.test):,}")
    assert len(dataset.train) + len(dataset.validation) == len(dataset.trainval)
    assert len(dataset.validation) > 0
    sizes = f"train={len(dataset.train):,}, validation={len(dataset.validation):,}, test={len(dataset.test):,}"
    assert repr(dataset) == f"{type(dataset).__name__}({name!r}, {sizes})"
    assert repr(dataset.train) == f"{type(dataset.train).__name__}({len(dataset.train):,} rows)"
    if dataset.kind != "text":  # whose rows are single characters
        train, validation, test = rows_of(dataset.train), rows_of(dataset.validation), rows_of(dataset.test)
        assert sorted(train + validation) == sorted(rows_of(dataset.trainval))
        # Stacked digits are drawn with replacement from digits that are themselves disjoint.
        assert not set(train) & set(validation)
        assert not set(train + validation) & set(test)


@pytest.mark.parametrize("name", ["stacked-digits", "shapes", "ring8", "rings", "dates", "addition"])
def test_the_seed_decides_what_is_generated(name: str) -> None:
    first, again, other = data.load(name), data.load(name, seed=0), data.load(name, seed=1)
    for split in ("validation", "test"):
        assert rows_of(getattr(first, split)) == rows_of(getattr(again, split))
        assert rows_of(getattr(first, split)) != rows_of(getattr(other, split))


def test_the_seed_does_not_touch_real_data() -> None:
    first, other = data.load("digits", seed=0), data.load("digits", seed=1)
    for split in ("train", "validation", "test"):
        assert rows_of(getattr(first, split)) == rows_of(getattr(other, split))


def test_stratified_rows_take_the_same_share_of_each_class() -> None:
    labels = np.repeat([3, 5, 8], [100, 40, 5])
    rows = stratified_rows(labels, 0.1)
    assert np.bincount(labels[rows], minlength=9).tolist() == [0, 0, 0, 10, 0, 4, 0, 0, 0]
    assert np.array_equal(rows, np.unique(rows))
    assert np.array_equal(rows, stratified_rows(labels, 0.1))


def test_errors_say_what_there_is() -> None:
    with pytest.raises(data.DataError, match=r"no dataset 'mnits'. Did you mean 'mnist'\? .*: digits, mnist-5k, "):
        data.load("mnits")
    with pytest.raises(data.DataError, match=r"no dataset 'cifar-10'. The datasets are: digits"):
        data.load("cifar-10")
    with pytest.raises(TypeError, match=r"load\('copy'\): no option lenght; it has: length, vocabulary"):
        data.load("copy", lenght=3)
    with pytest.raises(TypeError, match=r"load\('digits'\): no option size; it has: none"):
        data.load("digits", size=3)
