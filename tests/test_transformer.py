"""The encoder-decoder Transformer: equal to torch's, its cache, its masks, its pictures."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import scratchgen as sg
from scratchgen.models.beam import beam_search, write
from scratchgen.models.decoding import GREEDY
from scratchgen.models.transformer import Transformer, Writer

WIDTH, HEADS, LAYERS, HIDDEN, SOURCE, TARGET = 16, 4, 2, 24, 11, 13
RNG = np.random.default_rng(0)
IDS, OUT = RNG.integers(1, SOURCE, (3, 7)), RNG.integers(1, TARGET, (3, 6))
PRESENT = np.arange(7) < np.array([7, 4, 1])[:, None]


def network(**options) -> Transformer:
    sg.manual_seed(1)
    settings = {"width": WIDTH, "heads": HEADS, "layers": LAYERS, "hidden": HIDDEN, "dropout": 0.0, **options}
    made = Transformer(SOURCE, TARGET, **settings)
    for p in made.parameters():  # away from the zeros and ones that parameters begin with
        p.array[:] += 0.1 * RNG.standard_normal(p.shape).astype(np.float32)
    return made.eval()


def logits(model: Transformer, ids=IDS, out=OUT, present=PRESENT) -> np.ndarray:
    with sg.no_grad():
        mask = None if present is None else sg.as_tensor(present)
        return model(sg.as_tensor(ids), sg.as_tensor(out), mask).numpy()


# --- beside torch

THEIRS = (  # our names in a block, torch's
    ("attention.qkv.", "self_attn.in_proj_"),
    ("attention.projection.", "self_attn.out_proj."),
    ("cross.qkv.", "multihead_attn.in_proj_"),
    ("cross.projection.", "multihead_attn.out_proj."),
    ("wide.", "linear1."),
    ("back.", "linear2."),
)


def torch_name(name: str, norm_first: bool) -> str:
    name = re.sub(r"^(encoder|decoder)\.(\d+)\.", r"\1.layers.\2.", name)
    name = re.sub(r"^(encoder|decoder)_norm\.", r"\1.norm.", name)
    for ours, theirs in THEIRS:
        name = name.replace(f".{ours}", f".{theirs}")
    if name.startswith("decoder"):
        name = name.replace(".norm2.", ".norm3.").replace(".norm_cross.", ".norm2.")
    return name


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_it_is_torchs_with_the_same_weights(norm_first: bool, activation: str) -> None:
    torch = pytest.importorskip("torch")
    model = network(norm_first=norm_first, activation=activation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors, which are of no use here
        theirs = torch.nn.Transformer(
            WIDTH, HEADS, LAYERS, LAYERS, HIDDEN, 0.0, activation, batch_first=True, norm_first=norm_first
        ).eval()
    if not norm_first:  # the paper has no norm at the end of a stack
        theirs.encoder.norm = theirs.decoder.norm = None
    own = {torch_name(n, norm_first): p for n, p in model.named_parameters() if "tokens" not in n}
    theirs.load_state_dict({name: torch.tensor(p.numpy(force=True)) for name, p in own.items()})
    with sg.no_grad():
        x, _ = model._embed(model.source_tokens, sg.as_tensor(IDS), 0)
        y, _ = model._embed(model.target_tokens, sg.as_tensor(OUT), 0)
    padding = torch.tensor(~PRESENT)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(OUT.shape[1])
    hidden = theirs(
        torch.tensor(x.numpy()), torch.tensor(y.numpy()), tgt_mask=causal,
        src_key_padding_mask=padding, memory_key_padding_mask=padding, tgt_is_causal=True,
    )  # fmt: skip
    expected = hidden @ torch.tensor(model.target_tokens.weight.numpy(force=True)).T
    np.testing.assert_allclose(logits(model), expected.detach().numpy(), atol=1e-5)
    # ... and so are the gradients
    model(sg.as_tensor(IDS), sg.as_tensor(OUT), sg.as_tensor(PRESENT)).square().mean().backward()
    expected.square().mean().backward()
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(own[name].grad.numpy(), p.grad.numpy(), atol=1e-5, err_msg=name)


# --- masks


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_what_is_padding_changes_nothing(positions: str) -> None:
    model = network(positions=positions)
    other = np.where(PRESENT, IDS, 3)
    np.testing.assert_array_equal(logits(model), logits(model, other))
    alone = logits(model, IDS[1:2, :4], OUT[1:2], None)
    np.testing.assert_allclose(logits(model)[1:2], alone, atol=1e-5)


def test_no_token_sees_what_comes_after_it() -> None:
    model, other = network(), OUT.copy()
    other[:, 4] = (other[:, 4] + 1) % TARGET
    before, after = logits(model), logits(model, out=other)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-2


# --- decoding


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_decoding_with_a_cache_is_decoding_without(positions: str) -> None:
    model = network(positions=positions)
    with sg.no_grad():
        step = Writer(model, IDS, PRESENT, sg.cpu)
        found = np.stack([step(OUT[:, t], None) for t in range(OUT.shape[1])], 1)
    np.testing.assert_allclose(found, logits(model), atol=1e-5)


def test_hypotheses_may_be_dropped_copied_and_reordered() -> None:
    model, rows = network(), np.array([2, 0, 0])
    with sg.no_grad():
        step = Writer(model, IDS, PRESENT, sg.cpu)
        step(OUT[:, 0], None)
        found = step(OUT[rows, 1], rows)
    np.testing.assert_allclose(found, logits(model)[rows, 1], atol=1e-5)


def test_greedy_tokens_are_those_of_the_whole_network_run_anew_each_time() -> None:
    model = network()
    with sg.no_grad():
        written = write(Writer(model, IDS, PRESENT, sg.cpu), 3, 1, 2, 8, GREEDY, sg.Generator(0))
    for row, ids in enumerate(written):
        so_far = [1]
        for _ in range(8):
            last = logits(model, IDS[row : row + 1], np.array([so_far]), PRESENT[row : row + 1])[0, -1].argmax()
            if last == 2:
                break
            so_far.append(int(last))
        assert ids.tolist() == so_far[1:]


def test_a_beam_scores_what_the_network_says() -> None:
    model = network()
    with sg.no_grad():
        found = beam_search(Writer(model, IDS, PRESENT, sg.cpu), 3, 1, 2, 5, beams=4, alpha=0.0)
    for row, hypotheses in enumerate(found):
        assert len(hypotheses) == 4
        for h in hypotheses[:2]:
            target = np.array([[1, *h.tokens]])
            z = logits(model, IDS[row : row + 1], target, PRESENT[row : row + 1])[0].astype(np.float64)
            log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
            said = [*h.tokens, 2][: len(log_p)] if len(h.tokens) < 5 else h.tokens
            assert h.score == pytest.approx(sum(log_p[t, token] for t, token in enumerate(said)), abs=1e-4)


# --- pictures, options


def test_attention_is_a_distribution_over_what_may_be_seen() -> None:
    model = network(norm_first=True, positions="rotary")
    with sg.no_grad():
        found = model.attention(sg.as_tensor(IDS), sg.as_tensor(OUT))
    for kind, (queries, keys) in {"encoder": (7, 7), "decoder": (6, 6), "cross": (6, 7)}.items():
        weights = found[kind].numpy()
        assert weights.shape == (LAYERS, 3, HEADS, queries, keys)
        np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-5)
    assert np.triu(found["decoder"].numpy(), 1).max() == 0


def test_options_that_make_no_sense_say_so() -> None:
    with pytest.raises(ValueError, match="11 source and 13 target"):
        network(tied="all")
    with pytest.raises(ValueError, match="7 tokens are more than the 5"):
        logits(network(longest=5))
    model = network()
    two = sg.as_tensor(OUT[:, :2])
    with sg.no_grad():
        cache, memory = model.new_cache(), model.encode(sg.as_tensor(IDS))
        model.decode(two, memory, cache=cache)
        with pytest.raises(ValueError, match="one token at a time, got 2"):
            model.decode(two, memory, cache=cache)


def test_one_embedding_may_serve_all() -> None:
    tied = Transformer(9, 9, width=WIDTH, heads=HEADS, layers=1, hidden=HIDDEN, tied="all")
    names = {name for name, _ in tied.named_parameters()}
    assert not names & {"source_tokens.weight", "head.weight"}
    assert "head.weight" in dict(network(tied="none").named_parameters())
