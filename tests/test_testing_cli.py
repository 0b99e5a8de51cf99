"""``python -m scratchgen.testing`` and ``scratchgen check``: output, exit status, Ctrl-C, misspelt names."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.cli import main as scratchgen_main
from scratchgen.declare import Primitive
from scratchgen.testing import check_vjp, command, suite
from scratchgen.testing.everything import TESTED
from scratchgen.testing.report import Report, Verdict
from scratchgen.testing.suite import KINDS, PROFILES, Part, UnknownOp, parts

QUICK = PROFILES["quick"]
MINE = '''
import numpy as np
import scratchgen.testing as sgt
from scratchgen.declare import Primitive

{name} = sgt.op(ref=np.sin, cases=sgt.cases.arrays(shape=(2, 3)).map(lambda a: sgt.Case("a", (a,))), name="{name}")(
    Primitive("{name}", np.sin, (lambda g, y, x: g * x.cos() * {factor},), "x", False, False)
)
'''


@pytest.fixture
def _forget():
    """Ops of these tests are not left to the others."""
    before = dict(TESTED)
    yield
    TESTED.clear()
    TESTED.update(before)


def test_run_of_an_op_prints_a_table_and_passes(capsys, tmp_path):
    status = command.main(["run", "tril", "--json", str(tmp_path / "r.json"), "-v"])
    out = capsys.readouterr().out
    assert status == 0
    assert "pass         tril" in out
    assert "derivatives" in out.splitlines()[-1]
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["profile"]["name"] == "quick"
    assert {report["verdict"] for report in content["reports"]} == {"pass"}
    assert not content["stopped"]


def test_misspelt_names_are_a_sentence_with_what_comes_close(capsys):
    for arguments in (["run", "sotfmax"], ["list", "sotfmax"]):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert "no op is called 'sotfmax'; did you mean softmax" in error
        assert "list` shows them all" in error
    assert command.main(["repro", "sotfmax-0123456789"]) == 2
    assert command.main(["run", "nowhere.py"]) == 2
    assert "no file is called 'nowhere.py'" in capsys.readouterr().err
    assert command.main(["mutants", "--checkers", "mine"]) == 2
    assert "no checker is called mine" in capsys.readouterr().err
    assert scratchgen_main(["check", "sotfmax"]) == 2
    assert "did you mean softmax" in capsys.readouterr().err


@pytest.mark.usefixtures("_forget")
def test_ops_of_a_file_are_run_by_its_name_and_a_failure_is_shown_again(tmp_path, capsys):
    (tmp_path / "fine.py").write_text(MINE.format(name="fine", factor=1))
    (tmp_path / "off.py").write_text(MINE.format(name="off", factor=1.001))
    assert command.main(["run", str(tmp_path / "fine.py")]) == 0
    capsys.readouterr()
    assert command.main(["run", str(tmp_path / "off.py")]) == 1
    out = capsys.readouterr().out
    assert "fail         off" in out
    case = out.partition("repro '")[2].partition("'")[0]
    assert case.startswith("off-")
    assert command.main(["repro", case, "--profile", "quick"]) == 0
    assert "import scratchgen as sg" in capsys.readouterr().out
    (tmp_path / "empty.py").write_text("")
    assert command.main(["run", str(tmp_path / "empty.py")]) == 2


def test_a_program_is_shown_again_by_its_number(capsys):
    pytest.importorskip("torch")
    assert command.main(["repro", "program-7"]) == 0
    out = capsys.readouterr().out
    assert "import torch" in out
    compile(out, "program-7", "exec")


def test_fuzz_counts_and_writes(capsys, tmp_path):
    pytest.importorskip("torch")
    assert command.main(["fuzz", "-n", "20", "--json", str(tmp_path / "f.json")]) == 0
    assert "0 DIFFERENT" in capsys.readouterr().out
    assert json.loads((tmp_path / "f.json").read_text())["different"] == []


def test_fuzz_that_finds_something_says_how_to_see_it_again(capsys, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.delattr(sg.Tensor, "sin")
    assert command.main(["fuzz", "-n", "30"]) == 1
    assert "repro program-" in capsys.readouterr().out


def _part(name: str, report: Report | type[BaseException]) -> Part:
    def run() -> Report:
        if isinstance(report, Report):
            return report
        raise report

    return Part("derivatives", name, run)


PASS, UNCLEAR = Report("c", "s", Verdict.PASS), Report("c", "s", Verdict.INCONCLUSIVE, message="a kink")


def test_ctrl_c_ends_with_what_was_found_so_far(capsys, tmp_path):
    chosen = [_part("a", PASS), _part("b", KeyboardInterrupt), _part("c", PASS)]
    assert command.judge(chosen, QUICK, json_file=tmp_path / "r.json") == 130
    captured = capsys.readouterr()
    assert "stopped" in captured.err
    assert "derivatives           1      1      0" in captured.out
    content = json.loads((tmp_path / "r.json").read_text())
    assert content["stopped"]
    assert len(content["reports"]) == 1


def test_more_than_two_percent_inconclusive_is_a_failure(capsys):
    assert command.judge([_part("a", PASS)] * 60 + [_part("b", UNCLEAR)], QUICK) == 0
    assert command.judge([_part("a", PASS)] * 20 + [_part("b", UNCLEAR)], QUICK) == 1
    assert "inconclusive" in capsys.readouterr().out


def test_parts_of_an_op_are_of_every_kind_and_no_others():
    chosen = list(parts(PROFILES["ci"], ["softmax"]))
    assert {part.kind for part in chosen} == set(KINDS) - {"programs"}
    names = [part.name for part in chosen if part.kind == "derivatives"]
    assert "softmax" in names
    assert "softmin" in names  # it goes through softmax
    assert "conv2d" not in names
    assert [part.name for part in chosen if part.kind == "kernels"][:2] == ["softmax float32", "softmax float64"]
    everything = list(parts(QUICK))
    assert {part.kind for part in everything} == set(KINDS) - {"implementations"}
    assert len(everything) > 900


def test_unknown_backends_and_ops_raise():
    with pytest.raises(ValueError, match="unknown backend 'tpu'; expected one of cpu, reference"):
        list(parts(QUICK, backend="tpu"))
    with pytest.raises(UnknownOp, match="did you mean conv2d"):
        list(parts(QUICK, ["conv2dd"]))


def test_backends_reach_the_checks():
    for backend in ("reference", "emu"):
        chosen = [p for p in parts(QUICK, ["softmax"], backend=backend, kinds=["derivatives"]) if p.name == "softmax"]
        assert chosen[0].run().passed


def test_a_wrong_kernel_is_found_and_named(monkeypatch):
    right = suite.kernels.implementations("tanh", "cpu")["reference"]
    wrong = suite.kernels.Kernel("tanh", "wrong", lambda x: np.tanh(x) * x.dtype.type(1.001))
    monkeypatch.setitem(suite.kernels.registry._table, "tanh", {"reference": right, "wrong": wrong})
    report = suite.check_kernel("tanh")
    assert report.verdict is Verdict.FAIL
    assert "wrong" in report.check
    found = suite.check_implementation("tanh", "wrong")
    assert found.verdict is Verdict.FAIL
    assert "number 0 of value and derivatives is off by 1.0e-03" in found.message


def test_scratchgen_check_is_the_same_run(capsys):
    assert scratchgen_main(["check", "tril"]) == 0
    assert "derivatives" in capsys.readouterr().out


def test_the_module_runs_as_a_command():
    found = subprocess.run(
        [sys.executable, "-m", "scratchgen.testing", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("run", "fuzz", "repro", "list", "coverage", "mutants"):
        assert name in found.stdout


def test_list_names_ops_and_cases(capsys):
    assert command.main(["list"]) == 0
    assert "softmax" in capsys.readouterr().out.split()
    assert command.main(["list", "tril"]) == 0
    assert "derivatives     tril" in capsys.readouterr().out


def test_a_report_of_a_planted_op_says_what_is_wrong():
    wrong = Primitive("wrong", np.sin, (lambda g, y, x: -g * x.cos(),), "x", False, False)
    assert check_vjp(wrong, [np.ones(2)], raises=False).verdict is Verdict.FAIL
