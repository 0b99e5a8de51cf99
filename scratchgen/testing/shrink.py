"""Make a failing program small: cut it, drop from it, straighten its inputs, for as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .programs import Leaf, Program

ROUNDS = 200


def shrink(program: Program, fails: Callable[[Program], bool]) -> Program:
    """The smallest program found that still ``fails``; a candidate that cannot be run must not count as a failure."""
    for _ in range(ROUNDS):
        smaller = next((candidate for candidate in _candidates(program) if fails(candidate)), None)
        if smaller is None:
            break
        program = smaller
    return program


def _candidates(program: Program) -> Iterator[Program]:
    """Simpler programs, the most promising first."""
    if len(program.outputs) > 1:
        for name in program.outputs:
            yield pruned(replace(program, outputs=(name,)))
    bound = [name for step in program.steps for name in step.targets]
    for name in bound:  # the program up to here
        if (name,) != program.outputs:
            yield pruned(replace(program, outputs=(name,)))
    for i, step in reversed(list(enumerate(program.steps))):
        rest = (*program.steps[:i], *program.steps[i + 1 :])
        if step.writes or not any(set(step.targets) & {*program.outputs, *other.reads} for other in rest):
            yield replace(program, steps=rest)
        else:  # what it made becomes an input
            made = [
                Leaf(name, np.random.default_rng(i).standard_normal(shape))
                for name, shape in zip(step.targets, step.shapes)
            ]
            if set(step.targets).isdisjoint(program.outputs):
                yield pruned(replace(program, leaves=(*program.leaves, *made), steps=rest))
    for i, leaf in enumerate(program.leaves):
        simpler = [replace(leaf, variable=False)] if leaf.variable else []
        simpler += [replace(leaf, layout="contiguous")] if leaf.layout != "contiguous" else []
        if (rounded := np.round(leaf.values, 1)).tolist() != leaf.values.tolist():
            simpler.append(replace(leaf, values=rounded))
        for other in simpler:
            yield replace(program, leaves=(*program.leaves[:i], other, *program.leaves[i + 1 :]))


def pruned(program: Program) -> Program:
    """Without lines and inputs that the results do not depend on; a line that changes memory stays with its value."""
    needed = set(program.outputs)
    kept = []
    for step in reversed(program.steps):
        if step.writes or not needed.isdisjoint(step.targets):
            if not step.writes:
                needed.update(step.reads)
            kept.append(step)
    bound = needed | {name for step in kept for name in step.targets}
    kept = [step for step in kept if not step.writes or set(step.reads) <= bound]
    leaves = tuple(leaf for leaf in program.leaves if leaf.name in needed)
    return Program(leaves, tuple(reversed(kept)), program.outputs)
