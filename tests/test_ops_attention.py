"""Attention: torch's values and first gradients, third order, masks of all kinds, blocks, heads that share keys."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import assert_like_torch, lying, torch

import scratchgen as sg
from scratchgen import kernels
from scratchgen.declare import OPS
from scratchgen.kernels.attention import reference
from scratchgen.testing import check_grad

attention = sg.scaled_dot_product_attention
theirs_attention = torch.nn.functional.scaled_dot_product_attention
INF = float("inf")


def draw(*shape, seed=12):
    return np.random.default_rng(seed).standard_normal(shape)


def qkv(*batch, L=4, S=5, E=3, Ev=2):
    return draw(*batch, L, E), draw(*batch, S, E, seed=13), draw(*batch, S, Ev, seed=14)


def allowed(*shape):
    """Bools with a row that allows nothing, one that allows all, and a key nobody may see."""
    mask = np.random.default_rng(15).random(shape) < 0.6
    mask[..., 0, :], mask[..., 1, :], mask[..., 0] = False, True, False
    return mask


def like_torch(*arrays, rtol=1e-10, **options):
    assert_like_torch(
        lambda *xs: attention(*xs, **options), lambda *ts: theirs_attention(*ts, **options), *arrays, rtol=rtol
    )


# --- values and first gradients


@pytest.mark.parametrize("batch", [(), (2,), (2, 3), (2, 1, 3)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_values_and_gradients_are_torchs(batch, is_causal):
    like_torch(*qkv(*batch), is_causal=is_causal)
    like_torch(*qkv(*batch, L=6, S=3, E=4, Ev=4), is_causal=is_causal, scale=0.3)
    like_torch(*qkv(*batch, L=1, S=1, E=1, Ev=1), is_causal=is_causal)


def test_memory_layouts():
    for q, k, v in zip(lying((2, 4, 3)), lying((2, 5, 3), 1), lying((2, 5, 6), 2), strict=True):
        like_torch(q, k, v)


def test_leading_dimensions_broadcast():
    like_torch(draw(2, 1, 4, 3), draw(3, 5, 3, seed=1), draw(1, 3, 5, 2, seed=2))


@pytest.mark.parametrize("shape", [(4, 5), (2, 1, 4, 5), (3, 4, 5), (1, 5), (2, 3, 4, 5)])
def test_bool_masks(shape):
    mask = allowed(*shape) if shape[-2] > 1 else np.array([[False, True, True, False, True]])
    q, k, v = qkv(2, 3)
    for is_causal in (False, True):
        assert_like_torch(
            lambda q, k, v, c=is_causal: attention(q, k, v, sg.tensor(mask), is_causal=c),
            lambda q, k, v, c=is_causal: theirs_attention(
                q, k, v, torch.from_numpy(mask & np.tri(4, 5, dtype=bool) if c else mask)
            ),
            q, k, v,
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(4, 5), (2, 1, 4, 5), (3, 4, 5), (1, 5), (2, 3, 4, 5), (5,)])
def test_float_masks_have_gradients(shape):
    """Torch's own attention has no gradient for some mask shapes, so the oracle is the formula on its tensors."""

    def formula(q, k, v, mask, is_causal):
        scores = q @ k.transpose(-1, -2) * 3**-0.5 + mask
        if is_causal:
            scores = scores.masked_fill(~torch.ones(4, 5, dtype=torch.bool).tril(), -INF)
        return scores.softmax(-1) @ v

    for is_causal in (False, True):
        assert_like_torch(
            lambda *xs, c=is_causal: attention(*xs, is_causal=c),
            lambda *ts, c=is_causal: formula(*ts, c),
            *qkv(2, 3), draw(*shape, seed=16),
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_a_query_that_may_attend_to_nothing_gives_zeros_and_no_nan(kind):
    mask = allowed(4, 5)
    given = sg.tensor(mask) if kind == "bool" else sg.tensor(np.where(mask, 0.0, -INF), requires_grad=True)
    inputs = [sg.tensor(a, requires_grad=True) for a in qkv()]
    variables = [x for x in (*inputs, given) if x.requires_grad]
    y = attention(*inputs, given)
    assert (y.numpy(force=True)[0] == 0).all()
    assert (y.numpy(force=True)[1] != 0).all()
    first = sg.grad(y.sum(), variables, create_graph=True)
    plain = sg.grad(attention(*inputs, given).sum(), variables)
    second = sg.grad(sum((g * g).sum() for g in first), variables)
    for a, b, c in zip(first, plain, second, strict=True):
        np.testing.assert_allclose(a.numpy(force=True), b.numpy(), atol=1e-12)  # composite and kernel
        assert np.isfinite(c.numpy()).all()
    assert (plain[0].numpy()[0] == 0).all()
    assert (plain[1].numpy()[0] == 0).all()  # the key that nobody may see
    assert (plain[2].numpy()[0] == 0).all()


@pytest.mark.parametrize("heads", [(6, 2), (4, 1), (3, 3)])
def test_heads_may_share_keys(heads):
    many, few = heads
    q, k, v = draw(2, many, 4, 3), draw(2, few, 5, 3, seed=1), draw(2, few, 5, 2, seed=2)
    like_torch(q, k, v, enable_gqa=True)
    assert attention(*(sg.tensor(a) for a in (q[0], k, v)), enable_gqa=True).shape == (2, many, 4, 2)
    for shape in ((4, 5), (2, 1, 4, 5), (2, many, 4, 5)):
        mask = np.random.default_rng(3).random(shape) < 0.7
        assert_like_torch(
            lambda q, k, v, m=mask: attention(q, k, v, sg.tensor(m), enable_gqa=True),
            lambda q, k, v, m=mask: theirs_attention(q, k, v, torch.from_numpy(m), enable_gqa=True),
            q, k, v,
        )  # fmt: skip


def test_no_keys_or_no_queries():
    assert attention(sg.ones(2, 4, 3), sg.ones(2, 0, 3), sg.ones(2, 0, 5)).tolist() == np.zeros((2, 4, 5)).tolist()
    assert attention(sg.ones(2, 0, 3), sg.ones(2, 4, 3), sg.ones(2, 4, 5)).shape == (2, 0, 5)
    assert attention(sg.ones(0, 2, 3), sg.ones(0, 4, 3), sg.ones(0, 4, 5)).shape == (0, 2, 5)


def test_large_scores_neither_overflow_nor_warn():
    q, k, v = qkv()
    like_torch(1e4 * q, 1e4 * k, v)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precision_is_kept(dtype):
    inputs = [sg.tensor(a.astype(dtype), requires_grad=True) for a in qkv(2)]
    y = attention(*inputs, is_causal=True)
    exact = attention(*[sg.tensor(a.astype(dtype).astype(np.float64)) for a in qkv(2)], is_causal=True)
    assert y.dtype == dtype
    np.testing.assert_allclose(y.numpy(force=True), exact.numpy(), atol=2e-3 if dtype == np.float16 else 1e-6)
    for g, x in zip(sg.grad(y.sum(), inputs, create_graph=True), inputs, strict=True):
        assert g.dtype == x.dtype == dtype


# --- every order


@pytest.mark.parametrize("is_causal", [False, True])
def test_third_order(is_causal):
    check_grad(lambda *xs: attention(*xs, is_causal=is_causal), *qkv(2), order=3)


@pytest.mark.parametrize("is_causal", [False, True])
def test_third_order_with_a_float_mask(is_causal):
    check_grad(lambda *xs: attention(*xs, is_causal=is_causal), *qkv(2), draw(4, 5, seed=16), order=3)


def test_third_order_with_a_bool_mask_and_shared_keys():
    mask = sg.tensor(allowed(4, 5))
    inputs = draw(4, 4, 3), draw(2, 5, 3, seed=1), draw(2, 5, 2, seed=2)
    check_grad(lambda *xs: attention(*xs, mask, enable_gqa=True), *inputs, order=3)


# --- dropout


def test_dropout_drops_weights_and_keeps_their_expectation():
    """With values that are unit vectors the output is the row of weights itself."""
    q, k, _ = (sg.tensor(a) for a in qkv())
    v = sg.eye(5, dtype=sg.float64)
    weights = attention(q, k, v).numpy()
    generator = sg.Generator(0)
    draws = np.stack([attention(q, k, v, dropout_p=0.25, generator=generator).numpy() for _ in range(4000)])
    kept = draws != 0
    np.testing.assert_allclose(draws[kept], (kept * weights / 0.75)[kept], rtol=1e-12)
    np.testing.assert_allclose(kept.mean(), 0.75, atol=4 * np.sqrt(0.25 * 0.75 / kept.size))
    assert (attention(q, k, v, dropout_p=1.0).numpy() == 0).all()


def test_dropout_derivatives():
    check_grad(lambda *xs: attention(*xs, dropout_p=0.4, generator=sg.Generator(1)), *qkv(), order=2)


# --- the rest


def test_blocks_of_queries_give_what_one_block_gives(monkeypatch):
    arrays = (*(a.astype(np.float64) for a in qkv(2, L=23, S=17, E=4, Ev=3)), draw(2, 23, 17, seed=5))
    y, lse = reference.scaled_dot_product_attention(*arrays, is_causal=True, scale=0.5)
    g = draw(*y.shape, seed=6)
    options = {"is_causal": True, "scale": 0.5, "needs": (True,) * 4}
    whole = reference.scaled_dot_product_attention_vjp(g, y, *arrays, lse, **options)
    monkeypatch.setattr(reference, "BLOCK_ELEMENTS", 1)
    monkeypatch.setattr(reference, "BLOCK_ROWS", 5)
    y5, lse5 = reference.scaled_dot_product_attention(*arrays, is_causal=True, scale=0.5)
    np.testing.assert_allclose(y5, y, rtol=1e-12)
    np.testing.assert_allclose(lse5, lse, rtol=1e-12)
    for a, b in zip(reference.scaled_dot_product_attention_vjp(g, y, *arrays, lse, **options), whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_memory_is_a_block_not_the_matrix():
    """1,000 x 1,000 weights of 40 heads would be 160 MB."""
    import tracemalloc

    q, k, v = (sg.tensor(a.astype(np.float32)) for a in qkv(40, L=1000, S=1000, E=4, Ev=4))
    tracemalloc.start()
    attention(q, k, v)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_the_composite_is_what_the_kernel_computes():
    op = OPS["scaled_dot_product_attention"]
    q, k, v = (sg.tensor(a) for a in qkv(2, 3))
    masks = [None, sg.tensor(allowed(2, 3, 4, 5)), sg.tensor(np.where(allowed(2, 3, 4, 5), draw(2, 3, 4, 5), -INF))]
    for mask in masks:
        for is_causal in (False, True):
            got, expected = (f(q, k, v, mask, is_causal=is_causal, scale=0.4) for f in (op, op.composite))
            np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_kernels_agree_with_their_reference(dtype):
    op = "scaled_dot_product_attention"
    done = [*kernels.compare(op, dtype=dtype), *kernels.compare(f"{op}_vjp", dtype=dtype)]
    assert [c for c in done if not c.passed] == []
    assert len(done) >= 18


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": (5, 4)}, ValueError, r"query and key must have one size.* query \[4, 3\], key \[5, 4\], value \[5, 2\]"),
        ({"v": (6, 2)}, ValueError, "key and value one length"),
        ({"q": (3,)}, ValueError, r"expected \[..., length, size\] each, got query \[3\]"),
        ({"mask": np.zeros((5, 5))}, ValueError, r"attn_mask of shape \[5, 5\] does not broadcast to \[4, 5\]"),
        ({"mask": np.zeros((2, 4, 5))}, ValueError, r"attn_mask of shape \[2, 4, 5\] does not broadcast to \[4, 5\]"),
        ({"mask": np.zeros((4, 5), np.int64)}, TypeError, "attn_mask must be bools or floats, got int64"),
        ({"enable_gqa": True}, ValueError, "enable_gqa needs"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(change, error, message):
    shapes = {"q": (4, 3), "k": (5, 3), "v": (5, 2)} | {n: s for n, s in change.items() if n in "qkv"}
    mask = sg.tensor(change["mask"]) if "mask" in change else None
    with pytest.raises(error, match=message):
        attention(*(sg.zeros(s) for s in shapes.values()), mask, enable_gqa=change.get("enable_gqa", False))


def test_dtypes_must_be_one():
    with pytest.raises(TypeError, match="must have one dtype, got float32, float64, float32"):
        attention(sg.zeros(4, 3), sg.zeros(5, 3).double(), sg.zeros(5, 2))
