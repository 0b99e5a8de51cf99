"""RNN with attention: its scores, its masks, steps and the whole, its own words, and its writer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator
from scratchgen.models.beam import beam_search, write
from scratchgen.models.decoding import GREEDY
from scratchgen.models.seq2seq import Seq2Seq, Writer

SOURCE, TARGET = 11, 9
RNG = np.random.default_rng(0)
IDS, OUT = RNG.integers(1, SOURCE, (3, 7)), RNG.integers(1, TARGET, (3, 5))
PRESENT = np.arange(7) < np.array([7, 4, 2])[:, None]
SCORES = ["additive", "general", "dot", "none"]
BOS, EOS = 1, 2


def network(**options) -> Seq2Seq:
    sg.manual_seed(1)
    return Seq2Seq(SOURCE, TARGET, **{"embedding": 6, "hidden": 8, **options}).eval()


def logits(model, ids=IDS, out=OUT, present=PRESENT, **options) -> np.ndarray:
    with sg.no_grad():
        mask = None if present is None else sg.as_tensor(present)
        return model(sg.as_tensor(ids), sg.as_tensor(out), mask, **options).numpy()


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("feeding", [False, True])
def test_padding_counts_for_nothing(score: str, cell: str, feeding: bool) -> None:
    model = network(attention=score, cell=cell, feeding=feeding, layers=2)
    found = logits(model)
    other = np.where(PRESENT, IDS, 3)
    np.testing.assert_array_equal(logits(model, other), found)
    for row, length in enumerate(PRESENT.sum(1)):
        alone = logits(model, IDS[row : row + 1, :length], OUT[row : row + 1], None)
        np.testing.assert_allclose(alone[0], found[row], rtol=1e-5, atol=1e-6)
    if score != "none":
        with sg.no_grad():
            weights = model.align(sg.as_tensor(IDS), sg.as_tensor(OUT), sg.as_tensor(PRESENT)).numpy()
        np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-5)
        assert not np.where(PRESENT[:, None], 0, weights).any()


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("feeding", [False, True])
def test_the_whole_target_at_once_is_one_token_after_another(score: str, feeding: bool) -> None:
    model = network(attention=score, feeding=feeding, layers=2, cell="lstm")
    whole = logits(model)
    with sg.no_grad():
        memory, state = model.encode(sg.as_tensor(IDS), sg.as_tensor(PRESENT))
        for t in range(OUT.shape[1]):
            step, state = model.decode(sg.as_tensor(OUT[:, t : t + 1]), memory, state)
            np.testing.assert_allclose(step.numpy()[:, 0], whole[:, t], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_later_targets_have_no_part_in_earlier_ones(score: str) -> None:
    model = network(attention=score)
    changed = OUT.copy()
    changed[:, 3:] = 1
    np.testing.assert_array_equal(logits(model, out=changed)[:, :4][:, :3], logits(model)[:, :3])
    assert not np.array_equal(logits(model, out=changed)[:, 3:], logits(model)[:, 3:])


@pytest.mark.parametrize("score", ["additive", "general", "dot"])
def test_attention_is_the_papers(score: str) -> None:
    """s_t and h_j by the layers; weights, contexts and a_t by the formulas, in NumPy."""
    model = network(attention=score, feeding=False)
    p = {name: t.numpy(force=True).astype(np.float64) for name, t in model.state_dict().items()}
    with sg.no_grad():
        h, last = model.encoder(model.source_tokens(sg.as_tensor(IDS.T)))
        first = np.tanh(
            np.concatenate([last.numpy()[0], last.numpy()[1]], 1) @ p["bridges.0.weight"].T + p["bridges.0.bias"]
        )
        embedded = model.target_tokens(sg.as_tensor(OUT.T))
        s = model.decoder(embedded, sg.as_tensor(first[None].astype(np.float32)))[0]
    h, s = h.numpy().transpose(1, 0, 2).astype(np.float64), s.numpy().transpose(1, 0, 2).astype(np.float64)
    scores = np.empty((3, OUT.shape[1], 7))
    for n, t, j in np.ndindex(*scores.shape):
        if score == "dot":
            scores[n, t, j] = s[n, t] @ (h[n, j, :8] + h[n, j, 8:])
        elif score == "general":
            scores[n, t, j] = s[n, t] @ p["key.weight"] @ h[n, j]
        else:
            inner = p["query.weight"] @ s[n, t] + p["query.bias"] + p["key.weight"] @ h[n, j]
            scores[n, t, j] = p["energy.weight"][0] @ np.tanh(inner)
    weights = np.exp(scores - scores.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    context = np.einsum("ntj,njd->ntd", weights, h)
    a = np.tanh(np.concatenate([context, s], 2) @ p["readout.weight"].T + p["readout.bias"])
    np.testing.assert_allclose(logits(model, present=None), a @ p["head.weight"].T + p["head.bias"], atol=2e-6)
    with sg.no_grad():
        found = model.align(sg.as_tensor(IDS), sg.as_tensor(OUT)).numpy()
    np.testing.assert_allclose(found, weights, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", [{"attention": s, "feeding": f} for s in SCORES for f in (False, True)])
def test_every_parameter_learns(options: dict) -> None:
    model = network(cell="lstm", layers=2, **options)
    model(sg.as_tensor(IDS), sg.as_tensor(OUT), sg.as_tensor(PRESENT)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.numpy().any()] == []


# --- scheduled sampling


@pytest.mark.parametrize("feeding", [False, True])
def test_told_nothing_it_goes_on_from_its_own_words(feeding: bool) -> None:
    model = network(feeding=feeding)
    found = logits(model, told=0.0, generator=Generator(0))
    own = np.concatenate([OUT[:, :1], found.argmax(2)[:, :-1]], 1)
    np.testing.assert_allclose(found, logits(model, out=own), rtol=1e-5, atol=1e-6)


def test_told_a_part_it_goes_on_from_a_mixture() -> None:
    model = network()
    counts, kept = 0, 0
    for seed in range(30):
        found = logits(model, told=0.7, generator=Generator(seed))
        keep = np.asarray(Generator(seed).uniform(OUT.shape)) < 0.7
        mixed = np.where(keep, OUT, np.concatenate([OUT[:, :1], found.argmax(2)[:, :-1]], 1))
        mixed[:, 0] = OUT[:, 0]
        np.testing.assert_allclose(found, logits(model, out=mixed), rtol=1e-5, atol=1e-6)
        counts, kept = counts + keep.size, kept + keep.sum()
    assert kept / counts == pytest.approx(0.7, abs=0.07)
    with pytest.raises(ValueError, match="it needs a generator"):
        logits(model, told=0.5)


# --- writing


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_writer_gives_the_whole_models_logits(score: str, cell: str) -> None:
    model = network(attention=score, cell=cell, layers=2)
    with sg.no_grad():
        step = Writer(model, IDS, PRESENT, sg.cpu)
        first = step(np.full(3, BOS), None)
        rows, tokens = np.array([2, 0, 0, 1]), np.array([3, 4, 5, 6])
        second = step(tokens, rows)
        third = step(np.array([7, 8]), np.array([3, 1]))
    told = np.array([[BOS, 6, 7], [BOS, 4, 8]])
    for n, (row, words) in enumerate(zip((1, 0), told)):
        whole = logits(model, IDS[row : row + 1], words[None], PRESENT[row : row + 1])[0]
        np.testing.assert_allclose(third[n], whole[2], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(second[[3, 1][n]], whole[1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(first[row], whole[0], rtol=1e-5, atol=1e-6)


def log_p(model: Seq2Seq, row: int, tokens: tuple[int, ...]) -> float:
    told = np.array([[BOS, *tokens[:-1]]])
    z = logits(model, IDS[row : row + 1], told, PRESENT[row : row + 1])[0].astype(np.float64)
    return float(sum(z[t, token] - np.log(np.exp(z[t]).sum()) for t, token in enumerate(tokens)))


def test_a_beam_finds_the_best_of_short_sequences_and_beats_greed() -> None:
    model = network(hidden=12)
    for p in model.parameters():
        p.array[:] *= 3  # decided opinions, on which greed may go astray
    with sg.no_grad():
        beams = beam_search(Writer(model, IDS, PRESENT, sg.cpu), 3, BOS, EOS, 2, beams=TARGET, alpha=0.0)
        narrow = beam_search(Writer(model, IDS, PRESENT, sg.cpu), 3, BOS, EOS, 6, beams=5, alpha=0.0)
        greedy = write(Writer(model, IDS, PRESENT, sg.cpu), 3, BOS, EOS, 6, GREEDY, Generator(0))
    others = [t for t in range(TARGET) if t != EOS]
    for row in range(3):
        every = [(EOS,), *itertools.product(others, range(TARGET))]
        best = max(every, key=lambda tokens: log_p(model, row, tokens))
        assert tuple(beams[row][0].tokens) == tuple(t for t in best if t != EOS)
        assert beams[row][0].score == pytest.approx(log_p(model, row, best), abs=1e-4)
        said = tuple(greedy[row])
        ended = said if len(said) == 6 else (*said, EOS)
        assert narrow[row][0].score >= log_p(model, row, ended) - 1e-4


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="embedding 6 must be hidden, 8"):
        network(tied=True)
    assert network(tied=True, embedding=8).head.weight is not None
    with pytest.raises(ValueError, match="there is nothing to align"):
        network(attention="none").align(sg.as_tensor(IDS), sg.as_tensor(OUT))


def test_tied_weights_are_one_parameter() -> None:
    model = network(tied=True, embedding=8)
    assert model.head.weight is model.target_tokens.weight
    free = network(tied=False, embedding=8)
    fewer = sum(p.numpy(force=True).size for p in model.parameters())
    assert fewer == sum(p.numpy(force=True).size for p in free.parameters()) - TARGET * 8
