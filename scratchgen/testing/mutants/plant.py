"""How a bug is planted: the right function, and a derivative that something was done to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...autograd import is_grad_enabled, no_grad
from ...declare import Primitive
from ...tensor import Tensor, as_tensor
from ..subject import vjp

Arrays = list[np.ndarray]
Made = tuple[Callable[..., Any], Arrays]


class Mutant(NamedTuple):
    """A planted bug. ``make(rng)`` returns a function with the bug and inputs for it.

    ``size``: the error relative to the right derivative; 1 for what is wrong in kind, 0 for a control without a bug.
    """

    name: str
    kind: str
    size: float
    make: Callable[[np.random.Generator], Made]


MUTANTS: dict[str, Mutant] = {}


def mutant(name: str, kind: str, size: float = 1.0) -> Callable[[Callable[[np.random.Generator], Made]], Any]:
    """Decorator: enter what makes a mutant into the table."""

    def enter(make: Callable[[np.random.Generator], Made]) -> Any:
        if name in MUTANTS:
            raise ValueError(f"two mutants are called {name!r}")
        MUTANTS[name] = Mutant(name, kind, size, make)
        return make

    return enter


def planted(f: Callable[..., Tensor], wrong: Callable[..., Sequence[Any]]) -> Primitive:
    """``f`` with another derivative: ``wrong(gradients, g, y, *xs)`` is given the right gradients of its inputs."""

    def forward(*arrays: np.ndarray) -> np.ndarray:
        with no_grad():
            return np.asarray(f(*[as_tensor(a) for a in arrays]).array)

    def rule(g: Tensor, y: Tensor, *xs: Tensor) -> Sequence[Any]:
        gradients = vjp(f, xs, [True] * len(xs), [g], is_grad_enabled())
        return wrong(gradients, g, y, *xs)

    return Primitive("planted", forward, rule, "y xs", False, False)


def lying(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same numbers in a memory layout drawn at random: as usual, transposed, or every other number."""
    way = rng.integers(3)
    if way == 0 or array.ndim == 0:
        return array
    return np.ascontiguousarray(array.T).T if way == 1 else np.repeat(array, 2, axis=-1)[..., ::2]


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal numbers in a random layout."""
    return lying(np.asarray(rng.standard_normal(shape)), rng)
