"""The package as people get it: what importing costs, and what a wheel, an sdist and a checkout install."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import scratchgen

ROOT = Path(__file__).resolve().parent.parent


def python(code: str, *options: str, cwd: Path | None = None) -> str:
    """Run ``code`` in a new interpreter and return what it prints."""
    ran = subprocess.run([sys.executable, *options, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def installed(code: str) -> str:
    """The same with what is installed only: -I keeps the current folder and PYTHONPATH out of sys.path."""
    return python(code, "-I")


def test_import_takes_under_a_second():
    # Processor time, of all threads and with the interpreter's own start: unlike the wall clock it does not
    # measure what else the machine is doing.
    code = "import time, scratchgen; print(time.process_time())"
    installed(code)  # writes the byte code and warms the file cache
    assert statistics.median(float(installed(code)) for _ in range(3)) < 1.0


def test_import_leaves_the_heavy_libraries_alone():
    loaded = json.loads(installed("import sys, json, scratchgen; print(json.dumps(list(sys.modules)))"))
    assert {"cupy", "jax", "matplotlib", "mlxtend", "pandas", "PIL", "sklearn", "torch"}.isdisjoint(loaded)
    assert "scratchgen" in loaded


def test_the_kernels_are_imported_under_one_name():
    code = "from importlib.util import find_spec; print(find_spec({!r}) is not None)"
    assert installed(code.format("scratchgen.kernels")) == "True\n"
    assert installed(code.format("kernels")) == "False\n"


def test_the_version_is_the_installed_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", scratchgen.__version__)
    metadata = importlib.metadata.version("scratchgen")
    assert metadata == scratchgen.__version__, "the version has changed since the last pip install -e ."


def shipped() -> set[str]:
    """Every file of the library, under the path it is to be installed to."""
    return {
        (Path(target) / path.relative_to(ROOT / folder)).as_posix()
        for folder, target in (("scratchgen", "scratchgen"), ("kernels", "scratchgen/kernels"))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of the sources, since setuptools leaves its traces in the folder that it builds."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools >= 77")
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("scratchgen", "kernels", "tests", "benchmarks", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, copy)
    return copy


def build(kind: str, source: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` through the PEP 517 back end, as installers do, with no network."""
    code = f"from setuptools.build_meta import build_{kind} as build; print(build('dist'))"
    return source / "dist" / python(code, cwd=source).splitlines()[-1]


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_the_whole_library_and_nothing_else(checkout):
    assert contents(build("wheel", checkout)) == shipped()
    assert "scratchgen/py.typed" in shipped()


def test_the_sdist_builds_the_same_wheel(checkout, tmp_path):
    with tarfile.open(build("sdist", checkout)) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert contents(build("wheel", unpacked)) == shipped()
    names = {path.name for path in unpacked.iterdir()}
    assert {"Makefile", "LICENSE", "README.md", "tests", "benchmarks", "docs"} <= names


def test_the_readme_promises_only_commands_that_the_makefile_has():
    readme, makefile = ((ROOT / name).read_text("utf-8") for name in ("README.md", "Makefile"))
    promised = set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE))
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert {"demo", "test"} <= promised <= targets
