"""RLHF on sequences that can be enumerated, where the best policy is known: PPO, DPO, reward models, their parts."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import scratchgen as sg
from scratchgen import Generator, Tensor
from scratchgen.models.decoding import Sampling, decode
from scratchgen.models.gpt import GPT
from scratchgen.models.ppo import PPO, KLController, Settings, advantages, policy_loss, value_loss, whiten
from scratchgen.models.rlhf import (
    Scorer,
    best_of_kl,
    bradley_terry_loss,
    divergence,
    dpo_loss,
    entropy,
    k1,
    k3,
    log_probs,
    response_logits,
)

TOKENS, LENGTH, BETA = 4, 3, 0.4
RESPONSES = np.array(list(itertools.product(range(TOKENS), repeat=LENGTH)))
ALL = np.concatenate([np.zeros((len(RESPONSES), 1), np.int64), RESPONSES], 1)  # after a prompt of one token
REWARD = np.random.default_rng(3).normal(size=len(ALL))  # of each: nothing of one says anything of another


def gpt(scale: float = 1.0) -> GPT:
    """The same weights each time; larger ones make a distribution less even."""
    sg.manual_seed(2)
    made = GPT(TOKENS, LENGTH + 1, 1, 2, 32)
    for p in made.parameters():
        if p.ndim == 2:
            p.array[:] *= scale
    return made


def log_p(policy: GPT) -> np.ndarray:
    """Of all responses, each of its tokens: (64, 3)."""
    with sg.no_grad():
        ids = sg.as_tensor(ALL)
        return log_probs(response_logits(policy, ids, LENGTH), ids).numpy().astype(np.float64)


def whole(policy: GPT) -> Tensor:
    """log pi of all responses, with a graph."""
    ids = sg.as_tensor(ALL)
    return log_probs(response_logits(policy, ids, LENGTH), ids).sum(1)


def reached(policy: GPT, reference: GPT) -> float:
    """J of the policy, from 0 for the reference's to 1 for the best there is, (2) and (3)."""
    log_pi, log_ref = log_p(policy).sum(1), log_p(reference).sum(1)

    def objective(log_pi: np.ndarray) -> float:
        return float((np.exp(log_pi) * (REWARD - BETA * (log_pi - log_ref))).sum())

    best = BETA * math.log((np.exp(log_ref) * np.exp(REWARD / BETA)).sum())
    return (objective(log_pi) - objective(log_ref)) / (best - objective(log_ref))


def draw(policy: GPT, count: int, generator: Generator) -> np.ndarray:
    tokens = list(decode(policy, [[0]] * count, LENGTH, Sampling(), generator))
    return np.concatenate([np.zeros((count, 1), np.int64), np.stack(tokens, 1)], 1)


def number_of(ids: np.ndarray) -> np.ndarray:
    """The rows of ``ALL`` that sequences are."""
    return ids[:, 1:] @ TOKENS ** np.arange(LENGTH)[::-1]


# --- the three ways to the best policy


