"""Recipes of pairs of sequences: losses, resuming, writing, scores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.cli import main
from scratchgen.data import Subwords, Tokenizer
from scratchgen.data.pairs import PairDataset, pair_dataset
from scratchgen.data.tokens import BOS, EOS, PAD, UNK
from scratchgen.recipes.transformer import TransformerRecipe
from scratchgen.recipes.translation_scores import bleu, most_similar

SMALL: dict[str, Any] = {"steps": 40, "layers": 1, "heads": 2, "width": 16, "hidden": 32, "batch_size": 8}
WORDS = {"ein": "a", "zwei": "two", "hund": "dog", "hunde": "dogs", "läuft": "runs", "laufen": "run", "rot": "red"}


def little_translation() -> PairDataset:
    """Word for word, in place of Multi30k."""
    rng = np.random.default_rng(0)
    german = [" ".join(rng.choice([*WORDS], rng.integers(2, 6))).capitalize() + "." for _ in range(300)]
    pairs = [(s, " ".join(WORDS[w] for w in s.lower()[:-1].split()).capitalize() + ".") for s in german]
    tokenizers = [Tokenizer.learn([p[i] for p in pairs], "words") for i in (0, 1)]
    return pair_dataset("multi30k", pairs[:200], pairs[200:250], pairs[250:], *tokenizers)


def recipe(name: str = "dates", **changes: Any) -> TransformerRecipe:
    config = TransformerRecipe.configure("tiny", name, **{**SMALL, **changes})
    loaded: Any = little_translation() if name == "multi30k" else data.load(name)
    return TransformerRecipe(config, loaded, sg.cpu, 0)


# --- training


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("dates", {"dropout": 0.2, "schedule": "noam", "averaged": 20}),
        ("multi30k", {"vocabulary": 280, "batch_size": 60}),  # so that an epoch ends in between
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(name, **changes), tmp_path)


def test_the_loss_is_of_targets_and_their_end_and_of_no_padding() -> None:
    made = recipe("dates")
    source, target = made.ids(made.dataset.validation.take(np.arange(3)))
    made.model.eval()
    total = made.losses(source, target, reduction="sum").item()
    one_by_one = 0.0
    for row in range(3):
        s, t = source[row, : (source[row] != PAD).sum()], target[row, : (target[row] != PAD).sum()]
        assert t[-1] == EOS
        logits = made.model(sg.as_tensor(s[None]), sg.as_tensor(np.append(BOS, t[:-1])[None])).numpy(force=True)[0]
        z = logits.astype(np.float64)
        one_by_one -= (z[np.arange(len(t)), t] - np.log(np.exp(z).sum(1))).sum()
    assert total == pytest.approx(one_by_one, rel=1e-5)
    wider = [np.pad(ids, ((0, 0), (0, 4)), constant_values=PAD) for ids in (source, target)]
    assert made.losses(*wider, reduction="sum").item() == pytest.approx(total, rel=1e-5)
    assert made.losses(source, target).item() == pytest.approx(total / (target != PAD).sum(), rel=1e-5)


def test_the_evaluation_is_of_the_mean_of_the_last_checkpoints() -> None:
    made = recipe("dates", averaged=3)
    assert made._checkpoints() == [36, 38, 40]
    seen = []
    for step in range(1, 41):
        made.step()
        if step in (36, 38, 40):
            seen.append(made.model.target_tokens.weight.numpy(force=True).copy())
    own = made.model.target_tokens.weight.numpy(force=True).copy()
    with made.evaluating():
        found = made.model.target_tokens.weight.numpy(force=True)
        np.testing.assert_allclose(found, np.mean(seen, 0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(made.model.target_tokens.weight.numpy(force=True), own)


def test_noam_reaches_the_learning_rate_at_the_end_of_its_warm_up() -> None:
    made = recipe("dates", schedule="noam", warmup_steps=10, learning_rate=3e-3)
    rates = []
    for _ in range(40):
        rates.append(made.optimizer.param_groups[0]["lr"])
        made.step()
    assert max(rates) == rates[9] == pytest.approx(3e-3)
    assert rates[0] == pytest.approx(3e-4)
    assert rates[39] == pytest.approx(3e-3 / 2)  # a fourth of the steps, so half by the root


def test_a_little_language_is_learnt_and_scored() -> None:
    pytest.importorskip("sacrebleu")
    settings = {"width": 32, "batch_size": 32, "vocabulary": 340, "warmup_steps": 40, "learning_rate": 4e-3}
    made = recipe("multi30k", steps=400, dropout=0.0, **settings)
    for _ in range(400):
        made.step()
    found, plain = made.evaluate(), made.baselines()
    assert found["bleu"] > 95
    assert found["bleu_greedy"] > 95
    assert plain["the source itself"]["bleu"] < 20
    assert plain["target of the most similar training source"]["bleu"] < 80
    assert made.translate(["Zwei hunde laufen."], beams=3) == ["Two dogs run."]
    assert "".join(made.stream("Ein hund läuft.", Generator(0))) == "A dog runs."
    texts = made.dataset.test.source  # of several lengths: they are written in another order
    assert made.translate(texts) == [made.translate([text])[0] for text in texts]


# --- writing


def test_samples_and_their_options() -> None:
    made = recipe("dates")
    texts = made.sample(3, Generator(0))["text"]
    assert [text.split(" -> ")[0] for text in texts] == made.dataset.test.source[:3]
    (one,) = made.sample(1, Generator(0), prompt="1.5.1999", temperature=1.0)["text"]
    assert one.startswith("1.5.1999 -> ")
    with pytest.raises(ValueError, match="beams must be 1 or more, and 1 where tokens are drawn; got 3"):
        made.sample(1, Generator(0), beams=3, temperature=1.0)


def test_a_terminal_shows_the_prompt_and_then_what_is_written(tmp_path: Path, capsys: Any) -> None:
    options = ["--set", "steps=2", "--set", "width=16", "--set", "hidden=16", "--quiet"]
    assert main(["train", "transformer", "--data", "dates", *options, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["sample", str(tmp_path / "run"), "--set", "prompt=1.5.1999"]) == 0
    assert capsys.readouterr().out.startswith("1.5.1999 -> ")
    for name in ("samples.txt", "attention.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0


# --- tokens and scores


def test_subwords_take_any_text_and_give_it_back() -> None:
    tokenizer = Subwords.learn(["Ein Hund läuft.", "Ein Hund sitzt."] * 3, 280)
    assert len(tokenizer) <= 280
    for text in ("Ein Hund läuft.", "Zürich 日本 😀", ""):
        ids = tokenizer.encode(text)
        assert min(ids, default=9) > UNK
        assert tokenizer.decode([BOS, *ids, EOS, *ids]) == text
    rows = tokenizer.encode_all(["Ein", "Ein Hund läuft."])
    assert rows[0, len(tokenizer.encode("Ein"))] == EOS
    assert rows[0, -1] == PAD


def test_scores_are_sacrebleus_and_say_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sacrebleu")
    texts = ["A man is riding a red bicycle .", "Two dogs run in the snow ."]
    assert bleu(texts, texts)["bleu"] == pytest.approx(100)
    found = bleu([text.lower() for text in texts], texts)
    assert found["bleu"] < found["bleu_lowercase"] == pytest.approx(100)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ValueError, match=r"pip install 'scratchgen\[text\]'"):
        bleu(texts, texts)


def test_the_most_similar_source_is_found() -> None:
    rows = little_translation().trainval
    assert most_similar(rows, [rows.source[17]]) == [rows.target[rows.source.index(rows.source[17])]]
