"""One more token through all blocks in one call: the kernel's cases, and the model beside itself op by op."""

from __future__ import annotations

import numpy as np
import pytest
from threads import assert_one_thread_gives_the_same_bits

import scratchgen as sg
from scratchgen import kernels
from scratchgen.kernels.blocks_step import cpu
from scratchgen.kernels.compare import drawn
from scratchgen.models import lora
from scratchgen.models.decoding import GREEDY, decode
from scratchgen.models.gpt import GPT, GPTCache

IDS = np.random.default_rng(0).integers(0, 11, (2, 40))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_implementation_is_the_reference(dtype: str) -> None:
    found = list(kernels.compare("blocks_step", dtype=dtype))
    assert sum(c.impl == "reference" for c in found) == 8
    assert sum(c.impl == "numba" for c in found) == (7 if dtype == "float32" else 0)  # all whose sizes fill vectors
    for c in found:
        assert c.passed, f"{c.impl} on {c.case}: {c.error:.1e}"


def test_threads_change_no_bit() -> None:
    case = next(c for c in drawn("blocks_step") if c.name == "several threads")
    arrays = [a.astype(np.float32) for a in case.arrays]
    assert_one_thread_gives_the_same_bits(lambda: cpu.blocks_step(*arrays, **case.attrs))


def model(**kwargs) -> GPT:
    sg.manual_seed(0)
    return GPT(11, 64, 3, 2, 64, **kwargs).eval()


def logits_by_token(network: GPT, ids: np.ndarray = IDS) -> tuple[np.ndarray, GPTCache]:
    with sg.no_grad():
        cache = network.new_cache()
        parts = [network(sg.as_tensor(ids[:, i : i + 1]), None, cache) for i in range(ids.shape[1])]
        return sg.cat(parts, 1).numpy(), cache


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each single token went through in one call, as it happens."""
    taken, step = [], GPTCache.step

    def noted(self: GPTCache, x: sg.Tensor) -> sg.Tensor | None:
        y = step(self, x)
        taken.append(y is not None)
        return y

    monkeypatch.setattr(GPTCache, "step", noted)
    return taken


@pytest.mark.parametrize("bias", [True, False])
def test_steps_give_the_logits_of_the_whole_text(monkeypatch: pytest.MonkeyPatch, bias: bool) -> None:
    network, taken = model(bias=bias), steps_taken(monkeypatch)
    with sg.no_grad():
        for p in network.parameters():  # biases and gains that are not 0 and 1
            p.add_(0.1 * sg.randn(p.shape))
    found, cache = logits_by_token(network)
    assert taken == [True] * 39  # the first token finds no cache
    assert cache.length == 40
    with sg.no_grad():
        whole = network(sg.as_tensor(IDS)).numpy()
    np.testing.assert_allclose(found, whole, atol=2e-6 * np.abs(whole).max())


def test_weights_that_change_are_seen_by_the_next_step() -> None:
    network = model()
    _, cache = logits_by_token(network)
    token = sg.as_tensor(IDS[:, :1])
    with sg.no_grad():
        network.load_state_dict({k: 2 * v for k, v in network.state_dict().items()})
        stepped = network(token, None, cache).numpy()
        for each in cache.blocks:
            each.own.length -= 1
        network.train()  # op by op; nothing drops
        np.testing.assert_allclose(network(token, None, cache).numpy(), stepped, rtol=2e-5, atol=2e-5)


def test_where_there_is_no_such_call_blocks_go_op_by_op(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = steps_taken(monkeypatch)
    adapted = model()
    lora.adapt(adapted, rank=2, alpha=8.0)
    for network, ids in (
        (adapted, IDS),
        (model(), np.tile(IDS[:1], (cpu.MOST // (12 * 64**2) + 1, 1))),
        (GPT(11, 64, 2, 2, 12).eval(), IDS),  # heads that fill no vector
        (model().double(), IDS),
    ):
        found, _ = logits_by_token(network, ids[:, :6])
        with sg.no_grad():
            whole = network(sg.as_tensor(ids[:, :6])).numpy()
        np.testing.assert_allclose(found, whole, atol=2e-6 * np.abs(whole).max())
    assert not any(taken)
    assert len(taken) == 4 * 5
    logits_by_token(model(positions="rotary"))
    assert len(taken) == 4 * 5  # not even asked for


def test_texts_of_different_lengths_are_written_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network, taken = model(), steps_taken(monkeypatch)

    def written(prompts: list[list[int]], count: int = 70, **kwargs) -> np.ndarray:
        return np.stack(list(decode(network, prompts, count, GREEDY, sg.Generator(0), **kwargs)))

    prompts = [IDS[0, :9].tolist(), IDS[1, :3].tolist()]
    together = written(prompts, 50)  # padded, so op by op
    assert not any(taken)
    for prompt in prompts:
        np.testing.assert_array_equal(written([prompt])[:, 0], written([prompt], use_cache=False)[:, 0])
    assert sum(taken) > 100
    np.testing.assert_array_equal(written(prompts[:1])[:50, 0], together[:, 0])
