"""The RLHF recipe: its stages, resuming in each, what it writes, and that scores rise at a price that is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from resuming import assert_resumes
from test_gpt_recipe import text_data

import scratchgen as sg
from scratchgen import Generator
from scratchgen.cli import main
from scratchgen.models.rlhf import best_of_kl
from scratchgen.recipes.rlhf import RLHFRecipe
from scratchgen.recipes.rlhf_pictures import best_of_curve, frontier, way_of
from scratchgen.recipes.rlhf_responses import syllables, vowels

SMALL: dict[str, Any] = {
    "layers": 1, "heads": 2, "width": 16, "prompt": 6, "response": 8, "batch_size": 8, "pretrain_batch": 8,
    "pretrain_steps": 2, "reward_steps": 2, "steps": 3, "best_of": 3,
}  # fmt: skip


def recipe(**changes: Any) -> RLHFRecipe:
    return RLHFRecipe(RLHFRecipe.configure("tiny", "manual", **{**SMALL, **changes}), text_data(), sg.cpu, 0)


def arrays(network: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy(force=True).copy() for name, value in network.state_dict().items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, b[name]) for name, value in a.items())


# --- stages


@pytest.mark.parametrize(
    "changes",
    [
        {"pretrain_steps": 4},  # the checkpoint after three steps is in the first stage, the fifth begins the second
        {"pretrain_steps": 1, "reward_steps": 3},  # in the second, and the third begins
        {"pretrain_steps": 0, "reward": "rule", "text_weight": 1.0},
        {"pretrain_steps": 1, "method": "dpo", "labels": "drawn"},
        {"pretrain_steps": 2, "reward_steps": 4, "method": "best-of-n"},
    ],
)
def test_training_goes_on_bit_identically_from_a_checkpoint(changes: dict[str, Any], tmp_path: Path) -> None:
    assert_resumes(lambda: recipe(**changes), tmp_path)


def test_stages_follow_each_other_and_each_changes_its_own() -> None:
    made = recipe()
    assert made.config.steps == 2 + 2 + 3
    assert set(made.step()) == {"pretrain_loss"}
    assert made.start is made.policy
    made.step()
    policy, value = arrays(made.policy), arrays(made.values)
    assert set(made.step()) == {"reward_loss", "reward_accuracy"}
    assert made.start is made.reference
    assert same(policy, arrays(made.reference))
    assert same(policy, arrays(made.policy))  # not trained by the reward's stage
    made.step()
    rewarder = arrays(made.rewarder)
    assert not same(policy, {name.removeprefix("body."): value for name, value in rewarder.items() if "body" in name})
    found = made.step()
    assert {"reward", "score", "kl", "entropy", "ratio", "clip_share", "value_explained", "beta"} <= set(found)
    assert found["kl"] == pytest.approx(0, abs=1e-5)  # the batch was drawn by the reference itself
    assert not same(policy, arrays(made.policy))
    assert same(policy, arrays(made.reference))
    assert not same(value, arrays(made.values))
    body = {name: value for name, value in rewarder.items() if "body" in name}
    assert same(body, {name: value for name, value in arrays(made.rewarder).items() if "body" in name})
    # Rewards were rescaled: of the reference's responses they have mean 0 and deviation 1.
    ids = made.responses.draw(made.reference, made._windows(500, 6), Generator(5))
    rewards = made._rewards(ids)
    assert rewards.mean() == pytest.approx(0, abs=0.3)
    assert rewards.std() == pytest.approx(1, rel=0.3)


def test_each_method_has_the_stages_that_it_needs() -> None:
    for changes, steps in (
        ({"reward": "rule"}, 2 + 3),
        ({"method": "dpo"}, 2 + 3),
        ({"method": "best-of-n"}, 2 + 2),
        ({"method": "best-of-n", "reward": "rule"}, 2),
    ):
        assert recipe(**changes).config.steps == steps
    with pytest.raises(ValueError, match="nothing to train"):
        recipe(method="best-of-n", reward="rule", pretrain_steps=0)


def test_scores_rise_and_the_price_is_counted() -> None:
    made = recipe(
        pretrain_steps=60, pretrain_rate=1e-2, reward="rule", steps=25, batch_size=64, learning_rate=3e-3,
        kl_target=0.0, beta=0.1,
    )  # fmt: skip
    for _ in range(made.config.steps):
        made.step()
    found = made.evaluate()
    assert found["score"] > 1
    assert found["win_rate"] > 0.75
    assert found["kl"] > 0.5
    counted = made.baselines()
    assert counted["reference"]["score"] == 0
    assert counted["reference"]["win_rate"] == 0.5
    assert counted["reference"]["perplexity_ratio"] == 1
    assert counted["best of 3"]["score"] > 0.5
    assert counted["best of 3"]["kl"] == best_of_kl(3)


def test_dpo_learns_what_is_liked() -> None:
    made = recipe(
        pretrain_steps=60, pretrain_rate=1e-2, method="dpo", steps=25, batch_size=64, learning_rate=1e-3, beta=0.1
    )  # fmt: skip
    seen = [made.step() for _ in range(made.config.steps)]
    assert seen[60]["dpo_loss"] == pytest.approx(np.log(2), rel=1e-4)  # it begins as the reference
    assert seen[60]["dpo_accuracy"] == 0
    assert made.validate()["score"] > 0.7


# --- rules, pairs, pictures


def test_rules_count() -> None:
    assert vowels("Oh, queue") == 5 / 9
    assert syllables("Oh, queue") == 2 / 9
    assert vowels("") == syllables("") == 0


def test_the_better_of_a_pair_is_better_by_the_rule() -> None:
    made = recipe()
    prompts = made._windows(50, 6)
    better, worse, differ = made.responses.pairs(made.policy, prompts, Generator(1))
    lead = made.responses.counted(better) - made.responses.counted(worse)
    assert ((lead > 0) == (differ == 1)).all()
    assert ((lead == 0) == (differ == 0)).all()
    assert 10 < differ.sum() < 50
    np.testing.assert_array_equal(better[:, :6], prompts)
    np.testing.assert_array_equal(worse[:, :6], prompts)


def test_labels_that_are_drawn_follow_bradley_and_terry() -> None:
    made = recipe()
    prompts, unit = made._windows(4000, 6), 0.1
    better, worse, differ = made.responses.pairs(made.policy, prompts, Generator(1), unit)
    assert differ.all()
    lead = (made.responses.counted(better) - made.responses.counted(worse)) / unit
    assert (lead < 0).any()
    for low, high in ((0.0, 1.5), (1.5, 3.0), (3.0, 4.5)):
        near = (np.abs(lead) > low) & (np.abs(lead) < high)
        expected = 1 / (1 + np.exp(-np.abs(lead[near])))
        assert (lead[near] > 0).mean() == pytest.approx(expected.mean(), abs=3 * 0.5 / np.sqrt(near.sum()))


def test_the_best_of_n_has_the_highest_reward() -> None:
    made = recipe(reward="rule")
    prompts = made._windows(20, 6)
    ids, rewards = made._candidates(prompts, 4, Generator(2))
    chosen = made.best_of(prompts, 4, Generator(2))
    np.testing.assert_allclose(made._rewards(chosen), rewards.max(1))
    assert ids.shape == (80, 14)
    np.testing.assert_array_equal(ids[4:8, :6], np.repeat(prompts[1:2], 4, axis=0))


def test_the_curve_of_the_best_of_n() -> None:
    rewards = np.array([[0.0, 1.0, 2.0, 3.0, 9.0], [3.0, 2.0, 1.0, 0.0, 9.0]])
    kl, score = best_of_curve(rewards, rewards)
    np.testing.assert_allclose(kl, [best_of_kl(n) for n in (1, 2, 4)])
    groups = np.array([rewards.mean(), 2.0, 3.0])  # of 5 responses the first four fill groups of two and of four
    np.testing.assert_allclose(score, (groups - rewards.mean()) / rewards.std())


def test_what_a_run_writes(tmp_path: Path) -> None:
    made = recipe()
    made.preview(tmp_path, 0)
    assert not (tmp_path / "frontier.png").exists()
    assert "ppo" not in (tmp_path / "samples.txt").read_text()
    for _ in range(5):
        made.step()
    lines = [{"step": 5, "kl": 1.0}, {"step": 5, "validation_kl": 2.0, "validation_score": 1.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made.preview(tmp_path, 5)
    shown = (tmp_path / "samples.txt").read_text()
    assert shown == (tmp_path / "samples" / "step-000005.txt").read_text()
    assert shown.count("reference") == shown.count("ppo") == 5
    assert (tmp_path / "frontier.png").exists()
    way = way_of(tmp_path)
    assert way is not None
    np.testing.assert_array_equal(way, [[0.0, 2.0], [0.0, 1.5]])
    assert way_of(tmp_path / "elsewhere") is None
    frontier(tmp_path / "both.png", {"a": tmp_path, "b": tmp_path})
    assert (tmp_path / "both.png").exists()


# --- the command line

SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]


def test_a_run_of_gpt_can_be_the_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    network = ["--set", "layers=1", "--set", "heads=2", "--set", "width=8", "--quiet"]
    assert main(["train", "gpt", *network, "--set", "block=20", "--set", "steps=2", "--out", str(base)]) == 0
    command = ["train", "rlhf", *SETTINGS, "--set", f"base={base}", "--quiet", "--out", str(out)]
    assert main(command) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert not any("pretrain_loss" in line for line in lines)
    assert [line["step"] for line in lines if "kl" in line] == [3, 4, 5]
    assert main(["sample", str(out), "--set", "prompt=for x", "--set", "length=5"]) == 0
    assert "for x" in capsys.readouterr().out
    assert main([*command[:-1], str(tmp_path / "more"), "--set", "response=15"]) == 2
    assert "its block of 20 tokens is less than prompt + response, 21" in capsys.readouterr().err


def test_samples_of_the_best_of_n() -> None:
    made = recipe(method="best-of-n")
    (text,) = made.sample(1, Generator(0), prompt="To be, or not")["text"]
    assert text.startswith("To be, or not")
    assert len(text) == 13 + 8
    assert "".join(made.stream("To be, or not", Generator(0))) == text.removeprefix("To be, or not")
    assert len({t[:6] for t in made.sample(4, Generator(0))["text"]}) > 1  # prompts of the test text
    with pytest.raises(ValueError, match="a prompt needs 6 tokens"):
        made.sample(1, Generator(0), prompt="To")
    with pytest.raises(ValueError, match="leave out length"):
        made.sample(1, Generator(0), length=9)
