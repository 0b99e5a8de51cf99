"""Cases are what they say: valid calls, every layout, values away from kinks; and small where they fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scratchgen as sg
import scratchgen.testing as sgt
from scratchgen.declare import Primitive
from scratchgen.nn import functional as F
from scratchgen.testing import GradientError, Inconclusive, Verdict, cases
from scratchgen.testing.alarms import main, tally
from scratchgen.testing.cases import LAYOUTS, VALUES, laid_out, numbers
from scratchgen.testing.families import FAMILIES

few = settings(max_examples=30, deadline=None)


@few
@given(st.data(), st.sampled_from(LAYOUTS), st.sampled_from(["f8", "f4"]))
def test_arrays_have_the_layout_that_was_asked_for(data, layout, dtype):
    x = data.draw(cases.arrays((3, 2, 4), dtype=dtype, layout=layout))
    assert x.shape == (3, 2, 4)
    assert x.dtype == dtype
    steps = x.strides
    assert x.flags.c_contiguous == (layout in ("c", "offset")) or layout == "transposed"
    if layout == "fortran":
        assert x.flags.f_contiguous
    if layout == "broadcast":
        assert 0 in steps
    if layout == "reversed":
        assert all(s < 0 for s in steps)
    if layout == "offset":
        assert x.base is not None
        assert x.base.size > x.size


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3, 2)])
def test_a_layout_keeps_the_numbers(layout, shape):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    laid = laid_out(x, layout, np.random.default_rng(0))
    assert laid.shape == shape
    if layout != "broadcast":
        np.testing.assert_array_equal(laid, x)


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_of_their_kind(kind):
    x = numbers((6, 10), kind, np.random.default_rng(0))
    if kind == "integer":
        assert (x == np.rint(x)).all()
    elif kind == "spaced":
        far = np.diff(np.sort(np.r_[0.0, np.abs(x).ravel()]))
        assert far.min() > 0.09
    elif kind in ("positive", "unit"):
        assert 0 < x.min() < x.max() < (1 if kind == "unit" else 3.01)
    elif kind == "tie":
        assert len(np.unique(x)) < 5
    elif kind == "edge":
        assert np.isnan(x).any()
        assert np.isinf(x).any()
    else:
        assert abs(x.mean()) < 0.5


def test_unknown_names_are_told_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown values='odd'; expected of normal, integer"):
        numbers((2,), "odd", np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown layout='odd'"):
        laid_out(np.zeros(2), "odd", np.random.default_rng(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_random_cases_of_every_family_are_valid_and_pass(family):
    """A sample of what ``python -m scratchgen.testing.alarms`` does in full."""
    found = tally(family, 6, k=2)
    assert sum(found.verdicts.values()) == 6
    assert found.verdicts[Verdict.PASS] == 6, found.remarkable


@pytest.mark.parametrize(("family", "path"), [
    ("conv", "nn.functional"), ("pool", "nn.functional"), ("attention", "nn.functional"), ("loss", "nn.functional"),
    ("resize", "nn.functional"), ("norm", "nn.functional"),
])  # fmt: skip
def test_cases_mean_the_same_to_torch(family, path):
    torch = pytest.importorskip("torch")

    @settings(max_examples=12, deadline=None)
    @given(st.data())
    def run(data):
        member = data.draw(st.sampled_from(FAMILIES[family]))
        case = data.draw(member.cases)
        theirs = getattr(torch.nn.functional, member.name)

        def call(*ts, **attrs):
            given = {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in attrs.items()}
            return theirs(*ts, **given)

        sgt.check_torch(member.function, case, call, name=member.name)

    run()


def test_the_command_prints_a_table_and_knows_the_families(capsys, tmp_path):
    assert main(["einsum", "--count", "3", "--json", str(tmp_path / "found.json")]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["einsum", "3", "0"]
    assert '"inconclusive": 0' in (tmp_path / "found.json").read_text()
    with pytest.raises(SystemExit):
        main(["einsums"])
    assert "unknown families einsums; there are elementwise," in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- an op of one's own

slips = Primitive("slips", lambda x, dim: np.cumsum(x, dim), (
    lambda g, y, x, dim: g.flip(-1).cumsum(-1).flip(-1),  # right along the last dimension only
), "x", False, False)  # fmt: skip


@sgt.op(ref=lambda x, dim: np.cumsum(x, dim), torch="cumsum", cases=cases.along(), laws=[sgt.laws.linearity()])
def my_cumsum(x, dim):
    return slips(x, dim=dim)


@sgt.op(ref=lambda x, dim: np.cumsum(x, dim), torch="cumsum", cases=cases.along(), laws=[sgt.laws.linearity()])
def good_cumsum(x, dim):
    return sg.cumsum(x, dim)


def test_a_mistake_is_found_and_made_small():
    report = sgt.check(my_cumsum, examples=30, raises=False)
    assert report.verdict is Verdict.FAIL
    (x,) = report.parts[0].parts[0].evidence.subject.arrays
    assert x.ndim == 2
    assert x.size <= 2
    with pytest.raises(GradientError, match="my_cumsum: all, vjp, derivative of order 1"):
        report.demand()


def test_a_right_op_passes_all_checks():
    report = sgt.check(good_cumsum, examples=10, backend=sgt.backends())
    assert report.verdict is Verdict.PASS
    assert report.check == "10 cases"
    with pytest.raises(TypeError, match="no cases for sin"):
        sgt.check(sg.sin)


def test_check_all_says_what_it_did():
    report = sgt.check_all(good_cumsum, sgt.Case("one", (np.eye(3),), {"dim": 0}))
    names = [part.check.partition(",")[0] for part in report.parts]
    expected = ["vjp", "inputs and layout", "determinism", "dot", "reference", "torch", "laws"]
    assert [name for name in names if name != "torch"] == [name for name in expected if name != "torch"]


@sgt.given(good_cumsum, backend=sgt.backends(), examples=5)
def test_given_draws_cases_and_backends(case, backend):
    assert set(case.attrs) == {"dim"}
    assert backend.name in ("reference", "cpu")
    sgt.check_vjp(good_cumsum, case, k=2)


@pytest.fixture
def shape():
    return (2, 3)


@sgt.given(x=cases.arrays((2, 3)), examples=3)
def test_given_goes_with_fixtures(shape, x):
    assert x.shape == shape


def test_given_fails_where_too_much_is_unclear():
    @sgt.given(cases.elementwise(), examples=20)
    def unclear(case):
        raise Inconclusive("a kink")

    with pytest.raises(Inconclusive, match=r"of \d+ cases were inconclusive, more than 2%"):
        unclear()

    @sgt.given(cases.elementwise(), examples=20)
    def wrong(case):
        sgt.check_vjp(lambda x: F.softplus(x) + 0 * x.detach(), case)
        assert case.arrays[0].ndim < 2, "too many dimensions"

    with pytest.raises(AssertionError, match="too many dimensions"):
        wrong()
    with pytest.raises(TypeError, match="expected a strategy of cases"):
        sgt.given(sg.sin)
