"""Importing scratchgen.metrics and scratchgen.viz costs nothing until a name is used."""

from __future__ import annotations

import importlib
import subprocess
import sys

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


def test_names_and_type_hints_agree() -> None:
    """The table behind the lazy names says the same as the imports that type checkers read."""
    for package in (metrics, viz):
        for module, names in package._NAMES.items():
            loaded = importlib.import_module(f"{package.__name__}.{module}")
            assert all(getattr(loaded, name).__module__ == loaded.__name__ for name in names)
