"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

TESTS = '''
import numpy as np
import scratchgen as sg
from scratchgen.declare import Primitive
from scratchgen.testing import cases

wrong = Primitive("wrong", np.sin, (lambda g, y, x: g * x.cos() * 1.0001,), "x", False, False)
ARRAYS = cases.arrays(shape=(2, 3))


def test_right(gradcheck):
    assert gradcheck(sg.sin, CASES).passed


def test_wrong(gradcheck):
    gradcheck(wrong, CASES)
'''
HOW = """
from scratchgen.testing import Case
CASES = ARRAYS.map(lambda a: Case("array", (a,)))
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    plugins = ["-p", "scratchgen.testing.plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run: two tests of a user's and those of one op."""
    folder = tmp_path_factory.mktemp("user")
    head, tail = TESTS.split("\n\n\n", 1)
    (folder / "test_mine.py").write_text(head + HOW + "\n\n" + tail)
    found = run(
        folder, "--gradcheck-ops", "tril", "--gradcheck-seed", "3", "--gradcheck-profile", "quick",
        "--gradcheck-report", "report.json", "--junitxml", "junit.xml",
    )  # fmt: skip
    return folder, found


def test_a_wrong_derivative_fails_and_shows_its_script(ran):
    _, found = ran
    assert found.returncode == 1, found.stdout + found.stderr
    assert "1 failed" in found.stdout
    assert "test_mine.py::test_wrong" in found.stdout
    assert "script that reproduces it" in found.stdout
    assert "import scratchgen as sg" in found.stdout


def test_the_checks_of_an_op_are_tests(ran):
    folder, found = ran
    names = [case.get("name") for case in ElementTree.parse(folder / "junit.xml").iter("testcase")]
    assert "derivatives[tril]" in " ".join(map(str, names))
    assert found.stdout.count("scratchgen::") == 0  # they pass, so nothing is said of them


def test_every_report_is_in_the_json(ran):
    folder, _ = ran
    reports = json.loads((folder / "report.json").read_text())
    verdicts = {report["test"].rpartition("::")[2]: report["verdict"] for report in reports}
    assert verdicts["test_right"] == "pass"
    assert verdicts["test_wrong"] == "fail"
    assert verdicts["derivatives[tril]"] == "pass"


def test_a_misspelt_op_is_a_clear_sentence(tmp_path):
    found = run(tmp_path, "--gradcheck-ops", "sotfmax")
    assert found.returncode == 4
    assert "no op is called 'sotfmax'; did you mean softmax" in found.stderr


def test_options_appear_in_the_help(tmp_path):
    found = run(tmp_path, "--help")
    for option in ("seed", "backend", "profile", "ops", "report"):
        assert f"--gradcheck-{option}" in found.stdout
