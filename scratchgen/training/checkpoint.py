"""Checkpoints: every number that training depends on, in one safetensors file.

A state is a tree of dicts and lists whose leaves are arrays, numbers, strings, booleans and None. Arrays become
tensors named by their path; the rest of the tree is JSON in the file's metadata, so nothing in a checkpoint is code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from ..tensor import Tensor
from .files import write_atomically

FORMAT = "scratchgen-1"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or does not fit what it is loaded into."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` to ``path`` atomically."""
    from safetensors.numpy import save as serialise

    tensors: dict[str, np.ndarray] = {}
    tree = _split(state, "", tensors)
    blob = serialise(tensors, metadata={"format": FORMAT, "tree": json.dumps(tree)})
    write_atomically(path, lambda file: file.write(blob))


def load(path: Path) -> dict[str, Any]:
    """Read a state written by ``save``; its arrays are NumPy arrays.

    Raises CheckpointError naming the file if it is missing, truncated or not a checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); {path.stat().st_size} bytes") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of format {FORMAT} but {metadata.get('format')!r}")
    state: dict[str, Any] = _join(json.loads(metadata["tree"]), tensors)
    return state


def first_not_finite(state: dict[str, Any]) -> str | None:
    """The path of an array in ``state`` that holds a NaN or an infinity, if there is one."""
    tensors: dict[str, np.ndarray] = {}
    _split(state, "", tensors)
    bad = (path for path, array in tensors.items() if array.dtype.kind == "f" and not np.isfinite(array).all())
    return next(bad, None)


def _split(value: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """Move the arrays of a state into ``tensors``; each leaves ``{"tensor": path}`` behind."""
    if isinstance(value, Tensor):
        value = value.numpy(force=True)
    if isinstance(value, np.ndarray):
        tensors[path] = np.asarray(value, order="C")
        return {"tensor": path}
    if isinstance(value, dict):
        # a list of pairs keeps integer keys, which JSON objects would turn into strings
        return {
            "dict": [[key, _split(item, f"{path}.{key}" if path else str(key), tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        return {"list": [_split(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path}: a {type(value).__name__} cannot be saved in a checkpoint")


def _join(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _join(item, tensors) for key, item in content}
    return [_join(item, tensors) for item in content]
