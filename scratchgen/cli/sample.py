"""``scratchgen sample``: pictures, arrays or text from a trained model."""

from __future__ import annotations

import inspect
import typing
from pathlib import Path
from typing import Any

import numpy as np

from .. import viz
from ..recipes import TextRecipe
from ..rng import Generator
from ..training import write_atomically
from .errors import UserError
from .options import parse_settings
from .runs import restore

PICTURES, TEXTS = 64, 1  # samples, where the call does not say how many


def sample(folder: Path, count: int | None, seed: int, out: Path | None, settings: list[str]) -> int:
    """Draw ``count`` samples and write them to ``out``; text without ``out`` goes to the terminal as it is written."""
    if count is not None and count < 1:
        raise UserError(f"-n {count}: at least one sample")
    if out is not None and out.suffix not in (".png", ".npz", ".txt"):
        raise UserError(f"--out {out}: expected a name that ends in .png, .npz or .txt")
    _, recipe, _ = restore(folder)
    options = sampler_options(recipe, settings)
    if isinstance(recipe, TextRecipe) and out is None:
        return _show_text(recipe, count or TEXTS, Generator(seed), options)
    count = count or (TEXTS if isinstance(recipe, TextRecipe) else PICTURES)
    try:
        drawn = recipe.sample(count, Generator(seed), **options)
    except ValueError as error:
        raise UserError(str(error)) from error
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


def _show_text(recipe: TextRecipe, count: int, generator: Generator, options: dict[str, Any]) -> int:
    prompt = options.get("prompt", "")
    if recipe.answers and not prompt:  # its own questions, with answers
        print("\n".join(recipe.sample(count, generator, **options)["text"]))
        return 0
    rest = {key: value for key, value in options.items() if key != "prompt"}
    for i in range(count):
        print("\n" * (i > 0) + prompt + (recipe.between if prompt else ""), end="", flush=True)
        show(recipe, prompt, generator, rest)
    return 0


def show(recipe: TextRecipe, prompt: str, generator: Generator, options: dict[str, Any]) -> None:
    """Print a text as it is written. What the model cannot take becomes a UserError."""
    try:
        for piece in recipe.stream(prompt, generator, **options):
            print(piece, end="", flush=True)
    except ValueError as error:
        raise UserError(str(error)) from error
    print()


def _write_text(texts: list[str], out: Path | None, folder: Path) -> int:
    out = out or folder / "samples.txt"
    if out.suffix != ".txt":
        raise UserError(f"--out {out}: this model writes text; choose a name that ends in .txt")
    write_atomically(out, lambda file: file.write("\n\n".join(texts).encode() + b"\n"))
    print(out)
    return 0


def sampler_options(recipe: Any, settings: list[str]) -> dict[str, Any]:
    """``--set`` as keyword arguments of the recipe's sampler, by its own signature."""
    hints = typing.get_type_hints(recipe.sample)
    names = [name for name in inspect.signature(recipe.sample).parameters if name not in ("count", "generator")]
    return parse_settings({name: hints[name] for name in names}, settings, "option of this model's sampler")
