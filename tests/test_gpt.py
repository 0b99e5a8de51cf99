"""GPT: causality, cache, a source of known entropy, accumulation, LoRA, GPT-2's names, its parts beside others."""

from __future__ import annotations

import math

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn
from scratchgen.models import lora
from scratchgen.models.gpt import GPT, IGNORED, decay_groups, nats
from scratchgen.models.gpt2 import from_gpt2, to_gpt2
from scratchgen.models.transformer_blocks import Attention, Block, BlockCache, Cache, Rotary, sinusoids

IDS = np.random.default_rng(0).integers(0, 11, (3, 16))


def small(**options: object) -> GPT:
    sg.manual_seed(1)
    made = GPT(11, 16, 2, 4, 32, **options).eval()  # type: ignore[arg-type]
    for p in made.parameters():
        if p.ndim == 2:
            p.array[:] *= 4
    return made


def logits(model: GPT, ids: np.ndarray, *rest: object) -> np.ndarray:
    with sg.no_grad():
        return model(sg.as_tensor(ids), *rest).numpy()


# --- the network


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_future_cannot_be_seen(positions: str) -> None:
    model, edited = small(positions=positions), IDS.copy()
    edited[:, 9:] = (edited[:, 9:] + 1) % 11
    before, after = logits(model, IDS), logits(model, edited)
    np.testing.assert_array_equal(before[:, :9], after[:, :9])  # to the bit
    assert (before[:, 9] != after[:, 9]).any()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_with_a_cache_logits_are_the_same(positions: str) -> None:
    model = small(positions=positions)
    whole, cache, parts = logits(model, IDS), model.new_cache(), []
    for start, end in ((0, 5), (5, 6), (6, 10), (10, 16)):  # the first, one token, several
        parts.append(logits(model, IDS[:, start:end], None, cache))
    assert cache.length == 16
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6 * np.abs(whole).max())


def test_a_cache_keeps_no_graph() -> None:
    model = small()
    with pytest.raises(RuntimeError, match=r"inside no_grad\(\)"):
        model(sg.as_tensor(IDS), None, model.new_cache())
    with pytest.raises(RuntimeError, match="nothing has been stored"):
        Cache().read()


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="17 tokens are more than the block of 16"):
        small()(sg.zeros((1, 17), dtype=sg.int64))
    with pytest.raises(ValueError, match="does not divide into 5 heads"):
        GPT(11, 16, 1, 5, 32)
    with pytest.raises(ValueError, match="at least one token, position and layer"):
        GPT(11, 0, 1, 4, 32)
    with pytest.raises(ValueError, match=r"present must be \[3, 16\], got \[3, 15\]"):
        small()(sg.as_tensor(IDS), sg.ones((3, 15), dtype=sg.bool_))


def test_weights_begin_as_in_gpt2() -> None:
    model = GPT(500, 64, 8, 4, 128)
    assert model.tokens.weight.numpy(force=True).std() == pytest.approx(0.02, rel=0.02)
    for block in model.blocks:
        assert block.wide.weight.numpy(force=True).std() == pytest.approx(0.02, rel=0.03)
        for into in (block.back, block.attention.projection):
            assert into.weight.numpy(force=True).std() == pytest.approx(0.02 / 4, rel=0.03)
        assert not block.wide.bias.numpy(force=True).any()
    loss = model.loss(sg.as_tensor(IDS), sg.as_tensor(IDS + 400)).item()
    assert loss == pytest.approx(math.log(500), abs=0.1)  # nothing is known yet


def test_the_head_is_the_embedding_or_its_own() -> None:
    sizes = [sum(p.numel() for p in small(tied=tied).parameters()) for tied in (True, False)]
    assert sizes[1] - sizes[0] == 11 * 32


def test_attention_rows_are_distributions_over_the_past() -> None:
    weights = small(positions="rotary").attention(sg.as_tensor(IDS)).numpy(force=True)
    assert weights.shape == (2, 3, 4, 16, 16)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert not np.triu(weights, 1).any()


# --- the objective


def test_ignored_targets_have_no_loss_and_no_gradient() -> None:
    model, targets = small(), IDS.copy()
    targets[:, :12] = IGNORED
    with sg.no_grad():
        p = sg.softmax(model(sg.as_tensor(IDS)), -1).numpy()
    expected = -np.log(np.take_along_axis(p, IDS[..., None], 2))[:, 12:].mean()
    assert model.loss(sg.as_tensor(IDS), sg.as_tensor(targets)).item() == pytest.approx(expected, rel=1e-5)


