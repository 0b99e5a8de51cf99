"""The GPT recipe and its commands: resuming, conversations, fine-tuning, evaluation, text in the terminal."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import Generator, data
from scratchgen.cli import main
from scratchgen.data.text import CharVocab, Text, TextDataset
from scratchgen.models.gpt import IGNORED
from scratchgen.recipes.gpt import GPTRecipe
from scratchgen.recipes.gpt_text import ASSISTANT, END, USER, Characters, as_text, conversations, question
from scratchgen.training import checkpoint

SMALL: dict[str, Any] = {"steps": 40, "layers": 1, "heads": 2, "width": 16, "block": 24, "batch_size": 8}
PLAY = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind — to suffer\n" * 30


def text_data() -> TextDataset:
    """A short text in place of the real ones."""
    vocab = CharVocab(PLAY)
    ids = vocab.encode(PLAY)
    cut = 9 * len(ids) // 10
    return TextDataset("manual", Text(ids[:cut], vocab), Text(ids[cut:], vocab), np.arange(cut - 200, cut))


def recipe(name: str, **changes: Any) -> GPTRecipe:
    config = GPTRecipe.configure("tiny", name, **{**SMALL, **changes})
    loaded: Any = text_data() if name == "manual" else data.load(name)
    return GPTRecipe(config, loaded, sg.cpu, 0)


# --- training


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("manual", {"dropout": 0.2, "accumulate": 2}),
        ("manual", {"tokenizer": "bpe", "vocabulary": 270, "positions": "rotary", "bias": False}),
        ("addition", {"batch_size": 3000}),  # so that an epoch ends in between
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(name, **changes), tmp_path)


def test_accumulated_mini_batches_are_one_large_batch() -> None:
    def gradient(**sizes: int) -> np.ndarray:
        made = recipe("dates", block=48, clip_gradients=0.0, **sizes)
        made.optimizer.step = lambda *_: None  # type: ignore[method-assign]
        made.step()
        return made.model.tokens.weight.grad.numpy()  # type: ignore[union-attr]

    # Answers differ in length from row to row only by their padding, so counts matter where batches are small.
    whole, parts = gradient(batch_size=12), gradient(batch_size=3, accumulate=4)
    np.testing.assert_allclose(parts, whole, atol=1e-6 * np.abs(whole).max() + 1e-8)


def test_training_learns_a_text_by_heart_and_beats_counting_letters() -> None:
    made = recipe("manual", steps=150, batch_size=16, learning_rate=5e-3, hold_out=True)
    for _ in range(150):
        made.step()
    assert made.validate()["loss"] < 1.5
    found, counted = made.evaluate(), made.baselines()
    assert found["val_loss"] < counted["1-gram"]["val_loss"] - 1
    assert found["val_loss_sliding"] < found["val_loss"]  # more before each token
    # One token a character here, but "—" is three bytes.
    test = made.dataset.test
    assert isinstance(test, Text)
    nats = found["val_loss"] * (len(test) - 1)
    assert found["bits_per_byte"] == pytest.approx(nats / np.log(2) / len(test.text.encode()))
    assert len(test.text.encode()) > len(test)


def test_windows_are_the_text_and_the_text_one_on() -> None:
    made = recipe("manual")
    ids, targets = made._batch()
    assert ids.shape == targets.shape == (8, 24)
    np.testing.assert_array_equal(ids[:, 1:], targets[:, :-1])
    assert all(made.tokenizer.decode(row) in PLAY for row in ids)


def test_held_out_rows_are_not_trained_on() -> None:
    whole, part = recipe("manual"), recipe("manual", hold_out=True)
    assert len(whole.windows) - len(part.windows) == 200
    assert whole.validate() == {}


# --- conversations


def test_only_the_answer_has_a_loss() -> None:
    tokenizer = Characters("abcdxyz", (USER, ASSISTANT, END))
    user, assistant, end = (tokenizer.id_of(token) for token in (USER, ASSISTANT, END))
    a, b, x, y, z = (int(tokenizer.encode(c)[0]) for c in "abxyz")
    ids, targets = conversations(tokenizer, ["ab", "a"], ["x", "xyz"])
    assert ids.tolist() == [[user, a, b, assistant, x, end], [user, a, assistant, x, y, z]]
    no = IGNORED
    assert targets.tolist() == [[no, no, no, x, end, no], [no, no, x, y, z, end]]
    assert question(tokenizer, "ab") == [user, a, b, assistant]
    assert tokenizer.decode(ids[0]) == "<|user|>ab<|assistant|>x<|end|>"
    with pytest.raises(ValueError, match=r"'é' .*not among the 7 characters"):
        tokenizer.encode("aé")


def test_sums_of_three_digits() -> None:
    made = recipe("addition", digits=3)
    assert all(len(asked) == 8 for asked in made.dataset.test.source)  # type: ignore[union-attr]


def test_answers_end_and_are_counted_exactly() -> None:
    made = recipe("addition")
    found = made.evaluate()
    assert 0 <= found["exact_match"] <= 0.1
    assert found["val_loss"] == pytest.approx(np.log(len(made.tokenizer)), abs=0.5)
    assert made.baselines()["commonest answer"]["exact_match"] < 0.02
    texts = made.sample(3, Generator(0))["text"]
    assert [text.split(" ")[0] for text in texts] == made.dataset.test.source[:3]  # type: ignore[union-attr]


# --- fine-tuning

BASE = ["--set", "layers=1", "--set", "heads=2", "--set", "width=16", "--set", "block=64", "--quiet"]
TUNED = [*BASE, "--set", "steps=2", "--set", "batch_size=4"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps on the manual, with byte pairs."""
    folder = tmp_path_factory.mktemp("gpt") / "base"
    settings = ["--set", "tokenizer=bpe", "--set", "vocabulary=300"]
    assert main(["train", "gpt", "--data", "manual", *TUNED, *settings, "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("rank", [0, 2])
def test_fine_tuning_begins_at_the_trained_weights(base: Path, rank: int, tmp_path: Path) -> None:
    trained = checkpoint.load(base / "checkpoint.safetensors")["recipe"]["model"]
    changes = {"start": str(base), "lora": rank, "block": 64}
    made = recipe("addition", **changes)
    state = {name.replace(".base", ".weight"): value for name, value in made.model.state_dict().items()}
    for name, value in trained.items():
        np.testing.assert_array_equal(state[name].numpy(force=True), value)
    made.step()
    changed = made.model.blocks[0].wide.weight.numpy(force=True) != trained["blocks.0.wide.weight"]
    assert changed.any() == (rank == 0)  # LoRA leaves it alone
    out = tmp_path / "tuned"
    options = ["--set", f"start={base}", "--set", f"lora={rank}", "--out", str(out)]
    assert main(["train", "gpt", "--data", "addition", *TUNED, *options]) == 0
    assert main(["sample", str(out), "--set", "prompt=12+34="]) == 0


def test_fine_tuning_that_cannot_be_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="that network has block=64; set the same here"):
        recipe("addition", start=str(base), block=32)
    with pytest.raises(ValueError, match="not a run folder"):
        recipe("addition", start=str(tmp_path))
    with pytest.raises(ValueError, match="lora changes trained weights: it needs start"):
        recipe("addition", lora=4)
    with pytest.raises(ValueError, match="train it with tokenizer=bpe"):
        Characters("abc").id_of(USER)
    with pytest.raises(ValueError, match="rows of 11 tokens need a block longer than 10"):
        recipe("addition", block=10)
    with pytest.raises(ValueError, match="fewer than the 5001 of a window"):
        recipe("manual", block=5000)
    with pytest.raises(ValueError, match="accumulate must be 1 or more"):
        recipe("manual", accumulate=0)
    assert main(["train", "gpt", "--data", "addition", "--set", "block=10", "--out", str(tmp_path / "run")]) == 2
    assert not (tmp_path / "run").exists()


# --- text


def test_characters_of_several_bytes_come_whole() -> None:
    tokenizer = recipe("manual", tokenizer="bpe", vocabulary=259).tokenizer  # bytes only
    ids = tokenizer.encode("a — b").tolist()
    assert list(as_text(tokenizer, ids)) == ["a", " ", "—", " ", "b"]
    assert list(as_text(tokenizer, ids[:3])) == ["a", " ", "\ufffd"]  # cut off in the middle


def test_what_streams_is_what_is_sampled() -> None:
    made = recipe("manual")
    (whole,) = made.sample(1, Generator(4), prompt="To be", length=30, top_k=5)["text"]
    assert whole == "To be" + "".join(made.stream("To be", Generator(4), length=30, top_k=5))
    assert len(whole) == 35


def test_previews_are_text_and_a_picture_of_attention(tmp_path: Path) -> None:
    for name in ("manual", "addition"):
        recipe(name).preview(tmp_path / name, 7)
        written = {str(p.relative_to(tmp_path / name)) for p in (tmp_path / name).rglob("*.*")}
        assert written == {"samples.txt", "samples/step-000007.txt", "attention.png"}


def test_sample_and_chat_in_the_terminal(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def say(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(arguments))
        return status, *capsys.readouterr()

    options = ["--set", "length=5", "--set", "temperature=0"]
    status, shown, _ = say("sample", str(base), *options, "--set", "prompt=for x")
    assert status == 0
    assert shown.startswith("for x")
    out = tmp_path / "texts.txt"
    assert say("sample", str(base), "-n", "2", *options, "--set", "prompt=for x", "--out", str(out))[0] == 0
    assert out.read_text() == f"{shown}\n{shown}"
    monkeypatch.setattr("sys.stdin", io.StringIO("for x\nif y\n\nnever read\n"))
    status, answered, _ = say("chat", str(base), *options)
    assert status == 0
    assert answered.startswith(shown.removeprefix("for x"))
    assert say("sample", str(base), "--set", "top_p=2")[::2] == (
        2, "scratchgen sample: top_p must be above 0, at most 1, got 2.0\n"
    )  # fmt: skip
    assert "takes one" in say("chat", str(base), "--set", "prompt=a")[2]
    assert "ends in .txt" in say("sample", str(base), "--out", str(tmp_path / "a.png"))[2]


def test_references_are_of_the_same_network() -> None:
    made = recipe("manual")
    assert made.references() == []


def test_every_preset_says_what_it_is_for() -> None:
    for preset, choices in GPTRecipe.presets.items():
        for name in choices:
            if name != "*":
                assert GPTRecipe.configure(preset, name).block >= 24
    assert GPTRecipe.configure("full", "tinyshakespeare").width == 384
