"""GPT and its tokenizer beside Hugging Face's: what `fixtures/make_gpt2.py` wrote where transformers was installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import scratchgen as sg
from scratchgen import nn
from scratchgen.data.bpe import BPE
from scratchgen.models.decoding import GREEDY, complete, decode
from scratchgen.models.gpt import GPT
from scratchgen.models.gpt2 import HEAD, from_gpt2, to_gpt2

HERE = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with safe_open(HERE / "gpt2.safetensors", "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


@pytest.fixture
def model(golden: dict[str, np.ndarray]) -> GPT:
    with safe_open(HERE / "gpt2.safetensors", "np") as file:
        heads = int(file.metadata()["heads"])
    return from_gpt2(part(golden, "weights."), heads)


def part(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in golden.items() if name.startswith(prefix)}


def test_logits_are_those_of_gpt2lmheadmodel(golden, model):
    with sg.no_grad():
        logits = model.eval()(sg.as_tensor(golden["ids"])).numpy()
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5)


def test_greedy_tokens_are_those_of_generate(golden, model):
    written = complete(decode(model.eval(), golden["ids"][:, :5].tolist(), 15, GREEDY, sg.Generator(0)), 3)
    assert written == golden["greedy"][:, 5:].tolist()


def test_gradients_are_those_of_gpt2lmheadmodel(golden, model):
    model.loss(sg.as_tensor(golden["ids"][:, :-1]), sg.as_tensor(golden["ids"][:, 1:])).backward()
    config = (len(golden["weights.transformer.wte.weight"]), golden["ids"].shape[1], len(model.blocks), 4, 32)
    holder = GPT(*config)
    holder.load_state_dict({name: p.grad for name, p in model.named_parameters()})
    expected = part(golden, "gradients.")
    assert to_gpt2(holder).keys() - {HEAD} == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(to_gpt2(holder)[name], value, atol=1e-5, err_msg=name)


def test_fifty_steps_of_training_lose_what_gpt2lmheadmodel_loses(golden, model):
    optimizer = sg.optim.AdamW(model.parameters(), 1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    losses = []
    for ids in golden["batches"]:
        optimizer.zero_grad()
        loss = model.loss(sg.as_tensor(ids[:, :-1]), sg.as_tensor(ids[:, 1:]))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-4)
    assert np.mean(losses[40:]) < np.mean(losses[:10]) - 0.3


def test_weights_go_to_gpt2s_names_and_back(golden, model):
    written = to_gpt2(model)
    for name, value in part(golden, "weights.").items():
        np.testing.assert_array_equal(written[name], value, err_msg=name)


def test_ids_are_gpt2s_with_gpt2s_table():
    bpe = BPE.load(HERE / "gpt2_merges.txt")
    for text, ids in json.loads((HERE / "gpt2_ids.json").read_text(encoding="utf-8")):
        assert bpe.encode(text).tolist() == ids
        assert bpe.decode(ids) == text
