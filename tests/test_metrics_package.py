"""Importing scratchgen.metrics and scratchgen.viz costs nothing until a name is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from scratchgen import metrics, viz


@pytest.mark.parametrize("package", [metrics, viz])
def test_every_public_name_exists(package) -> None:
    for name in package.__all__:
        assert callable(getattr(package, name)), name
    assert dir(package) == package.__all__
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it has "):
        package.nothing  # noqa: B018


def test_heavy_libraries_are_imported_on_demand() -> None:
    code = (
        "import sys, scratchgen.metrics, scratchgen.viz;"
        "print(*[name for name in ('sklearn', 'matplotlib', 'scipy.stats', 'PIL') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("package", [metrics, viz])
def test_type_checkers_read_the_same_names(package) -> None:
    """The imports that only type checkers execute against the table behind the lazy names."""
    tree = ast.parse(Path(package.__file__).read_text())
    read = {
        (node.module, alias.name, alias.asname)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert read == {(module, name, name) for module, names in package._NAMES.items() for name in names}
