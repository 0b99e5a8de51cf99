"""Which checker finds which planted bug, and how often: ``python -m scratchgen.testing mutants``.

In one run a checker sees a few random cases of a mutant, the same cases for every checker, and finds the bug if it
rejects any of them. Every checker is asked for first and second order, with the tolerances it comes with.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..everything import check_all
from ..report import Verdict
from ..suite import PROFILES
from .foreign import as_hips_function, as_jax_function
from .plant import MUTANTS, Arrays, Mutant

CASES = 3  # of a mutant, in one run
Checker = Callable[[Callable[..., Any], Arrays, int], bool]  # (function, inputs, seed) -> whether it is accepted


def ours(profile: str) -> Checker:
    """What this package's checks say with the projections of a profile."""
    directions = PROFILES[profile].directions

    def accepts(f: Callable[..., Any], arrays: Arrays, seed: int) -> bool:
        return check_all(f, arrays, k=directions, order=2, seed=seed, raises=False).verdict is not Verdict.FAIL

    return accepts


def torch_gradcheck(fast: bool) -> Checker:
    """``torch.autograd.gradcheck`` and ``gradgradcheck``."""

    def accepts(f: Callable[..., Any], arrays: Arrays, seed: int) -> bool:
        import torch

        from ..bridge import as_torch_function

        torch.manual_seed(seed)
        xs = [torch.from_numpy(a).requires_grad_() for a in arrays]
        call = as_torch_function(f)
        checks = (torch.autograd.gradcheck, torch.autograd.gradgradcheck)
        return all(bool(check(call, xs, fast_mode=fast, raise_exception=False)) for check in checks)

    return accepts


def jax_check_grads(f: Callable[..., Any], arrays: Arrays, seed: int) -> bool:
    """``jax.test_util.check_grads``, reverse mode; its directions are fixed, so the seed has no effect."""
    import jax
    from jax.test_util import check_grads

    with jax.enable_x64(True):
        try:
            check_grads(as_jax_function(f), tuple(map(jax.numpy.asarray, arrays)), order=2, modes=["rev"])
        except AssertionError:
            return False
    return True


def hips_check_grads(f: Callable[..., Any], arrays: Arrays, seed: int) -> bool:
    """``autograd.test_util.check_grads`` of HIPS autograd, reverse mode."""
    from autograd.test_util import check_grads

    np.random.seed(seed)  # noqa: NPY002 - it draws its directions from NumPy's global generator
    try:
        check_grads(as_hips_function(f), argnum=tuple(range(len(arrays))), modes=["rev"], order=2)(*arrays)
    except AssertionError:
        return False
    return True


CHECKERS: dict[str, tuple[str, Checker]] = {  # name -> (the package it needs, how to ask it)
    "scratchgen ci": ("numpy", ours("ci")),
    "scratchgen quick": ("numpy", ours("quick")),
    "torch gradcheck": ("torch", torch_gradcheck(False)),
    "torch gradcheck fast": ("torch", torch_gradcheck(True)),
    "jax check_grads": ("jax", jax_check_grads),
    "HIPS check_grads": ("autograd", hips_check_grads),
}


@dataclass
class Row:
    """One mutant: how many of the runs found it, by checker; and the seed of each checker's first miss."""

    name: str
    kind: str
    size: float
    caught: dict[str, int] = field(default_factory=dict)
    first_miss: dict[str, int | None] = field(default_factory=dict)


@dataclass
class Table:
    """All rows, and what they were made with."""

    runs: int
    cases: int
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    @property
    def all_caught(self) -> bool:
        """Whether the ci profile found every mutant of size 1e-6 or more in every run, and rejected no right op."""
        counts = [(row, row.caught["scratchgen ci"]) for row in self.rows if "scratchgen ci" in row.caught]
        return all(n == (self.runs if row.size else 0) for row, n in counts if row.size >= 1e-6 or not row.size)


def seeds(mutant: Mutant, run: int) -> list[int]:
    """The seeds of the cases of one run."""
    return [zlib.crc32(f"{mutant.name}/{run}/{i}".encode()) for i in range(CASES)]


def caught(mutant: Mutant, checker: Checker, run: int) -> bool:
    """Whether one run of a checker rejects any of its cases."""
    for seed in seeds(mutant, run):
        f, arrays = mutant.make(np.random.default_rng(seed))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # remarks of the checkers' own
            if not checker(f, arrays, seed % 2**32):
                return True
    return False


def table(names: Sequence[str] = (), runs: int = 20, checkers: Sequence[str] = tuple(CHECKERS)) -> Table:
    """Run the chosen checkers on all mutants, or those whose names contain one of ``names``; prints each row."""
    from . import ops as ops  # its mutants enter the table

    present = [name for name in checkers if importlib.util.find_spec(CHECKERS[name][0])]
    packages = sorted({CHECKERS[name][0] for name in present} | {"numpy"})
    found = Table(runs, CASES, {package: version(package) for package in packages})
    print("size     " + "  ".join(present) + "  mutant")
    for mutant in MUTANTS.values():
        if names and not any(part in mutant.name for part in names):
            continue
        row = Row(mutant.name, mutant.kind, mutant.size)
        for name in present:
            hits = [caught(mutant, CHECKERS[name][1], run) for run in range(runs)]
            row.caught[name] = sum(hits)
            row.first_miss[name] = None if all(hits) else hits.index(False)
        found.rows.append(row)
        counts = "  ".join(f"{row.caught[name]:{len(name)}}" for name in present)
        print(f"{row.size:<8g} {counts}  {row.name}", flush=True)
    return found


def merge(earlier: dict[str, Any], found: Table) -> None:
    """Add the figures that ``found`` lacks from a table written before with as many runs and cases."""
    if (earlier["runs"], earlier["cases"]) != (found.runs, found.cases):
        return
    rows = {row["name"]: Row(**row) for row in earlier["rows"]}
    for row in found.rows:
        before = rows.get(row.name, row)
        caught, missed = before.caught | row.caught, before.first_miss | row.first_miss
        row.caught = {name: caught[name] for name in CHECKERS if name in caught}
        row.first_miss = {name: missed[name] for name in CHECKERS if name in missed}
        rows[row.name] = row
    found.rows = [rows[name] for name in MUTANTS if name in rows]
    found.versions = earlier["versions"] | found.versions


def write(stem: Path, found: Table) -> None:
    """``stem``.json with every figure, ``stem``.md with the table; figures of other checkers in there are kept."""
    if stem.with_suffix(".json").exists():
        merge(json.loads(stem.with_suffix(".json").read_text()), found)
    stem.with_suffix(".json").write_text(json.dumps(asdict(found), indent=1) + "\n")
    names = [name for name in CHECKERS if any(name in row.caught for row in found.rows)]
    lines = [
        "# Planted bugs",
        "",
        f"How many of {found.runs} runs reject each mutant. A run sees {found.cases} random cases of it, the same for",
        "every checker, at first and second order, with each checker's own tolerances. Controls are right: 0 is what",
        "they should get. Made by `python -m scratchgen.testing mutants --out benchmarks/results/mutants`; the seed of",
        "case i of run r is the CRC-32 of `name/r/i`.",
        "",
        "Versions: " + ", ".join(f"{package} {number}" for package, number in sorted(found.versions.items())) + ".",
        "",
        "| mutant | kind | size | " + " | ".join(names) + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for row in found.rows:
        cells = " | ".join(str(row.caught.get(name, "")) for name in names)
        lines.append(f"| {row.name} | {row.kind} | {row.size:g} | {cells} |")
    stem.with_suffix(".md").write_text("\n".join(lines) + "\n")
