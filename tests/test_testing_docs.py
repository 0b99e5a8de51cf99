"""What docs/testing.md shows is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import scratchgen.testing as sgt
from scratchgen.declare import OPS
from scratchgen.kernels import registry
from scratchgen.testing import GradientError

PAGE = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
OP, TEST, TOLD = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:3]


@pytest.fixture
def tutorial(tmp_path, monkeypatch):
    """Writes the tutorial's files, with a replacement in the op, and returns its test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(old: str = "", new: str = ""):
        (tmp_path / "row_softmax.py").write_text(OP.replace(old, new))
        namespace: dict = {}
        exec(TEST, namespace)
        return namespace["test_row_softmax"]

    yield write
    sys.modules.pop("row_softmax", None)
    OPS.pop("row_softmax", None)
    for name in ("row_softmax", "row_softmax_vjp"):
        registry._table.pop(name, None)


def test_the_bug_is_found_as_the_page_says(tutorial):
    with pytest.raises(GradientError) as raised:
        tutorial()()
    (quoted,) = re.findall(r"says:\n\n```\n(.*?)```", PAGE, re.DOTALL)
    assert str(raised.value).split() == quoted.partition("Failing test case")[0].split()


def test_the_mended_op_passes_and_so_does_what_is_told_of_it(tutorial):
    run = tutorial("sum(-1, keepdims", "sum(dim, keepdims")
    run()
    import numpy as np
    from row_softmax import row_softmax

    namespace = {"sgt": sgt, "np": np, "row_softmax": row_softmax}
    exec(TOLD.replace("examples=200", "examples=5"), namespace)


def test_every_name_on_the_page_exists():
    for name in set(re.findall(r"sgt\.([a-zA-Z_.]+)", PAGE)):
        found = sgt
        for part in name.rstrip(".").split("."):
            found = getattr(found, part)
    (shapes,) = re.findall(r"\| shapes \| `(.*?)`", PAGE)
    for name in shapes.split():
        assert callable(getattr(sgt.cases, name))
