"""Files that are either the old or the new version, never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Call ``write(file)`` on a temporary file beside ``path``, flush it to the disk, then rename it over ``path``.

    If anything fails (a full disk, Ctrl-C) the old file stays as it was and the temporary one is removed. Its name is
    always the same, so that what a killed process left behind is overwritten by the next one.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}); the previous version of it, if any, is intact"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically. NaN and infinities are an error: no other program could read them."""
    text = json.dumps(value, indent=2, allow_nan=False, default=_plain) + "\n"
    write_atomically(path, lambda file: file.write(text.encode()))


def _plain(value: Any) -> Any:
    """NumPy numbers and paths as JSON knows them."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
