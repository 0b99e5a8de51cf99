"""Downloads from a server on this machine: good ones, and every way in which one can go wrong."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from scratchgen.data import DataError, fetch
from scratchgen.data.files import DataFile, FileSet

CONTENT = np.random.default_rng(0).bytes(300_000)  # several reads long
PACKED = gzip.compress(CONTENT)


class Handler(BaseHTTPRequestHandler):
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        body = {"/plain": CONTENT, "/packed.gz": PACKED, "/other": b"x" + CONTENT[1:]}.get(self.path, CONTENT)
        if self.path == "/absent":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unannounced":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/truncated" else body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("SCRATCHGEN_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Handler.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def files(*urls: str) -> FileSet:
    digest = hashlib.sha256(CONTENT).hexdigest()
    data = tuple(DataFile(f"file{i}", digest, url) for i, url in enumerate(urls))
    return FileSet("pretend", data, ("pretend",))


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_download_into_the_cache_once(address: str, tmp_path: Path) -> None:
    wanted = files(f"{address}/plain", f"{address}/packed.gz", f"{address}/unannounced")
    with pytest.raises(DataError, match="not on this machine"):
        wanted.read()
    assert set(wanted.read(download=True).values()) == {CONTENT}
    names = [f"cache/scratchgen/pretend/{name}" for name in ("file0", "file1.gz", "file2")]
    assert everything_below(tmp_path) == names
    wanted.read(download=True)
    wanted.read()
    assert Handler.requests == ["/plain", "/packed.gz", "/unannounced"]


def test_download_into_a_named_folder(address: str, tmp_path: Path) -> None:
    wanted = files(f"{address}/plain")
    assert wanted.read(tmp_path / "mine", download=True) == {"file0": CONTENT}
    assert everything_below(tmp_path) == ["mine/pretend/file0"]
    assert wanted.locate(tmp_path / "mine") == tmp_path / "mine" / "pretend"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("truncated", "broke off after 150,000 of 300,000 bytes"),
        ("other", "wrong checksum"),
        ("absent", "could not download .*/absent to .*file1.* 404"),
    ],
)
def test_a_bad_download_leaves_nothing_behind_and_keeps_what_was_good(
    address: str, tmp_path: Path, path: str, message: str
) -> None:
    wanted = files(f"{address}/plain", f"{address}/{path}", f"{address}/packed.gz")
    with pytest.raises(DataError, match=message):
        wanted.read(download=True)
    assert everything_below(tmp_path) == ["cache/scratchgen/pretend/file0"]
    # Once the server is right, only what is missing is fetched.
    Handler.requests = []
    mended = files(f"{address}/plain", f"{address}/packed.gz", f"{address}/packed.gz")
    assert set(mended.read(download=True).values()) == {CONTENT}
    assert Handler.requests == ["/packed.gz", "/packed.gz"]


def test_a_server_that_is_not_there(address: str, tmp_path: Path) -> None:
    wanted = files("http://127.0.0.1:9/file")
    with pytest.raises(DataError, match=r"could not download http://127\.0\.0\.1:9/file"):
        wanted.read(download=True)
    assert everything_below(tmp_path) == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_download_leaves_nothing_behind(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: type[BaseException]
) -> None:
    class Bar(fetch.tqdm):
        def update(self, n: float = 1) -> None:
            assert everything_below(tmp_path) == [f"cache/scratchgen/pretend/{part.name}" for part in parts()]
            raise interrupt

    def parts() -> list[Path]:
        return list((tmp_path / "cache/scratchgen/pretend").glob(".file0.*.part"))

    monkeypatch.setattr(fetch, "tqdm", Bar)
    with pytest.raises(interrupt):
        files(f"{address}/plain").read(download=True)
    assert everything_below(tmp_path) == []


def test_a_full_disk_is_told(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetch.os, "replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        files(f"{address}/plain").read(download=True)
    assert everything_below(tmp_path) == []


def test_a_target_that_cannot_be_written(address: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"could not download .* to .*mine"):
        files(f"{address}/plain").read(tmp_path / "mine", download=True)
