"""``scratchgen sample``: pictures, arrays or text from a trained model."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import numpy as np

from .. import viz
from ..rng import Generator
from ..training import write_atomically
from .errors import UserError
from .options import parse_settings
from .runs import restore


def sample(folder: Path, count: int, seed: int, out: Path | None, settings: list[str]) -> int:
    """Draw ``count`` samples and write them to ``out``."""
    if count < 1:
        raise UserError(f"-n {count}: at least one sample")
    if out is not None and out.suffix not in (".png", ".npz", ".txt"):
        raise UserError(f"--out {out}: expected a name that ends in .png, .npz or .txt")
    _, recipe, _ = restore(folder)
    drawn = recipe.sample(count, Generator(seed), **_options(recipe, settings))
    if "text" in drawn:
        return _write_text(drawn["text"], out, folder)
    out = out or folder / "samples.png"
    if out.suffix == ".txt":
        raise UserError(f"--out {out}: this model makes pictures; choose a name that ends in .png or .npz")
    if out.suffix == ".npz":
        arrays: dict[str, Any] = {key: np.asarray(value) for key, value in drawn.items() if value is not None}
        write_atomically(out, lambda file: np.savez_compressed(file, **arrays))
    else:
        viz.image_grid(out, drawn["samples"])
    print(out)
    return 0


def _write_text(texts: list[str], out: Path | None, folder: Path) -> int:
    out = out or folder / "samples.txt"
    if out.suffix != ".txt":
        raise UserError(f"--out {out}: this model writes text; choose a name that ends in .txt")
    write_atomically(out, lambda file: file.write("\n\n".join(texts).encode() + b"\n"))
    print(out)
    return 0


def _options(recipe: Any, settings: list[str]) -> dict[str, Any]:
    """``--set`` as keyword arguments of the recipe's sampler, by its own signature."""
    hints = typing.get_type_hints(recipe.sample)
    names = [name for name in inspect.signature(recipe.sample).parameters if name not in ("count", "generator")]
    return parse_settings({name: hints[name] for name in names}, settings, "option of this model's sampler")
