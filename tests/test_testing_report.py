"""Reports: stable names, JSON, and scripts that show the failure by themselves."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import scratchgen as sg
import scratchgen.testing as sgt
from scratchgen.declare import Primitive
from scratchgen.testing import Case, GradientError, Inconclusive, Report, Verdict, together
from scratchgen.testing.repro import HELPERS, literal

SOURCE = """
import numpy as np
from scratchgen.declare import Primitive

_wave = Primitive("wave", np.sin, (lambda g, y, x: g * x.cos() * (1 + 1e-7),), "x", False, False)
_flat = Primitive("flat", np.sin, (lambda g, y, x: g * x.detach().cos(),), "x", False, False)


def wave(x, i, *, times=1.0):
    return _wave(x[i] * times)


def flat(x):
    return _flat(x)
"""
X = np.random.default_rng(0).standard_normal((4, 3)).T[::-1, ::2]


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "users_ops.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_ops

    yield users_ops
    del sys.modules["users_ops"]


def run(script: str, folder) -> dict[str, float]:
    """The numbers that a script prints."""
    (folder / "repro.py").write_text(script)
    done = subprocess.run([sys.executable, "repro.py"], cwd=folder, capture_output=True, text=True, check=True)
    rows = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()]
    return {name.strip(): float(number) for name, number in rows}


def test_a_script_shows_the_failure_to_the_last_bit(module, tmp_path):
    case = Case("one", (X, np.array([2, 0, 0])), {"times": 2.0})
    report = sgt.check_vjp(module.wave, case, raises=False)
    assert report.verdict is Verdict.FAIL
    found = run(report.repro(), tmp_path)
    evidence = report.parts[0].parts[0].evidence
    ours = sum(np.vdot(g, v) for g, v in zip(evidence.subject.gradients(evidence.cotangent), evidence.direction))
    assert found["the engine's derivative"] == pytest.approx(ours, rel=1e-15)
    assert found["relative error"] == pytest.approx(1e-7, rel=0.1)


def test_a_script_of_second_order(module, tmp_path):
    report = sgt.check_vjp(module.flat, [X], raises=False)
    assert report.check == "vjp, derivative of order 2"
    assert run(report.repro(), tmp_path)["relative error"] > 0.01


def test_a_script_takes_the_derivative_that_was_wrong(tmp_path):
    """A kernel's own, or the one that is recorded for a higher order: those are two."""
    for wrong_when in (False, True):
        source = f"""
import numpy as np, scratchgen as sg
from scratchgen.declare import Primitive
op = Primitive("op", np.sin, (lambda g, y, x: g * x.cos() * (2 if sg.is_grad_enabled() is {wrong_when} else 1),),
               "x", False, False)
def f(x):
    return op(x)
"""
        (tmp_path / f"twofold{wrong_when}.py").write_text(source)
        sys.path.insert(0, str(tmp_path))
        try:
            module = __import__(f"twofold{wrong_when}")
        finally:
            sys.path.remove(str(tmp_path))
        report = sgt.check_vjp(module.f, [X], raises=False)
        assert ("recorded" in report.message) == wrong_when
        assert run(report.repro(), tmp_path)["relative error"] == pytest.approx(0.5)


def test_what_cannot_be_imported_is_quoted_and_ops_are_found_by_name():
    wrong = Primitive("wrong", np.sin, (lambda g, y, x: g,), "x", False, False)
    report = sgt.check_vjp(lambda x: wrong(x) * 2, [X], raises=False)
    assert "#   report = sgt.check_vjp(lambda x: wrong(x) * 2, [X], raises=False)" in report.repro()
    value = sgt.check_reference(sg.softmax, Case("c", (X,), {"dim": 1}), lambda x, dim: x, raises=False)
    assert "function = scratchgen.ops.softmax.softmax" in value.repro()
    op = sgt.check_reference(sg.declare.OPS["exp"], [X], np.sin, raises=False)
    assert "function = OPS['exp']" in op.repro()
    with pytest.raises(ValueError, match="passed, or shows nothing"):
        sgt.check_vjp(sg.sin, [X]).repro()


def test_literals_are_exact_and_keep_the_layout():
    namespace = {"np": np}
    exec(HELPERS, namespace)
    zero_stride = np.broadcast_to(np.array([0.1, -np.inf]), (3, 2))
    for x in (X, X.astype("f4"), np.array(np.pi), zero_stride, np.arange(6).reshape(2, 3).T, np.array([True, False]),
              np.zeros((0, 2))):  # fmt: skip
        back = eval(literal(x), namespace)
        np.testing.assert_array_equal(back, x)
        assert back.dtype == x.dtype
        assert back.strides == x.strides or not x.size
    assert literal(3) == "3"
    assert literal(None) == "None"


def test_a_case_has_the_same_name_in_every_process_and_others_have_others():
    ids = [sgt.check_vjp(sg.sin, [x], order=1).case_id for x in (X, X.copy(), X + 1, np.ascontiguousarray(X))]
    assert ids[0] == "sin-" + ids[0][4:]
    assert len(ids[0]) == 14
    assert ids[1] == ids[3]
    assert len(set(ids)) == 3  # values and layout are part of it
    code = (
        "import numpy as np, scratchgen as sg, scratchgen.testing as sgt\n"
        "print(sgt.check_vjp(sg.sin, [np.eye(2)]).case_id)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == sgt.check_vjp(sg.sin, [np.eye(2)]).case_id


def test_reports_are_json_and_lines():
    report = sgt.check_vjp(sg.sin, [X])
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["verdict"] == "pass"
    assert [part["check"] for part in plain["parts"]] == ["derivative of order 1", "derivative of order 2"]
    assert str(report).startswith("pass         sin: vjp, error ")


def test_together_the_worst_verdict_decides():
    good = Report("a", "f", Verdict.PASS, 1e-15, 1e-14)
    unclear = Report("b", "f", Verdict.INCONCLUSIVE, 0.1, 0.5, message="a kink")
    bad = Report("c", "f", Verdict.FAIL, 0.2, 1e-9, message="wrong")
    assert together("all", "f", [good, unclear, bad]).check == "all, c"
    assert together("all", "f", [good, unclear]).verdict is Verdict.INCONCLUSIVE
    assert together("all", "f", [good, good]).resolution == 1e-14
    assert together("all", "f", []).passed
    assert good.demand() is good
    with pytest.raises(GradientError, match="f: c: wrong") as raised:
        bad.demand()
    assert raised.value.report is bad
    with pytest.raises(Inconclusive, match="a kink"):
        unclear.demand()


def test_without_hypothesis_points_are_still_checked():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import numpy as np, scratchgen as sg, scratchgen.testing as t\n"
        "t.check_vjp(sg.sin, [np.eye(2)])\n"
        "try: t.check(sg.sin)\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "random cases need hypothesis" in done.stdout
