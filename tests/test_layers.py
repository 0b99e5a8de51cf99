"""Imports point one way, and other properties of the source that a reader relies on.

Sources are parsed, never imported: an import inside a function or under ``TYPE_CHECKING`` counts as much as
one at the top of a file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom to the top: a layer, its units (modules or packages directly below scratchgen), and the
# layers it may import besides itself. "face" is scratchgen/__init__.py: what `import scratchgen as sg` gives.
LAYERS = """
kernels  | kernels                                         |
core     | dtypes device rng tensor changes ownership gradients autograd recompute declare debug | kernels
ops      | ops linalg                                      | kernels core
nn       | nn                                              | kernels core ops
optim    | optim                                           | kernels core ops nn
face     | scratchgen                                      | kernels core ops nn optim
testing  | testing                                         | kernels core ops nn optim face
models   | models                                          | kernels core ops nn optim face
data     | data                                            |
metrics  | metrics                                         |
viz      | viz                                             |
training | training                                        | core ops nn optim face data metrics viz
recipes  | recipes                                         | core ops nn optim face models data metrics viz training
cli      | cli __main__                                    | kernels core ops nn optim face testing models data metrics viz training recipes
"""  # noqa: E501 - a table

PEERS = {"torch", "jax", "tensorflow"}  # what the library is measured against, never what it computes with

MAX_LINES = 450
LONGER = {  # a file's path, and why its reader is better served by one file than by two
    "kernels/conv2d/direct.py": "the geometry of all three ops: each prepares the tables that the others' loops read",
    "kernels/conv2d/direct_loops.py": "tiles and the loops around them, compiled together under one version",
    "tests/fake_cupy.py": "one stand-in for one library",
}


@dataclass(frozen=True)
class Import:
    target: str  # full name of the imported module
    line: int
    on_load: bool  # happens as soon as the importing module is imported


def library() -> dict[str, Path]:
    """The library's modules: full name, as imported, to path."""
    found = {}
    for folder, package in (("scratchgen", "scratchgen"), ("kernels", "scratchgen.kernels")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *inner]).removesuffix(".__init__")] = path
    return found


def imports(source: str, package: str, modules: set[str]) -> list[Import]:
    """Every import in a file of ``package``; ``modules`` tells which names of a package are modules."""

    def targets(node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(name, names, level):
                base = resolve_name("." * level + (name or ""), package)
                for alias in names:
                    inner = f"{base}.{alias.name}"
                    yield inner if inner in modules else base
            case ast.Call(ast.Attribute(attr="import_module"), [ast.Constant(str(name)), *_]):
                yield resolve_name(name, package)

    def walk(node: ast.AST, on_load: bool) -> Iterator[Import]:
        for target in targets(node):
            yield Import(target, node.lineno, on_load)
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        )
        for child in ast.iter_child_nodes(node):
            yield from walk(child, on_load and not deferred)

    return list(walk(ast.parse(source), True))


def unit(module: str) -> str:
    """The part of the library a module belongs to: ``ops`` for ``scratchgen.ops.conv``."""
    return [*module.split("."), "scratchgen"][1]


def layers() -> tuple[dict[str, str], dict[str, set[str]]]:
    """Unit to layer, and layer to the layers it may import."""
    layer_of: dict[str, str] = {}
    allowed: dict[str, set[str]] = {}
    for row in LAYERS.strip().splitlines():
        layer, units, others = (cell.strip() for cell in row.split("|"))
        layer_of |= dict.fromkeys(units.split(), layer)
        allowed[layer] = {layer, *others.split()}
    return layer_of, allowed


@pytest.fixture(scope="module")
def graph() -> dict[str, list[Import]]:
    """What each module of the library imports."""
    files = library()
    found = {}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found[name] = imports(path.read_text("utf-8"), package, set(files))
    return found


def listed(found: list[tuple[str, Import]]) -> str:
    files = library()
    return "".join(f"\n{files[name].relative_to(ROOT)}:{i.line} imports {i.target}" for name, i in found)


