"""Einstein summation: torch's values and gradients, all of its notation, and right derivatives of its composition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_like_torch, both, lying, torch

import scratchgen as sg
from scratchgen.testing import check_grad

rng = np.random.default_rng(0)

CASES = [
    ("i->i", (3,)), ("ij->ji", (2, 3)), ("ij->", (2, 3)), ("ij->j", (2, 3)), ("ij", (2, 3)), ("ba", (2, 3)),
    ("ii->i", (3, 3)), ("ii", (3, 3)), ("iij->ij", (3, 3, 2)), ("iii->i", (2, 2, 2)), ("ijij->ji", (2, 3, 2, 3)),
    ("...ij->...ji", (2, 1, 3, 4)), ("i...->...i", (2, 3, 4)), ("...", (2, 3)), ("...->...", ()), ("i...->i", (2, 3)),
    ("i...i->...", (2, 3, 2)), ("aB", (2, 3)),
    (",->", (), ()), (",i->i", (), (3,)), ("i,i->", (3,), (3,)), ("i,i->i", (3,), (3,)), ("i,j->ij", (3,), (2,)),
    ("i,j->ji", (3,), (2,)), ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ij,kj->ki", (2, 3), (4, 3)),
    ("ij,ij->i", (2, 3), (2, 3)), ("ij,ij->", (2, 3), (2, 3)), ("ij,kl->", (2, 3), (4, 5)),
    ("ij,kl->lj", (2, 3), (4, 5)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("bij,jk->bik", (2, 3, 4), (4, 5)), ("ij,bjk->bik", (3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("i...,...i->...", (3, 2), (2, 3)),
    ("a...,a...->a...", (3, 1), (3, 4)),
    ("ij,ij->ij", (1, 3), (2, 3)), ("ij,jk->ik", (2, 1), (3, 4)), ("ijk,jil->kl", (2, 3, 4), (3, 2, 5)),
    ("iij,jk->ik", (2, 2, 3), (3, 4)), ("abcd,cdef->abef", (2, 1, 3, 2), (3, 2, 2, 2)),
    ("abcd,dbef->acef", (2, 3, 2, 2), (2, 3, 1, 2)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)), ("i,ij,j->", (2,), (2, 3), (3,)),
    ("bn,anm,bm->ba", (2, 3), (5, 3, 4), (2, 4)),
    ("i,i,i->i", (3,), (3,), (3,)), ("ab,cd,ef->", (2, 3), (2, 2), (3, 1)),
    ("ij,kj,kl,lm->im", (2, 3), (4, 3), (4, 5), (5, 2)),
    ("...i,ij,...j->...", (2, 3), (3, 4), (2, 4)), (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 3)), ("ij,jk->ik", (0, 2), (2, 3)), ("ij->i", (3, 0)), ("i,j->ij", (0,), (2,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_einsum_is_torchs_and_right_to_second_order(case):
    equation, *shapes = case

    def ours(*xs):
        return sg.einsum(equation, *xs)

    for arrays in zip(*[lying(shape, seed) for seed, shape in enumerate(shapes)]):
        assert_like_torch(ours, lambda *xs: torch.einsum(equation, *xs), *arrays)
    check_grad(lambda *xs: ours(*xs).sin(), *arrays, order=2)


@given(st.data())
def test_random_equations_are_numpys(data):
    """Up to four operands whose labels, repeated or not, come in any order."""
    sizes = dict(zip("abcdef", (2, 3, 1, 4, 2, 3)))
    terms = data.draw(st.lists(st.text("abcdef", max_size=4), min_size=1, max_size=4))
    every = sorted(set("".join(terms)))
    output = "".join(data.draw(st.permutations(every)))[: data.draw(st.integers(0, len(every)))]
    equation = ",".join(terms) + "->" + output
    arrays = [np.random.default_rng(i).standard_normal([sizes[x] for x in term]) for i, term in enumerate(terms)]
    got = sg.einsum(equation, *[sg.tensor(a) for a in arrays])
    np.testing.assert_allclose(got.numpy(), np.einsum(equation, *arrays), rtol=1e-10, atol=1e-12, err_msg=equation)


def test_other_ways_to_give_operands():
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    assert_like_torch(lambda *xs: sg.einsum("ij,jk", list(xs)), lambda *xs: torch.einsum("ij,jk", list(xs)), a, b)
    for one, two, *out in (([0, 1], [1, 2], [2, 0]), ([0, 1], [1, 2]), ([30, 1], [1, 2]), ([..., 7], [7, 2], [2, ...])):
        assert_like_torch(*both(lambda m, a, b, args=(one, two, out): m.einsum(a, args[0], b, args[1], *args[2])), a, b)


def test_a_pair_is_one_matrix_product(monkeypatch):
    """Attention's products reach matmul as batches of matrices, without a sum over a larger temporary."""
    seen = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: seen.append((a.shape, b.shape)) or matmul(a, b))
    sg.einsum("bqhd,bkhd->bhqk", *(sg.ones(2, n, 3, 4, dtype=sg.float64) for n in (5, 6)))  # NumPy's own product
    assert seen == [((2, 3, 5, 4), (2, 3, 4, 6))]


def test_a_long_chain_is_multiplied_in_a_cheap_order(monkeypatch):
    seen = []
    matmul = np.matmul
    monkeypatch.setattr(np, "matmul", lambda a, b: seen.append(a.shape[0] * a.shape[1] * b.shape[1]) or matmul(a, b))
    square, vector = (sg.ones(*shape, dtype=sg.float64) for shape in ((50, 50), (50,)))
    sg.einsum("ij,jk,kl,l->i", square, square, square, vector)
    assert sum(seen) == 3 * 50 * 50  # from the vector on; from the left it would be 2 * 50^3 + 50^2


x = sg.zeros(2, 3)
MISTAKES = [
    (("ij,jk", x), r"einsum: 'ij,jk' has 2 operands, got 1"),
    (("ijk", x), r"einsum: 'ijk' in 'ijk' does not fit operand 0 of shape \[2, 3\]"),
    (("i", x), r"einsum: 'i' in 'i' does not fit operand 0"),
    (("i1", x), r"einsum: 'i1' in 'i1' may hold letters and one '...'"),
    (("......", x), r"may hold letters and one '...'"),
    (("ij,jk", x, x), r"einsum: 'j' in 'ij,jk' is 3 long in one operand and 2 in another, of shapes \[2, 3\]"),
    (("...,...", x, x.mT), r"einsum: '...' in '...,...' is"),
    (("ii", x), r"einsum: 'i' in 'ii' (takes a diagonal|is 2 long)"),
    (("ii", x[:, :1]), r"einsum: 'i' in 'ii' takes a diagonal of lengths 2 and 1"),
    (("ij->k", x), r"einsum: in 'ij->k' the output's 'k' must be in an operand, and only once"),
    (("ij->ii", x), r"einsum: in 'ij->ii' the output's 'i' must be in an operand, and only once"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        sg.einsum(*arguments)
