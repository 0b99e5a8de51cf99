"""GPT beside the same network written in torch from GPT-2's weights: logits, gradients, fifty steps of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import nn
from scratchgen.models.decoding import GREEDY, complete, decode
from scratchgen.models.gpt import GPT, decay_groups
from scratchgen.models.gpt2 import HEAD, PREFIX, to_gpt2

torch = pytest.importorskip("torch")

LAYERS, HEADS, WIDTH, BLOCK, VOCABULARY = 3, 4, 32, 16, 23
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, VOCABULARY, (4, BLOCK + 1))


def network() -> GPT:
    made = GPT(VOCABULARY, BLOCK, LAYERS, HEADS, WIDTH)
    for p in made.parameters():  # away from the zeros and ones that parameters begin with
        p.array[:] += 0.05 * RNG.standard_normal(p.shape).astype(np.float32)
    return made


def weights(model: GPT) -> dict[str, Any]:
    """The same weights as torch's leaves, under GPT-2's names."""
    found = {name.removeprefix(PREFIX): value for name, value in to_gpt2(model).items() if name != HEAD}
    return {name: torch.tensor(value, requires_grad=True) for name, value in found.items()}


def gpt2(p: dict[str, Any], ids: Any) -> Any:
    """GPT-2 by its own names: dense layers are x W + b, with W (in, out)."""
    F = torch.nn.functional

    def norm(x: Any, name: str) -> Any:
        return F.layer_norm(x, (WIDTH,), p[f"{name}.weight"], p[f"{name}.bias"], 1e-5)

    def dense(x: Any, name: str) -> Any:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    n, length = ids.shape
    x = p["wte.weight"][ids] + p["wpe.weight"][:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    for i in range(LAYERS):
        q, k, v = (
            part.reshape(n, length, HEADS, -1).transpose(1, 2)
            for part in dense(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").chunk(3, -1)
        )
        scores = (q @ k.mT / (WIDTH // HEADS) ** 0.5).masked_fill(future, -torch.inf)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, WIDTH)
        x = x + dense(mixed, f"h.{i}.attn.c_proj")
        wide = F.gelu(dense(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
        x = x + dense(wide, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ p["wte.weight"].T


def test_logits_and_greedy_tokens_are_gpt2s() -> None:
    model = network().eval()
    p = weights(model)
    with sg.no_grad(), torch.no_grad():
        ours, theirs = model(sg.as_tensor(IDS[:, :BLOCK])).numpy(), gpt2(p, torch.tensor(IDS[:, :BLOCK])).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    written = complete(decode(model, IDS[:, :4].tolist(), 12, GREEDY, sg.Generator(0)), 4)
    ids = torch.tensor(IDS[:, :4])
    with torch.no_grad():
        for _ in range(12):
            ids = torch.cat([ids, gpt2(p, ids)[:, -1].argmax(-1, keepdim=True)], 1)
    assert written == ids[:, 4:].tolist()


def test_fifty_steps_of_training_are_gpt2s() -> None:
    model = network()
    p = weights(model)
    optimizer = sg.optim.AdamW(decay_groups(model, 0.1), 1e-2, betas=(0.9, 0.99))
    other = torch.optim.AdamW(
        [
            {"params": [v for v in p.values() if v.ndim == 2], "weight_decay": 0.1},
            {"params": [v for v in p.values() if v.ndim == 1], "weight_decay": 0.0},
        ],
        lr=1e-2,
        betas=(0.9, 0.99),
    )
    ours, theirs = [], []
    for step in range(50):
        ids = RNG.integers(0, VOCABULARY, (4, BLOCK + 1)) // (1 + step % 3)  # something to learn
        optimizer.zero_grad()
        loss = model.loss(sg.as_tensor(ids[:, :-1]), sg.as_tensor(ids[:, 1:]))
        loss.backward()
        other.zero_grad()
        logits = gpt2(p, torch.tensor(ids[:, :-1]))
        expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(ids[:, 1:]).flatten())
        expected.backward()
        if step == 0:
            gradients = GPT(VOCABULARY, BLOCK, LAYERS, HEADS, WIDTH)
            gradients.load_state_dict({name: q.grad for name, q in model.named_parameters()})
            for name, value in to_gpt2(gradients).items():
                if name != HEAD:
                    np.testing.assert_allclose(
                        value, p[name.removeprefix(PREFIX)].grad.numpy(), atol=1e-5, err_msg=name
                    )
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(list(p.values()), 1.0)
        optimizer.step()
        other.step()
        ours.append(loss.item())
        theirs.append(expected.item())
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert ours[49] < ours[1] - 0.2  # of one kind: both halve their ids