def test_ppo_comes_to_the_best_policy() -> None:
    policy, reference, values, generator = gpt(8), gpt(8), Scorer(gpt()), Generator(0)
    optimizer = sg.optim.Adam([*policy.parameters(), *values.parameters()], 1e-3, eps=1e-5)
    ppo = PPO(policy, values, reference, optimizer)
    assert reached(policy, reference) == 0
    seen = []
    for _ in range(60):
        ids = draw(policy, 256, generator)
        seen.append(ppo.step(sg.as_tensor(ids), LENGTH, REWARD[number_of(ids)], BETA, generator))
    assert reached(policy, reference) >= 0.95
    assert all(abs(found["ratio"] - 1) < 0.05 for found in seen)
    assert np.mean([found["clip_share"] for found in seen]) < 0.3
    assert seen[-1]["value_explained"] > 0.9
    assert seen[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_dpo_with_all_preferences_comes_to_the_best_policy() -> None:
    policy, reference = gpt(8), gpt(8)
    log_ref = sg.as_tensor(log_p(reference).sum(1).astype(np.float32))
    likelier = sg.as_tensor((1 / (1 + np.exp(REWARD[None] - REWARD[:, None]))).astype(np.float32))  # (1)
    optimizer = sg.optim.Adam(policy.parameters(), 3e-3)
    for _ in range(300):
        log_pi = whole(policy)
        pairs = dpo_loss(log_pi[:, None], log_pi[None], log_ref[:, None], log_ref[None], BETA)
        optimizer.zero_grad()
        (likelier * pairs).mean().backward()
        optimizer.step()
    assert reached(policy, reference) >= 0.95
    best = np.exp(log_p(reference).sum(1) + REWARD / BETA)
    np.testing.assert_allclose(np.exp(log_p(policy).sum(1)), best / best.sum(), atol=0.02)


def test_a_reward_model_recovers_rewards_from_games() -> None:
    rng, model = np.random.default_rng(0), Scorer(gpt(8))
    pairs = rng.integers(0, len(ALL), (20_000, 2))
    won = rng.uniform(size=len(pairs)) < 1 / (1 + np.exp(REWARD[pairs[:, 1]] - REWARD[pairs[:, 0]]))
    better, worse = np.where(won[:, None], pairs, pairs[:, ::-1]).T
    games = np.zeros((len(ALL), len(ALL)), np.float32)
    np.add.at(games, (better, worse), 1 / len(pairs))
    optimizer = sg.optim.Adam(model.parameters(), 3e-3)
    for _ in range(200):
        scores = model.score(sg.as_tensor(ALL))
        optimizer.zero_grad()
        (sg.as_tensor(games) * bradley_terry_loss(scores[:, None], scores[None])).sum().backward()
        optimizer.step()
    found = model.score(sg.as_tensor(ALL)).numpy(force=True)
    assert np.corrcoef(found, REWARD)[0, 1] >= 0.99
    assert (found - found.mean()).std() == pytest.approx(REWARD.std(), rel=0.1)  # the scale too, but no constant
    # Rewards of mean 0 and deviation 1, in the same order:
    model.rescale(float(found.mean()), float(found.std()))
    np.testing.assert_allclose(
        model.score(sg.as_tensor(ALL)).numpy(force=True), (found - found.mean()) / found.std(), atol=1e-5
    )


def test_the_best_of_n_is_as_far_as_its_formula_says() -> None:
    # The best of n of an even distribution over many: its k-th has probability (k^n - (k-1)^n) / m^n.
    m, n = 4000, 4
    k = np.arange(1, m + 1, dtype=np.float64)
    p = (k / m) ** n - ((k - 1) / m) ** n
    assert (p * np.log(p * m)).sum() == pytest.approx(best_of_kl(n), rel=1e-3)
    assert best_of_kl(1) == 0
    p = np.array([0.5**n, 1 - 0.5**n])  # two scores only: ties, and less
    assert (p * np.log(2 * p)).sum() < best_of_kl(n)


# --- parts


def test_advantages_are_their_definition() -> None:
    rng = np.random.default_rng(1)
    rewards, values = rng.normal(size=(2, 5, 9))
    for gamma, decay in ((1.0, 0.95), (0.9, 0.5), (1.0, 1.0), (0.97, 0.0)):
        following = np.concatenate([values[:, 1:], np.zeros((5, 1))], 1)
        delta = rewards + gamma * following - values
        expected = np.zeros_like(delta)
        for t in range(9):
            for k in range(9 - t):
                expected[:, t] += (gamma * decay) ** k * delta[:, t + k]
        np.testing.assert_allclose(advantages(rewards, values, gamma, decay), expected, atol=1e-12)
    # With lambda = 1 they are what comes minus what was foreseen, whatever was foreseen in between.
    np.testing.assert_allclose(
        advantages(rewards, values, 1.0, 1.0), rewards[:, ::-1].cumsum(1)[:, ::-1] - values, atol=1e-12
    )


def test_whitened_numbers_have_no_mean_and_deviation_one() -> None:
    x = whiten(np.random.default_rng(2).normal(5, 3, (20, 30)))
    assert x.mean() == pytest.approx(0, abs=1e-9)
    assert x.std() == pytest.approx(1)
    assert not whiten(np.full((2, 3), 7.0)).any()


def test_k1_and_k3_have_the_mean_kl_and_k3_is_never_negative() -> None:
    policy, reference = gpt(8), gpt(5)
    log_pi, log_ref = log_p(policy), log_p(reference)
    p = np.exp(log_pi.sum(1))
    kl = float((p * (log_pi.sum(1) - log_ref.sum(1))).sum())
    assert kl > 0.05
    # Means over the policy's own responses, exactly, so nothing is left to chance.
    assert (p * k1(log_pi, log_ref).sum(1)).sum() == pytest.approx(kl, rel=1e-5)
    assert (p * k3(log_pi, log_ref).sum(1)).sum() == pytest.approx(kl, rel=1e-5)
    assert k1(log_pi, log_ref).min() < 0 <= k3(log_pi, log_ref).min()
    with sg.no_grad():
        ids = sg.as_tensor(ALL)
        both = [response_logits(model, ids, LENGTH) for model in (policy, reference)]
        apart, unsure = divergence(*both).numpy().sum(1), entropy(both[0]).numpy().sum(1)
    assert (p * apart).sum() == pytest.approx(kl, rel=1e-5)
    assert (p * unsure).sum() == pytest.approx(-(p * log_pi.sum(1)).sum(), rel=1e-5)


def test_log_probabilities_are_of_the_tokens_that_follow() -> None:
    policy = gpt(8)
    assert np.exp(log_p(policy).sum(1)).sum() == pytest.approx(1, abs=1e-5)
    row = policy(sg.as_tensor(ALL[37:38])).numpy(force=True)[0].astype(np.float64)
    expected = [row[t, ALL[37, t + 1]] - np.log(np.exp(row[t]).sum()) for t in range(LENGTH)]
    np.testing.assert_allclose(log_p(policy)[37], expected, atol=1e-5)


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    policy, rng = gpt(8), np.random.default_rng(4)
    ids = sg.as_tensor(ALL)
    advantage = sg.as_tensor(rng.normal(size=(len(ALL), LENGTH)).astype(np.float32))
    new = log_probs(response_logits(policy, ids, LENGTH), ids)
    loss, ratio = policy_loss(new, new.detach(), advantage, 0.2)
    assert (ratio.numpy(force=True) == 1).all()
    parameters = list(policy.parameters())
    again = log_probs(response_logits(policy, ids, LENGTH), ids)
    for ours, expected in zip(sg.grad(loss, parameters), sg.grad(-(advantage * again).mean(), parameters), strict=True):
        np.testing.assert_allclose(ours.numpy(), expected.numpy(), atol=1e-7)


def test_with_all_responses_that_gradient_is_the_objectives() -> None:
    """k1 in the rewards, although they are constants to the gradient, makes it that of E r - beta KL."""
    policy, reference, ids = gpt(8), gpt(5), sg.as_tensor(ALL)
    log_pi, log_ref = log_p(policy), log_p(reference)
    rewards = -BETA * k1(log_pi, log_ref)
    rewards[:, -1] += REWARD
    advantage = advantages(rewards, np.zeros_like(rewards), decay=1.0)
    each = np.exp(log_pi.sum(1, keepdims=True)) * advantage.size  # responses weigh what their probability is
    new = log_probs(response_logits(policy, ids, LENGTH), ids)
    loss, _ = policy_loss(new, new.detach(), sg.as_tensor((each * advantage).astype(np.float32)), 0.2)
    likelihood = whole(policy)
    reward = sg.as_tensor(REWARD.astype(np.float32)) - BETA * (likelihood - sg.as_tensor(log_ref.sum(1).astype("f4")))
    parameters = list(policy.parameters())
    expected = sg.grad(-(sg.exp(likelihood) * reward).sum(), parameters)
    largest = max(np.abs(slope.numpy()).max() for slope in expected)
    for ours, theirs in zip(sg.grad(loss, parameters), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5 * largest)


def test_clipping_takes_the_gradient_where_a_step_went_far_enough() -> None:
    ratio = np.array([0.7, 0.7, 1.1, 1.3, 1.3], np.float32)
    advantage = np.array([1.0, -1.0, 1.0, 1.0, -1.0], np.float32)
    new = sg.tensor(np.log(ratio), requires_grad=True)
    loss, _ = policy_loss(new, sg.zeros(5), sg.as_tensor(advantage), 0.2)
    expected = -np.minimum(ratio * advantage, ratio.clip(0.8, 1.2) * advantage).mean()
    assert loss.item() == pytest.approx(expected)
    (slope,) = sg.grad(loss, [new])
    assert (slope.numpy() != 0).tolist() == [True, False, True, False, True]


def test_values_may_not_leave_the_old_ones_to_come_nearer() -> None:
    new = sg.tensor([0.5, 0.1, -0.5], requires_grad=True)
    loss = value_loss(new, sg.zeros(3), sg.as_tensor(np.ones(3, np.float32)), 0.2)
    assert loss.item() == pytest.approx(0.5 * (0.8**2 + 0.9**2 + 1.5**2) / 3)
    (slope,) = sg.grad(loss, [new])
    assert (slope.numpy() != 0).tolist() == [False, True, True]


def test_beta_follows_the_distance() -> None:
    controller = KLController(0.2, 6.0)
    for kl, factor in ((6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (0.0, 0.98)):
        before = controller.beta
        controller.update(kl)
        assert controller.beta == pytest.approx(before * factor)
    other = KLController(1.0, 6.0, rate=0.0)
    other.load_state_dict(controller.state_dict())
    other.update(100.0)
    assert other.beta == controller.beta


def test_the_head_begins_small_enough_for_scores_of_one() -> None:
    sg.manual_seed(0)
    model = Scorer(GPT(TOKENS, 8, 1, 2, 256))
    assert model.head.weight.numpy(force=True).std() == pytest.approx(1 / math.sqrt(257), rel=0.15)
    assert not model.head.bias.numpy(force=True).any()


def test_a_batch_of_one_response_is_one_mini_batch() -> None:
    policy, values = gpt(8), Scorer(gpt())
    ppo = PPO(policy, values, gpt(8), sg.optim.SGD(policy.parameters(), 1e-3), Settings(mini_batches=4))
    found = ppo.step(sg.as_tensor(ALL[:1]), LENGTH, REWARD[:1], BETA, Generator(0))
    assert all(math.isfinite(value) for value in found.values())


def test_text_is_mixed_in_by_its_weight() -> None:
    policy, values, asked = gpt(8), Scorer(gpt()), []

    def text_loss() -> Tensor:
        asked.append(1)
        return policy.loss(sg.as_tensor(ALL[:, :-1]), sg.as_tensor(ALL[:, 1:]))

    def after(weight: float) -> float:
        ppo = PPO(policy, values, gpt(8), sg.optim.SGD(policy.parameters(), 1e-2), Settings(text_weight=weight),
                  text_loss)  # fmt: skip
        ppo.step(sg.as_tensor(ALL), LENGTH, REWARD, BETA, Generator(0))
        with sg.no_grad():
            return text_loss().item()

    before, without = after(0.0), len(asked)
    assert without == 1  # only to look at it
    assert after(50.0) < before - 0.01
    with pytest.raises(ValueError, match="text_weight needs text_loss"):
        PPO(policy, values, policy, sg.optim.SGD(policy.parameters(), 1e-2), Settings(text_weight=1.0))