def test_each_token_of_a_long_text_is_predicted_once_from_its_window() -> None:
    model, text = small(), np.random.default_rng(1).integers(0, 11, 53)
    for stride in (1, 5, 16):
        found = nats(model, text, stride, rows=4)
        assert found.shape == (52,)
        for i in (0, 3, 15, 16, 17, 30, 51):
            # windows begin at multiples of the stride, the last one as late as possible
            start = 0 if i < 16 else min(-(-(i - 15) // stride) * stride, 36)
            row = logits(model, text[None, start : i + 1])[0, -1].astype(np.float64)
            expected = np.log(np.exp(row).sum()) - row[text[i + 1]]
            assert found[i] == pytest.approx(expected, abs=1e-4), (stride, i)
    with pytest.raises(ValueError, match="stride must be in 1"):
        nats(model, text, 17)


def test_a_markov_source_is_learnt_to_its_entropy() -> None:
    rng = np.random.default_rng(2)
    transition = rng.dirichlet(np.full(5, 0.5), 5)
    stationary = np.linalg.matrix_power(transition, 200)[0]
    entropy = -(stationary[:, None] * transition * np.log(transition)).sum()
    cumulated, uniform = transition.cumsum(1), rng.random(60_000)
    text = np.zeros(len(uniform), np.int64)
    for i in range(1, len(text)):
        text[i] = min(np.searchsorted(cumulated[text[i - 1]], uniform[i]), 4)
    train, test = text[:40_000], text[40_000:]
    # What the source itself gives this text: that its entropy rate is only on average is no error of the model.
    exact = -np.log(transition[test[:-1], test[1:]]).mean()
    assert exact == pytest.approx(entropy, abs=0.02)
    model = GPT(5, 16, 1, 2, 16)
    optimizer = sg.optim.AdamW(decay_groups(model, 0.01), 3e-3)
    schedule = sg.optim.lr_scheduler.WarmupCosineLR(optimizer, 20, 400, 1e-4)
    for _ in range(400):
        rows = train[rng.integers(0, len(train) - 16, 32)[:, None] + np.arange(17)]
        optimizer.zero_grad()
        model.loss(sg.as_tensor(rows[:, :-1]), sg.as_tensor(rows[:, 1:])).backward()
        optimizer.step()
        schedule.step()
    model.eval()
    assert nats(model, test, 16).mean() == pytest.approx(exact, abs=0.01)


def test_matrices_decay_and_vectors_do_not() -> None:
    model = small()
    decayed, free = decay_groups(model, 0.1)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in free["params"]} == {1}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


# --- LoRA


def test_lora_begins_at_the_trained_weights_trains_few_and_merges_to_the_bit() -> None:
    model = small()
    before, names = logits(model, IDS), set(model.state_dict())
    lora.adapt(model, rank=2, alpha=8.0)
    np.testing.assert_array_equal(logits(model, IDS), before)  # B is zero
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 2)[-2] for name in trained} == {"down", "up"}
    frozen = {name: p.numpy(force=True).copy() for name, p in model.named_parameters() if name not in trained}
    optimizer = sg.optim.AdamW(decay_groups(model, 0.1), 1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        loss = model.loss(sg.as_tensor(IDS[:, :-1]), sg.as_tensor(IDS[:, 1:]))
        loss.backward()
        optimizer.step()
    for name, p in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(p.numpy(force=True), frozen[name])
    adapted = logits(model, IDS)
    assert np.abs(adapted - before).max() > 1e-3
    lora.merge(model)
    assert set(model.state_dict()) == names
    np.testing.assert_array_equal(logits(model, IDS), adapted)


def test_lora_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no dense layer named output"):
        lora.adapt(small(), 2, 8.0, ["output"])
    with pytest.raises(ValueError, match="rank of a 96 x 32 matrix is 1 to 32, got 33"):
        lora.adapt(small(), 33, 8.0)


# --- GPT-2's weights


def test_gpt2s_names_and_shapes() -> None:
    state = to_gpt2(small())
    assert len(state) == 2 + 2 * 12 + 2 + 1
    assert {name: state[name].shape for name in state if ".h.1." in name or ".h." not in name} == {
        "transformer.wte.weight": (11, 32),
        "transformer.wpe.weight": (16, 32),
        "transformer.h.1.ln_1.weight": (32,),
        "transformer.h.1.ln_1.bias": (32,),
        "transformer.h.1.attn.c_attn.weight": (32, 96),
        "transformer.h.1.attn.c_attn.bias": (96,),
        "transformer.h.1.attn.c_proj.weight": (32, 32),
        "transformer.h.1.attn.c_proj.bias": (32,),
        "transformer.h.1.ln_2.weight": (32,),
        "transformer.h.1.ln_2.bias": (32,),
        "transformer.h.1.mlp.c_fc.weight": (32, 128),
        "transformer.h.1.mlp.c_fc.bias": (128,),
        "transformer.h.1.mlp.c_proj.weight": (128, 32),
        "transformer.h.1.mlp.c_proj.bias": (32,),
        "transformer.ln_f.weight": (32,),
        "transformer.ln_f.bias": (32,),
        "lm_head.weight": (11, 32),
    }


def test_weights_written_for_gpt2_come_back() -> None:
    model = small()
    state = to_gpt2(model)
    np.testing.assert_array_equal(logits(from_gpt2(state, heads=4).eval(), IDS), logits(model, IDS))
    # as in old files: no prefix, masks as buffers, no head
    old = {name.removeprefix("transformer."): value for name, value in state.items() if name != "lm_head.weight"}
    old |= {"h.0.attn.bias": np.ones((1, 1, 16, 16)), "h.1.attn.masked_bias": np.array(-1e4)}
    np.testing.assert_array_equal(logits(from_gpt2(old, heads=4).eval(), IDS), logits(model, IDS))


def test_weights_that_are_not_gpt2s_are_named() -> None:
    state = to_gpt2(small())
    with pytest.raises(ValueError, match=r"missing or unknown weights: h.0.ln_1.bias$"):
        from_gpt2({name: value for name, value in state.items() if not name.endswith("h.0.ln_1.bias")})
    with pytest.raises(ValueError, match=r"missing or unknown weights: score.weight$"):
        from_gpt2({**state, "score.weight": np.zeros(3)})
    with pytest.raises(ValueError, match=r"lm_head.weight is not wte.weight"):
        from_gpt2({**state, "lm_head.weight": state["lm_head.weight"] + 1})
    with pytest.raises(ValueError, match=r"there is no wpe.weight or wte.weight"):
        from_gpt2({})
    with pytest.raises(ValueError, match="this model differs"):
        to_gpt2(small(positions="rotary"))


# --- the shared blocks


@pytest.mark.parametrize("cross", [False, True])
def test_attention_equals_torchs_layer(cross: bool) -> None:
    own, other = Attention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    other.load_state_dict(
        {
            "in_proj_weight": own.qkv.weight,
            "in_proj_bias": own.qkv.bias,
            "out_proj.weight": own.projection.weight,
            "out_proj.bias": own.projection.bias,
        }
    )
    x, memory = sg.randn((2, 7, 32)), sg.randn((2, 5, 32)) if cross else None
    keys = x if memory is None else memory
    expected, weights = other(x, keys, keys, average_attn_weights=False)
    found = own.projection(own(x, memory))
    np.testing.assert_allclose(found.numpy(force=True), expected.numpy(force=True), atol=1e-6)
    if not cross:
        np.testing.assert_allclose(own.weights(x).numpy(force=True), weights.numpy(force=True), atol=1e-6)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoders_block_with_a_cache(norm_first: bool) -> None:
    block = Block(32, 4, 64, norm_first=norm_first, cross=True, activation="relu").eval()
    x, memory = sg.randn((2, 6, 32)), sg.randn((2, 5, 32))
    with sg.no_grad():
        whole = block(x, is_causal=True, memory=memory)
        cache = BlockCache.empty()
        parts = [block(x[:, i : i + 1], memory=memory, cache=cache) for i in range(6)]
        np.testing.assert_allclose(sg.cat(parts, 1).numpy(), whole.numpy(), atol=2e-6)
    assert cache.memory.length == 5  # computed once


@pytest.mark.parametrize("norm_first", [False, True])
def test_dropout_of_nothing_is_the_fused_path(norm_first: bool) -> None:
    block = Block(32, 4, 64, dropout=1e-12, norm_first=norm_first)
    x = sg.randn((2, 6, 32))
    dropped, fused = block(x), block.eval()(x)
    np.testing.assert_allclose(dropped.numpy(force=True), fused.numpy(force=True), atol=1e-6)


def test_without_positions_attention_does_not_know_the_order() -> None:
    block, x = Block(32, 4, 64).eval(), sg.randn((2, 6, 32))
    order = [3, 1, 5, 0, 2, 4]
    np.testing.assert_allclose(block(x[:, order]).numpy(force=True), block(x).numpy(force=True)[:, order], atol=1e-6)


def test_rotary_products_depend_on_the_distance_only() -> None:
    q, k = sg.randn((1, 8)), sg.randn((1, 8))

    def product(i: int, j: int) -> float:
        turned = [Rotary.at(sg.tensor([p]), 8).turn(x) for p, x in ((i, q), (j, k))]
        return (turned[0] * turned[1]).sum().item()

    assert product(7, 3) == pytest.approx(product(104, 100), abs=1e-4)
    assert product(7, 3) != pytest.approx(product(7, 4), abs=1e-3)
    assert product(0, 0) == pytest.approx((q * k).sum().item(), abs=1e-6)
    with pytest.raises(ValueError, match="size of a head must be even"):
        Rotary.at(sg.tensor([0]), 7)


def test_sinusoids_are_the_papers() -> None:
    found = sinusoids(50, 8).numpy()
    for position, i in ((0, 0), (7, 1), (49, 3)):
        angle = position / 10_000 ** (2 * i / 8)
        np.testing.assert_allclose(found[position, 2 * i : 2 * i + 2], [math.sin(angle), math.cos(angle)], atol=1e-5)
