"""MultiheadAttention with torch's weights gives torch's results, weights and gradients, for every mask and option."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn

torch = pytest.importorskip("torch", reason="the oracle of these tests")

E, H, N, L, S = 8, 2, 3, 4, 5

OPTIONS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"kdim": 6, "vdim": 7},
    {"kdim": 6, "vdim": 7, "bias": False, "batch_first": True},
    {"add_bias_kv": True},
    {"add_zero_attn": True, "batch_first": True},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 6},
]


def pair(dtype="float64", **options):
    theirs = torch.nn.MultiheadAttention(E, H, dtype=getattr(torch, dtype), **options)
    generator = torch.Generator().manual_seed(1)
    for t in theirs.state_dict().values():
        t.copy_(torch.rand(t.shape, generator=generator, dtype=t.dtype) - 0.5)
    ours = nn.MultiheadAttention(E, H, dtype=dtype, **options)
    assert [(key, t.shape) for key, t in ours.state_dict().items()] == [
        (key, tuple(t.shape)) for key, t in theirs.state_dict().items()
    ]
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def inputs(theirs, batched=True, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(L, E), (S, theirs.kdim), (S, theirs.vdim)]
    if batched:
        shapes = [(N, *shape) if theirs.batch_first else (shape[0], N, shape[1]) for shape in shapes]
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def compare(ours, theirs, arrays, rtol=1e-10, **kwargs):
    """Output, attention weights, and gradients of inputs and parameters. Arrays that are one object stay one."""
    made = {id(a): (sg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)) for a in arrays}
    xs, ts = zip(*(made[id(a)] for a in arrays), strict=True)
    mine = {key: sg.tensor(a) if isinstance(a, np.ndarray) else a for key, a in kwargs.items()}
    its = {key: torch.tensor(a) if isinstance(a, np.ndarray) else a for key, a in kwargs.items()}
    (y, weights), (t, expected) = ours(*xs, **mine), theirs(*ts, **its)
    np.testing.assert_allclose(y.numpy(force=True), t.detach().numpy(), rtol=rtol, atol=rtol)
    g = np.random.default_rng(1).normal(size=y.shape).astype(y.dtype)
    loss, reference = (y * sg.tensor(g)).sum(), (t * torch.tensor(g)).sum()
    assert (weights is None) == (expected is None)
    if weights is not None:
        np.testing.assert_allclose(weights.numpy(force=True), expected.detach().numpy(), rtol=rtol, atol=rtol)
        loss, reference = loss + (weights * weights).sum(), reference + (expected * expected).sum()
    ours.zero_grad()
    theirs.zero_grad()
    loss.backward()
    reference.backward()
    pairs = [*((x.grad, q.grad) for x, q in made.values())]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("need_weights", [True, False])
def test_options(options, need_weights):
    ours, theirs = pair(**options)
    compare(ours, theirs, inputs(theirs), need_weights=need_weights)
    compare(ours, theirs, inputs(theirs, batched=False), need_weights=need_weights)


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"add_bias_kv": True}])
def test_inputs_that_are_one(options):
    """Self-attention, and keys that are values, are projected at one go: the results must be the same."""
    ours, theirs = pair(**options)
    query, key, _ = inputs(theirs)
    compare(ours, theirs, [query] * 3)
    compare(ours, theirs, [query, key, key])
    assert ours.in_proj_weight is not None


def padding_mask():
    mask = np.zeros((N, S), bool)
    mask[0, 3:] = mask[2, 0] = True
    return mask


def pair_mask(*lead):
    mask = np.random.default_rng(2).random((*lead, L, S)) < 0.4
    mask[..., 1] = False  # every query has a key left
    return mask


MASKS = [
    {"key_padding_mask": padding_mask()},
    {"attn_mask": pair_mask()},
    {"attn_mask": pair_mask(N * H)},
    {"attn_mask": np.random.default_rng(3).normal(size=(L, S))},
    {"attn_mask": np.random.default_rng(3).normal(size=(N * H, L, S)), "average_attn_weights": False},
    {
        "key_padding_mask": np.where(padding_mask(), -math.inf, 0.0),
        "attn_mask": np.random.default_rng(3).normal(size=(L, S)),
    },
    {"key_padding_mask": padding_mask(), "attn_mask": pair_mask()},
]


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True, "add_zero_attn": True}])
def test_masks(masks, options):
    ours, theirs = pair(**options)
    for need_weights in (True, False):
        compare(ours, theirs, inputs(theirs), need_weights=need_weights, **masks)


def test_masks_without_a_batch():
    ours, theirs = pair()
    compare(ours, theirs, inputs(theirs, batched=False), key_padding_mask=padding_mask()[0], attn_mask=pair_mask())
    compare(ours, theirs, inputs(theirs, batched=False), attn_mask=pair_mask(H), average_attn_weights=False)


@pytest.mark.parametrize("need_weights", [True, False])
def test_causal(need_weights):
    ours, theirs = pair()
    query, *_ = inputs(theirs)
    later = np.triu(np.ones((L, L), bool), 1)
    x = sg.tensor(query)
    by_mask, _ = ours(x, x, x, attn_mask=sg.tensor(later), need_weights=need_weights)
    by_hint, weights = ours(x, x, x, is_causal=True, need_weights=need_weights)
    np.testing.assert_allclose(by_hint.numpy(force=True), by_mask.numpy(force=True), rtol=1e-12)
    if weights is not None:
        assert (weights.numpy(force=True)[:, later] == 0).all()
    compare(ours, theirs, [query] * 3, attn_mask=later, is_causal=True, need_weights=need_weights)


def test_float32():
    ours, theirs = pair("float32")
    compare(ours, theirs, inputs(theirs, dtype="float32"), rtol=1e-5)
    compare(ours, theirs, inputs(theirs, dtype="float32"), rtol=1e-5, need_weights=False, attn_mask=pair_mask())


def test_dropout_drops_weights_in_training_only():
    ours, _ = pair()
    ours.dropout = 0.5
    x = sg.tensor(np.random.default_rng(0).normal(size=(L, N, E)))
    y, weights = ours(x, x, x, average_attn_weights=False)
    zeros = (weights.numpy(force=True) == 0).mean()
    assert 0.2 < zeros < 0.8
    again, _ = ours(x, x, x)
    assert not np.array_equal(y.numpy(force=True), again.numpy(force=True))
    ours.eval()
    y, weights = ours(x, x, x)
    assert (weights.numpy(force=True) > 0).all()
    fast, _ = ours(x, x, x, need_weights=False)
    np.testing.assert_allclose(fast.numpy(force=True), y.numpy(force=True), rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, x: a(x[0], x, x), "must all have 2 or all have 3 dimensions, got query"),
        (lambda a, x: a(x, x[:2], x), "keys and values of one length; got"),
        (lambda a, x: a(x[:, :1], x, x), "dimension 1 is the batch and must be the same, got query"),
        (lambda a, x: a(x[..., :4], x, x), r"expected last sizes \(8, 8, 8\)"),
        (lambda a, x: a(x, x, x, key_padding_mask=sg.zeros(2, 4)), r"key_padding_mask must be \[3, 4\], got \[2, 4\]"),
        (lambda a, x: a(x, x, x, attn_mask=sg.zeros(4, 3)), r"attn_mask must be \[4, 4\] or \[6, 4, 4\], got \[4, 3\]"),
        (lambda a, x: nn.MultiheadAttention(8, 3), "embed_dim 8 does not divide into 3 heads"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(nn.MultiheadAttention(E, H), sg.zeros(L, N, E))
