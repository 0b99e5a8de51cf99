"""Downloading one file so that a broken download never looks like a good one."""

from __future__ import annotations

import http.client
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from scratchgen.data.errors import DataError

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte from the server


def download(url: str, target: Path, check: Callable[[Path], object]) -> None:
    """Fetch `url` into the file `target`, with a progress bar on a terminal.

    The bytes go to a temporary file beside the target, which is handed to `check` (it raises DataError if the
    content is wrong) and then renamed: `target` appears whole and right, or not at all. Raises DataError.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy(url, part)
            check(part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
    except (OSError, http.client.HTTPException) as error:  # urllib's errors and a full disk are OSErrors
        raise DataError(f"could not download {url} to {target}: {error}") from error


def _copy(url: str, part: Path) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "scratchgen"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, open(part, "wb") as out:
        length = response.headers.get("Content-Length")
        expected = None if length is None else int(length)
        name = url.rsplit("/", 1)[-1]
        with tqdm(total=expected, desc=name, unit="B", unit_scale=True, disable=None) as bar:
            while chunk := response.read(CHUNK):
                out.write(chunk)
                bar.update(len(chunk))
        received = out.tell()
    # A connection that closes early ends the loop like a finished one: only the announced length tells.
    if expected is not None and received != expected:
        raise DataError(
            f"the download of {url} broke off after {received:,} of {expected:,} bytes; nothing was kept, try again"
        )
