"""Random programs: a few tensors, a few lines of code, and every derivative to second order, in any library.

A program's lines are Python with the library as ``L``, and what is run is what is printed. The same lines run on
scratchgen and on torch. ``grammar.py`` draws programs, ``fuzz.py`` compares them, ``shrink.py`` makes them small.
"""

from __future__ import annotations

import hashlib
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

import numpy as np

# How an input lies in memory, as an expression of the array as it is usually laid out.
LAYOUTS = {
    "contiguous": "{}",
    "transposed": "np.ascontiguousarray({}.T).T",
    "sliced": "np.repeat({}, 2, axis=-1)[..., ::2]",
}


@dataclass(frozen=True)
class Leaf:
    """An input: its values, how they lie in memory, and whether derivatives are taken by it."""

    name: str
    values: np.ndarray
    layout: str = "contiguous"
    variable: bool = True

    @property
    def source(self) -> str:
        """The NumPy expression that makes its array, with exact numbers."""
        numbers = f"np.array({self.values.tolist()!r}).reshape({self.values.shape})"
        return LAYOUTS[self.layout].format(numbers)

    def array(self) -> np.ndarray:
        """A fresh array: programs change some of theirs."""
        made: np.ndarray = eval(LAYOUTS[self.layout].format("values"), {"np": np, "values": self.values.copy()})
        return made


@dataclass(frozen=True)
class Step:
    """One line. ``targets``: the names it binds; ``reads``: those it uses; ``writes``: whether it changes memory."""

    text: str
    targets: tuple[str, ...]
    reads: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...] = ()
    writes: bool = False

    @property
    def line(self) -> str:
        """Its Python."""
        return f"{', '.join(self.targets)} = {self.text}" if self.targets else self.text


@dataclass(frozen=True)
class Program:
    """Inputs, lines that use them, and the names of the results."""

    leaves: tuple[Leaf, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """The body, one line a step."""
        return [step.line for step in self.steps]

    @property
    def writes(self) -> bool:
        """Whether any line changes memory in place."""
        return any(step.writes for step in self.steps)

    @property
    def case_id(self) -> str:
        """A name that depends on lines and inputs only."""
        text = "\n".join([*(f"{leaf.source}{leaf.variable}" for leaf in self.leaves), *self.lines, *self.outputs])
        return "program-" + hashlib.sha256(text.encode()).hexdigest()[:10]

    @cached_property
    def _code(self) -> CodeType:
        return compile("\n".join(self.lines), self.case_id, "exec")

    def run(self, L: Any) -> list[np.ndarray]:
        """Values and derivatives in library ``L``, as ``derivatives`` orders them. Raises what the library raises."""
        names: dict[str, Any] = {"L": L, "F": L.nn.functional}
        for leaf in self.leaves:
            names[leaf.name] = L.as_tensor(leaf.array()).requires_grad_(leaf.variable)
        variables = [names[leaf.name] for leaf in self.leaves if leaf.variable]
        exec(self._code, names)
        return derivatives(L, variables, [names[name] for name in self.outputs])

    def script(self) -> str:
        """A stand-alone script that runs the program in scratchgen and in torch and prints where they differ."""
        inputs = "\n".join(
            f"{leaf.name} = L.as_tensor({leaf.source}).requires_grad_({leaf.variable})" for leaf in self.leaves
        )
        variables = ", ".join(leaf.name for leaf in self.leaves if leaf.variable)
        body = textwrap.indent("\n".join(["F = L.nn.functional", inputs, *self.lines]), "    ")
        return SCRIPT.format(
            case_id=self.case_id,
            derivatives=inspect.getsource(derivatives),
            body=body,
            variables=variables,
            outputs=", ".join(self.outputs),
        )

    def __str__(self) -> str:
        heads = [
            f"{leaf.name}: {list(leaf.values.shape)}, {leaf.layout}, {'variable' if leaf.variable else 'constant'}"
            for leaf in self.leaves
        ]
        return "\n".join([*heads, *self.lines, f"return {', '.join(self.outputs)}"])


SCRIPT = '''\
"""{case_id}: one program in two libraries."""

import numpy as np
import torch

import scratchgen


{derivatives}

def program(L):
{body}
    return derivatives(L, [{variables}], [{outputs}])


ours = program(scratchgen)
# Torch keeps copies of what it saves, so that it computes with the values before any change.
with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
    theirs = program(torch)
for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
    print(number, a.shape, b.shape, "largest difference", np.abs(a - b).max(initial=0) if a.shape == b.shape else "-")
'''


def derivatives(L, xs, ys):  # type: ignore[no-untyped-def]  # scripts contain it, and need no hints
    """Values of ys; their gradients at random cotangents, plainly and recorded; gradients of those, and of theirs."""
    rng = np.random.default_rng(1)
    draw = lambda of: [L.as_tensor(np.asarray(rng.standard_normal(tuple(t.shape)))) for t in of]  # noqa: E731
    us, vs = [u.requires_grad_() for u in draw(ys)], draw(xs)
    results = [*ys, *L.autograd.grad(ys, xs, us, retain_graph=True, allow_unused=True)]
    first = L.autograd.grad(ys, xs, us, create_graph=True, allow_unused=True)
    live = [(g, v) for g, v in zip(first, vs) if g is not None and g.requires_grad]
    second = [None] * len(xs + us)
    if live:
        second = L.autograd.grad([g for g, _ in live], xs + us, [v for _, v in live], allow_unused=True)
    like = [*ys, *xs, *xs, *xs, *us]
    found = zip([*results, *first, *second], like)
    return [np.zeros(tuple(t.shape)) if r is None else np.array(r.detach().numpy(force=True)) for r, t in found]


def labels(program: Program) -> list[str]:
    """What each array that ``Program.run`` returns is."""
    xs = [leaf.name for leaf in program.leaves if leaf.variable]
    return [
        *(f"value of {y}" for y in program.outputs),
        *(f"gradient of {x}" for x in xs),
        *(f"recorded gradient of {x}" for x in xs),
        *(f"second derivative by {x}" for x in xs),
        *(f"second derivative by the cotangent of {y}" for y in program.outputs),
    ]


def leaf_array(shape: Sequence[int], kind: str, rng: np.random.Generator) -> np.ndarray:
    """Values of an input: ``normal``, ``integer``, ``positive``, or ``spaced``: distinct, and 0.05 or more from 0."""
    if kind == "normal":
        return np.asarray(rng.standard_normal(shape))
    if kind == "positive":
        return np.asarray(rng.uniform(0.5, 2.0, shape))
    if kind == "integer":
        return np.asarray(rng.integers(-2, 3, shape)).astype(np.float64)
    size = int(np.prod(shape))
    return (0.05 + 0.1 * rng.permutation(size) * rng.choice([-1.0, 1.0], size)).reshape(shape)