def test_the_reader_of_imports_sees_every_form():
    source = """
import os.path as p, scratchgen.nn
from scratchgen import ops, Tensor
from . import layers
from ..ops.linalg import matmul
if TYPE_CHECKING:
    from scratchgen.models import vae
try:
    import cupy
except ImportError:
    pass
def f():
    from .functional import relu
    importlib.import_module("scratchgen.cli")
"""
    modules = {"scratchgen.ops", "scratchgen.nn.layers", "scratchgen.ops.linalg", "scratchgen.models.vae"}
    found = imports(source, "scratchgen.nn", modules)
    assert [i.target for i in found if i.on_load] == [
        "os.path",
        "scratchgen.nn",
        "scratchgen.ops",
        "scratchgen",
        "scratchgen.nn.layers",
        "scratchgen.ops.linalg",
        "cupy",
    ]
    assert [(i.target, i.line) for i in found if not i.on_load] == [
        ("scratchgen.models.vae", 7),
        ("scratchgen.nn.functional", 13),
        ("scratchgen.cli", 14),
    ]


def test_the_table_runs_from_the_bottom_to_the_top():
    below: set[str] = set()
    for layer, allowed in layers()[1].items():
        below.add(layer)
        assert allowed <= below, f"{layer} may import a layer of a later row"


def test_every_module_belongs_to_a_layer(graph):
    layer_of, _ = layers()
    assert {unit(name) for name in graph} <= layer_of.keys(), "a new part needs its row in LAYERS"


def test_imports_point_down(graph):
    layer_of, allowed = layers()
    upward = [
        (name, found)
        for name, all_found in graph.items()
        for found in all_found
        if found.target.split(".")[0] == "scratchgen"
        and layer_of.get(unit(found.target)) not in allowed[layer_of[unit(name)]]
    ]
    assert not upward, listed(upward)


def test_the_kernels_are_imported_under_one_name(graph):
    bare = [(name, i) for name, found in graph.items() for i in found if i.target.split(".")[0] == "kernels"]
    assert not bare, listed(bare)


def test_modules_do_not_import_each_other_in_circles(graph):
    edges = {name: {i.target for i in found if i.on_load} for name, found in graph.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_cupy_is_imported_only_when_a_gpu_is_used(graph):
    cupy = [(name, i) for name, found in graph.items() for i in found if i.target.split(".")[0] == "cupy"]
    eager = [(name, i) for name, i in cupy if i.on_load]
    assert cupy
    assert not eager, listed(eager)


def test_the_library_computes_with_no_other_framework(graph):
    peers = [(name, i) for name, found in graph.items() for i in found if i.target.split(".")[0] in PEERS]
    # The tester asks them for their verdict, when it is told to: they are not loaded with it.
    computing = [(name, i) for name, i in peers if i.on_load or not name.startswith("scratchgen.testing.")]
    assert not computing, listed(computing)


def sources(*suffixes: str) -> list[Path]:
    """The project's own files with these suffixes: no environment, no build, no output of a run."""
    folders = ("scratchgen", "kernels", "tests", "benchmarks", "docs", ".ci")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    files += [p for p in ROOT.iterdir() if p.is_file()]
    return [p for p in files if p.suffix in suffixes and "__pycache__" not in p.parts]


def test_files_are_read_in_one_sitting():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in sources(".py", ".cu", ".cuh", ".h")
    }
    assert {path for path, lines in lengths.items() if lines > MAX_LINES} == LONGER.keys()


def test_no_file_names_a_path_of_one_machine():
    # The brackets keep this file from finding itself.
    local = re.compile(r"(?<![\w.~*/-])/(?:[w]ork|[r]oot|[t]mp)/")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources(".py", ".cu", ".cuh", ".h", ".md", ".toml", ".in", "")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if local.search(line)
    ]
    assert not found, "\n".join(found)
