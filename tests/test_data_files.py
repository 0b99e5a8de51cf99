"""IDX files, and finding and checking the files of a dataset."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from scratchgen.data import DataError, idx
from scratchgen.data.files import DataFile, FileSet, PackagedFile, unpack, user_cache

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[array.dtype.str[1:]], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 4), (2, 3, 4)])
def test_idx_round_trip(dtype: str, shape: tuple[int, ...]) -> None:
    array = (np.arange(np.prod(shape)) - 5).astype(dtype).reshape(shape)
    read = idx.parse(idx_bytes(array))
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    assert np.array_equal(read, array)
    assert read.shape == shape


def test_idx_reads_files_gzipped_or_not_whatever_their_name(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    (tmp_path / "plain.gz").write_bytes(idx_bytes(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx_bytes(array)))
    assert np.array_equal(idx.read(tmp_path / "plain.gz"), array)
    assert np.array_equal(idx.read(str(tmp_path / "packed")), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "too short for an IDX file: 0 bytes"),
        (b"\0\0\x08", "too short"),
        (b"\0\1\x08\1" + bytes(8), "magic number is 0x00010801"),
        (b"\0\0\x07\1" + bytes(8), "magic number is 0x00000701"),
        (b"\0\0\x08\3" + bytes(11), "truncated: the header takes 16 bytes, found 15"),
        (
            struct.pack(">HBB2I", 0, 8, 2, 2, 3) + bytes(5),
            r"truncated: shape \(2, 3\) takes 18 bytes, found 17",
        ),
        (struct.pack(">HBB2I", 0, 8, 2, 2, 3) + bytes(7), r"trailing bytes: shape \(2, 3\) takes 18"),
        (struct.pack(">HBB1I", 0, 0x0E, 1, 2) + bytes(2), r"truncated: shape \(2,\) takes 24 bytes"),
    ],
)
def test_idx_errors_name_the_file_and_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"some-file: .*{message}"):
        idx.parse(content, "some-file")


def test_a_damaged_gzip_file_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(np.random.default_rng(0).bytes(10_000))
    for damaged in (packed[:5000], packed[:20] + b"####" + packed[24:], packed[:-8] + bytes(8)):
        path = tmp_path / "broken.gz"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"broken\.gz: damaged gzip file"):
            unpack(path)


CONTENT = {"one": b"first file", "two": b"second file"}
SET = FileSet(
    name="pretend",
    files=tuple(
        DataFile(name, hashlib.sha256(content).hexdigest(), f"http://127.0.0.1:9/{name}")
        for name, content in CONTENT.items()
    ),
    folders=("pretend", "Pretend/raw"),
    hint="apt install pretend",
)


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Four empty roots in the order of the search, with nothing of this machine in between."""
    roots = {name: tmp_path / name for name in ("given", "environment", "system", "cache")}
    monkeypatch.setenv("SCRATCHGEN_DATA", str(roots["environment"]))
    monkeypatch.setenv("XDG_DATA_DIRS", f"{tmp_path / 'none'}:{roots['system']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(roots["cache"]))
    return roots


def put(folder: Path, content: dict[str, bytes] = CONTENT, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        path = folder / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


def test_places_are_searched_in_order(roots: dict[str, Path]) -> None:
    places = [
        roots["cache"] / "scratchgen" / "pretend",
        roots["system"] / "datasets" / "pretend",
        roots["environment"] / "Pretend/raw",  # as torchvision lays its files down
        roots["environment"] / "pretend",
        roots["given"] / "pretend",
        roots["given"],
    ]
    assert SET.locate(roots["given"]) is None
    for place in places:  # from last to first: each new one hides those before
        put(place)
        assert SET.locate(roots["given"]) == place
    assert SET.locate() == roots["environment"] / "pretend"
    assert SET.read(roots["given"]) == CONTENT


def test_the_system_folders_and_the_cache_have_the_usual_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SCRATCHGEN_DATA", "XDG_DATA_DIRS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert user_cache() == Path("/home/somebody/.cache/scratchgen")
    assert SET.places()[::2] == [
        Path("/usr/local/share/datasets/pretend"),
        Path("/usr/share/datasets/pretend"),
        Path("/home/somebody/.cache/scratchgen/pretend"),
    ]


def test_files_may_be_gzipped_one_by_one(roots: dict[str, Path]) -> None:
    folder = put(roots["given"] / "pretend", {"one": CONTENT["one"]}, packed=True)
    put(folder, {"two": CONTENT["two"]})
    assert SET.read(roots["given"]) == CONTENT


def test_what_is_missing_is_told_with_every_place_and_every_way_out(roots: dict[str, Path]) -> None:
    put(roots["given"] / "pretend", {"one": CONTENT["one"]})
    with pytest.raises(DataError) as error:
        SET.read(roots["given"])
    message = str(error.value)
    assert f"{roots['given'] / 'pretend'} (two missing)" in message
    assert f"{roots['given']} (none of its files)" in message
    for place in SET.places(roots["given"]):
        assert str(place) in message
    for way in (
        "download=True",
        "--download",
        "--data-dir",
        "SCRATCHGEN_DATA",
        "apt install pretend",
        "one, two",
    ):
        assert way in message


@pytest.mark.parametrize("packed", [False, True])
def test_a_wrong_checksum_names_the_file_and_both_hashes(roots: dict[str, Path], packed: bool) -> None:
    folder = put(roots["given"] / "pretend", {"one": CONTENT["one"], "two": b"second fire"}, packed=packed)
    with pytest.raises(DataError) as error:
        SET.read(roots["given"])
    message = str(error.value)
    assert str(folder / "two") in message
    assert hashlib.sha256(b"second file").hexdigest() in message
    assert hashlib.sha256(b"second fire").hexdigest() in message


def test_a_missing_package_is_told_with_the_extra_that_brings_it() -> None:
    missing = PackagedFile("no_such_package_at_all", "data.csv", "0" * 64, extra="data")
    assert missing.locate() is None
    with pytest.raises(DataError, match=r"'no_such_package_at_all'.*pip install 'scratchgen\[data\]'"):
        missing.read()
