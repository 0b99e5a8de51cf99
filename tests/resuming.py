"""Whether a recipe's training goes on bit-identically from a checkpoint: what the tests of several recipes ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import scratchgen as sg
from scratchgen.training import checkpoint


def snapshot(made: Any) -> str:
    """All state of a recipe as text."""

    def plain(value: Any) -> Any:
        return (value.numpy(force=True) if isinstance(value, sg.Tensor) else value).tolist()

    return json.dumps({name: part.state_dict() for name, part in made.state().items()}, default=plain)


def assert_resumes(make: Callable[[], Any], folder: Path, *, astray: bool = True) -> None:
    """Three steps, a checkpoint, two steps; and from there, in a new recipe, the same two again.

    ``astray``: the new one has gone another way before, otherwise it has not begun.
    """
    made = make()
    for _ in range(3):
        made.step()
    made.validate()
    checkpoint.save(folder / "state", {
        "default": sg.default_generator.state_dict(),
        **{key: part.state_dict() for key, part in made.state().items()},
    })  # fmt: skip
    made.validate()
    made.preview(folder, 3)  # neither changes anything
    expected = [made.step() for _ in range(2)], snapshot(made)
    again = make()
    if astray:
        again.step()
    state = checkpoint.load(folder / "state")
    sg.default_generator.load_state_dict(state.pop("default"))
    again.load_state(state)
    assert ([again.step() for _ in range(2)], snapshot(again)) == expected
