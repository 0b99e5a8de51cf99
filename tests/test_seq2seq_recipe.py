"""The recipe of RNNs with attention: resuming, scheduled sampling, where it looks, its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes

import scratchgen as sg
from scratchgen import data
from scratchgen.data import dates
from scratchgen.recipes.seq2seq import Seq2SeqRecipe

SMALL: dict[str, Any] = {"steps": 40, "embedding": 8, "hidden": 12, "batch_size": 8}


def recipe(**changes: Any) -> Seq2SeqRecipe:
    config = Seq2SeqRecipe.configure("tiny", "dates", **{**SMALL, **changes})
    loaded: Any = data.load("dates")
    return Seq2SeqRecipe(config, loaded, sg.cpu, 0)


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.2, "told": 0.5},
        {"cell": "lstm", "attention": "general", "feeding": False, "tokenizer": "bpe", "vocabulary": 300, "layers": 2},
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(**changes), tmp_path)


def test_fewer_and_fewer_tokens_are_told() -> None:
    made = recipe(told=0.2)
    seen = []
    for _ in range(40):
        seen.append(made._told())
        made.step()
    np.testing.assert_allclose(seen, 1 - 0.8 * np.arange(40) / 40)
    made.model.eval()
    assert made._told() == 1


def test_pictures_where_there_is_attention(tmp_path: Path) -> None:
    recipe().preview(tmp_path / "with", 1)
    recipe(attention="none").preview(tmp_path / "without", 1)
    for folder, drawn in (("with", True), ("without", False)):
        assert (tmp_path / folder / "samples.txt").is_file()
        assert (tmp_path / folder / "attention.png").is_file() == drawn


def test_the_fields_of_every_format() -> None:
    loaded: Any = data.load("dates")
    months = [name[:3] for name in dates.MONTHS]
    for source, target in zip(loaded.test.source, loaded.test.target):
        for text in (source, target):
            said = {name: text[place.start : place.stop] for name, place in dates.fields(text).items()}
            year, month, day = target.split("-")
            assert said["year"].zfill(2) == year[-len(said["year"]) :]
            assert int(said["day"]) == int(day)
            named = said["month"]
            assert (int(named) if named.isdecimal() else months.index(named[:3]) + 1) == int(month)
    with pytest.raises(ValueError, match="not a date"):
        dates.fields("the ides of march")


def test_looking_in_the_right_field_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe()
    rows = made.dataset.test

    def looks(at: Any) -> float:
        def alignment(source: np.ndarray, target: np.ndarray) -> np.ndarray:
            weights = np.zeros((*target.shape, source.shape[1]))
            for n in range(len(source)):
                text = made.source.decode(source[n].tolist())
                for t in range(target.shape[1]):
                    weights[n, t, at(dates.fields(text), t)] = 1
            return weights

        monkeypatch.setattr(made, "_alignment", alignment)
        return float(made._in_field().mean())

    written = dates.fields(rows.target[0])
    name_of = {t: name for name, places in written.items() for t in places}
    assert looks(lambda fields, t: fields[name_of.get(t, "day")][0]) == 1
    assert looks(lambda fields, t: fields["year"][-1]) == pytest.approx(4 / 8)  # right for the year's four digits


def test_an_evaluation_says_where_it_looks_only_if_it_looks() -> None:
    made = recipe()
    found = made.evaluate()
    assert {"val_loss", "exact_match", "in_field", "in_field_se"} <= found.keys()
    assert 0 <= found["in_field"] <= 1
    blind = recipe(attention="none")
    assert "in_field" not in blind.evaluate()
    with pytest.raises(ValueError, match="told must be from 0 to 1, got 2"):
        recipe(told=2.0)
