"""Random programs: drawn right, printed as they run, the same in torch, and good at finding bugs of the engine."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
from scratchgen import autograd, changes
from scratchgen.gradients import Gradients
from scratchgen.testing.fuzz import Outcome, compare_with_torch, fuzz, smallest, tally
from scratchgen.testing.grammar import draw_program, random_program
from scratchgen.testing.mutants.engine import BUGS, planted
from scratchgen.testing.programs import Leaf, Program, Step, labels
from scratchgen.testing.shrink import pruned, shrink

pytest.importorskip("torch", reason="the oracle of these tests")


def test_no_program_differs_from_torch():
    found = list(fuzz(250, seed=0))
    counts = tally(found)
    assert counts["DIFFERENT"] == 0, "\n\n".join(str(c) for c in found if c.outcome is Outcome.DIFFERENT)
    assert counts["same"] > 200  # few are refused, and fewer could not be judged
    assert counts["same"] + counts["refused"] == 250
    assert counts["unfit"] < 10


@pytest.mark.parametrize("bug", BUGS)
def test_bugs_planted_in_the_engine_are_found_and_shrink(bug):
    with planted(bug):
        *_, last = fuzz(500, seed=0, until_different=True)
    assert last.outcome is Outcome.DIFFERENT
    assert len(last.program.steps) <= 4
    assert compare_with_torch(last.program).outcome in (Outcome.SAME, Outcome.REFUSED)  # without the bug


def test_planting_leaves_the_engine_as_it_was():
    def engine():
        return Gradients.give, autograd._conform, changes.changed_since, changes.owner_of

    before = engine()
    for bug in BUGS:
        with planted(bug):
            assert engine() != before
    assert engine() == before


def test_a_bug_that_no_longer_fits_the_source_is_an_error(monkeypatch):
    monkeypatch.setitem(BUGS, "old", (autograd, "sweep", "what it never said", "x"))
    with pytest.raises(ValueError, match="sweep has changed"), planted("old"):
        pass


def test_programs_cover_what_they_promise():
    programs = [random_program(seed) for seed in range(600)]
    text = "\n".join(line for p in programs for line in p.lines)
    for piece in (
        ".transpose(", ".reshape(", ".expand(", ".select(", "[..., :1]", ".squeeze(", ".detach()", ".clone()",
        "no_grad", ".unbind(", ".split(", "chunk(", "var_mean", "index_add", ".gather(", "L.tensor([True", "L.cat(",
        "L.stack(", " @ ", "einsum", "F.conv1d", "F.conv2d", "layer_norm", "scaled_dot_product", "L.softmax",
        "cumprod", "L.maximum", "L.where", "keepdim=True", "L.logsumexp",
    ):  # fmt: skip
        assert piece in text, piece
    layouts = Counter(leaf.layout for p in programs for leaf in p.leaves)
    assert min(layouts[name] for name in ("contiguous", "transposed", "sliced")) > 100
    assert sum(len(p.outputs) > 1 for p in programs) > 200
    shared = sum(any(n > 1 for n in Counter(r for s in p.steps for r in s.reads).values()) for p in programs)
    assert shared > 400
    assert sum(p.writes for p in programs) > 60
    assert len({p.case_id for p in programs}) == 600


def test_a_program_is_the_same_in_every_run_and_so_is_its_name():
    a, b = random_program(11), random_program(11)
    assert str(a) == str(b)
    assert a.case_id == b.case_id != random_program(12).case_id
    for x, y in zip(a.run(sg), b.run(sg), strict=True):
        np.testing.assert_array_equal(x, y)
    assert len(labels(a)) == len(a.run(sg))


def test_inputs_lie_in_memory_as_they_say():
    values = np.arange(6.0).reshape(2, 3)
    by_layout = {name: Leaf("x", values, name).array() for name in ("contiguous", "transposed", "sliced")}
    assert {name: a.strides for name, a in by_layout.items()} == {
        "contiguous": (24, 8), "transposed": (8, 16), "sliced": (48, 16),
    }  # fmt: skip
    for name, a in by_layout.items():
        np.testing.assert_array_equal(a, values)
        np.testing.assert_array_equal(eval(Leaf("x", values, name).source, {"np": np}), values)


@given(st.data())
@settings(max_examples=25)
def test_hypothesis_draws_programs_too(data):
    program = draw_program(lambda n: data.draw(st.integers(0, n - 1)), max_nodes=6)
    assert compare_with_torch(program).outcome is not Outcome.DIFFERENT


def test_a_script_runs_alone_and_shows_both_libraries(tmp_path):
    program = next(p for seed in range(99) if (p := random_program(seed)).writes and len(p.outputs) > 1)
    path = tmp_path / "program.py"
    path.write_text(program.script())
    ran = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    if "changed in place since" not in ran.stderr:
        assert ran.returncode == 0, ran.stderr
        lines = ran.stdout.splitlines()
        assert len(lines) == len(labels(program))
        assert max(float(line.rsplit(maxsplit=1)[1]) for line in lines) < 1e-9


def test_a_saved_value_that_was_changed_is_refused_or_right():
    x = Leaf("x0", np.array([0.5, 2.0]))
    square = Step("x0 * x0", ("v0",), ("x0",), ((2,),))
    write = Step("with L.no_grad(): x0.mul_(1.5)", (), ("x0",), writes=True)
    assert compare_with_torch(Program((x,), (square, write), ("v0",))).outcome is Outcome.REFUSED
    assert compare_with_torch(Program((x,), (write, square), ("v0",))).outcome is Outcome.SAME


def test_an_error_in_one_library_only_is_a_difference(monkeypatch):
    program = Program((Leaf("x0", np.ones(2)),), (Step("x0.sin()", ("v0",), ("x0",), ((2,),)),), ("v0",))
    monkeypatch.delattr(sg.Tensor, "sin")
    found = compare_with_torch(program)
    assert found.outcome is Outcome.DIFFERENT
    assert "AttributeError" in str(found)
    assert "v0 = x0.sin()" in str(found)


def test_shrinking_keeps_what_is_needed_and_no_more():
    program = random_program(3)

    def fails(p: Program) -> bool:
        return any("amin" in line for line in p.lines)

    small = shrink(program, fails)
    assert fails(program)
    assert [("amin" in line) for line in small.lines] == [True]
    assert len(small.leaves) == 1
    assert len(small.outputs) == 1


def test_pruning_drops_what_the_results_do_not_need():
    leaves = (Leaf("x0", np.ones(2)), Leaf("x1", np.ones(2)))
    steps = (
        Step("x0.sin()", ("v0",), ("x0",), ((2,),)),
        Step("x1.sin()", ("v1",), ("x1",), ((2,),)),
        Step("x1.zero_()", (), ("x1",), writes=True),
    )
    left = pruned(Program(leaves, steps, ("v0",)))
    assert left.lines == ["v0 = x0.sin()"]
    assert [leaf.name for leaf in left.leaves] == ["x0"]


def test_the_smallest_program_still_differs():
    with planted("un-broadcast: the sum over leading dimensions is a mean"):
        found = next(c for seed in range(50) if (c := compare_with_torch(random_program(seed))).outcome == "DIFFERENT")
        small = smallest(found)
    assert small.outcome is Outcome.DIFFERENT
    assert len(small.program.steps) <= len(found.program.steps)
