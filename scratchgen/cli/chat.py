"""``scratchgen chat``: a text model that goes on from what one types, and shows text as it is written."""

from __future__ import annotations

import sys
from pathlib import Path

from ..recipes import TextRecipe
from ..rng import Generator
from .errors import UserError
from .runs import restore
from .sample import sampler_options, show

HELP = "Type a beginning or a question; an empty line or Ctrl-D ends."


def chat(folder: Path, seed: int, settings: list[str]) -> int:
    """Read lines, answer each, until there are no more."""
    run, recipe, _ = restore(folder)
    if not isinstance(recipe, TextRecipe):
        raise UserError(f"{folder} is a run of {run.model}, which makes no text; `scratchgen sample` draws from it")
    options = sampler_options(recipe, settings)
    if "prompt" in options:
        raise UserError("--set prompt=...: in a chat the prompt is what you type; `scratchgen sample` takes one")
    generator = Generator(seed)
    interactive = sys.stdin.isatty()
    if interactive:
        print(HELP, file=sys.stderr)
    while line := _read("> " if interactive else ""):
        show(recipe, line, generator, options)
    return 0


def _read(prompt: str) -> str:
    """A line of the terminal, or nothing at its end."""
    try:
        return input(prompt)
    except EOFError:
        return ""
