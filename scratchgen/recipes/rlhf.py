"""Reinforcement learning from feedback on a GPT. The models are in ``scratchgen.models.rlhf`` and ``ppo``.

Three stages, of which the first two have steps of their own:

1. ``pretrain_steps``: a small GPT learns the text, or ``base`` names a run of ``gpt`` that has. It is the reference.
2. ``reward_steps``: to random prompts of the text the reference writes two responses, a rule says which is better, and
   a reward model learns it. Each pair is seen once. Only where the reward is that model.
3. ``steps``: PPO, which draws its own responses, or DPO, on pairs by the reference. Best of n trains nothing.

Scores are in deviations of the rule over the reference's own responses, from their mean: the reference has 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, nn
from scratchgen.data.dataset import IntArray
from scratchgen.data.text import Text, TextDataset
from scratchgen.models.gpt import GPT
from scratchgen.models.ppo import PPO, KLController, Settings
from scratchgen.models.rlhf import (
    Floats,
    Scorer,
    best_of_kl,
    bradley_terry_loss,
    divergence,
    dpo_loss,
    log_probs,
    response_logits,
)

from .base import Reference, TextRecipe
from .gpt import GPTRecipe, build
from .judges import evaluating
from .rlhf_pictures import best_of_curve, frontier, write_responses
from .rlhf_responses import RULES, Pairs, Responses
from .rlhf_settings import RLHFConfig, pretraining

SEED = 0x2155  # of all draws that are not training's
CALIBRATED = 8  # batches by which the scale of scores and rewards is settled
DRAWN = {"length": 200, "temperature": 1.0, "top_p": 1.0}  # samples, unless the call says otherwise
TESTED = 512  # prompts of an evaluation
SHOWN = 5  # prompts in samples.txt
DRAWN_FROM = 64  # prompts in the curve of the best of n


class Progress:
    """Steps done, and the rule's mean and deviation over responses of the reference."""

    def __init__(self) -> None:
        self.done, self.mean, self.deviation = 0, 0.0, 1.0

    def state_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class RLHFRecipe(TextRecipe):
    """RLHF."""

    name: ClassVar[str] = "rlhf"
    paper: ClassVar[str] = "Ziegler et al. 2019, Ouyang et al. 2022 (PPO); Rafailov et al. 2023 (DPO)"
    default_data: ClassVar[str] = "manual"
    data_names: ClassVar[tuple[str, ...]] = ("manual", "tinyshakespeare")
    presets: ClassVar[Mapping[str, Mapping[str, RLHFConfig]]] = {
        "tiny": {"*": RLHFConfig(evaluate_every=30)},
    }
    expected: ClassVar[str] = (
        "tiny on tinyshakespeare: 2.3 deviations more vowels at 4.7 nats, preferred to the reference at 96 % of prompts"
    )

    config: RLHFConfig
    dataset: TextDataset

    def __init__(self, config: RLHFConfig, dataset: TextDataset, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.gpt = GPTRecipe(pretraining(config), dataset, device, seed)
        self.generator = self.generator.spawn(1)  # not the stream that pre-training draws from
        self.policy, self.tokenizer = self.gpt.model, self.gpt.tokenizer
        self.reference, *bodies = (build(self.gpt.config, len(self.tokenizer)).eval() for _ in range(3))
        self.rewarder, self.values = (Scorer(body) for body in bodies)
        for network in (self.reference, self.rewarder, self.values):
            network.to(device)
        self.reference.requires_grad_(False)
        self.reward_optimizer = sg.optim.AdamW(self.rewarder.parameters(), config.reward_rate, weight_decay=0.01)
        self.reward_schedule = sg.optim.lr_scheduler.WarmupCosineLR(
            self.reward_optimizer, min(20, max(0, config.reward_steps - 1)), max(1, config.reward_steps)
        )
        trained = [*self.policy.parameters(), *self.values.parameters()]
        self.optimizer = sg.optim.Adam(trained, config.learning_rate, eps=1e-5)
        self.controller = KLController(config.beta, config.kl_target or 1.0, 0.1 if config.kl_target else 0.0)
        settings = Settings(
            config.epochs, config.mini_batches, config.clip, config.clip, text_weight=config.text_weight
        )
        self.ppo = PPO(self.policy, self.values, self.reference, self.optimizer, settings, self._text_loss)
        self.responses = Responses(self.tokenizer, config.response, RULES[config.rule], device)
        self.progress = Progress()
        # The first step of each stage but the first, and the end: the trainer asks for the steps of all of them.
        self.reward_begins = 0 if config.base else config.pretrain_steps
        self._learns = config.reward == "model" and config.method != "dpo"
        self.last_begins = self.reward_begins + (config.reward_steps if self._learns else 0)
        total = self.last_begins + (config.steps if config.method != "best-of-n" else 0)
        if total == 0:
            raise ValueError("nothing to train: best-of-n with the rule as reward, from a base, is only sampling")
        self.config = replace(config, steps=total)

    def state(self) -> dict[str, Any]:
        names = (
            "reference", "rewarder", "values", "reward_optimizer", "reward_schedule", "optimizer", "controller",
            "generator", "progress",
        )  # fmt: skip
        pretraining = {f"gpt_{name}": part for name, part in self.gpt.state().items()}
        return {**pretraining, **{name: getattr(self, name) for name in names}}

    @property
    def answers(self) -> bool:
        return False

    @property
    def start(self) -> GPT:
        """The reference, which is the policy itself as long as that is pre-trained."""
        return self.policy if self.progress.done <= self.reward_begins else self.reference

    # --- data

    def _tensor(self, array: np.ndarray) -> Tensor:
        return sg.as_tensor(array, device=self.device)

    def _windows(self, count: int, length: int) -> IntArray:
        """Random stretches of training text, (count, length)."""
        starts = np.asarray(self.generator.integers(0, len(self.gpt.windows) - length + 1, (count,)))
        return self.gpt.windows[starts[:, None] + np.arange(length)]

    def _text_loss(self) -> Tensor:
        windows = self._windows(self.config.batch_size, self.gpt.config.block + 1)
        return self.policy.loss(self._tensor(windows[:, :-1]), self._tensor(windows[:, 1:]))

    def _prompts(self, rows: Text, count: int) -> IntArray:
        """The same stretches of a held-out text at every call, evenly apart: (count, prompt)."""
        ids = self.gpt.ids(rows, self.config.prompt)
        starts = np.linspace(0, len(ids) - self.config.prompt, count).astype(np.int64)
        return ids[starts[:, None] + np.arange(self.config.prompt)]

    def _rewards(self, ids: IntArray) -> Floats:
        """What is maximised, (N,): the reward model's score, or the rule's."""
        if not self._learns:
            return (self.responses.counted(ids) - self.progress.mean) / self.progress.deviation
        with evaluating(self.rewarder):
            return np.asarray(self.rewarder.score(self._tensor(ids)).numpy(force=True), np.float64)

    # --- training

    def step(self) -> dict[str, float]:
        done = self.progress.done
        if done == self.reward_begins:
            self._keep_reference()
        self.progress.done += 1
        if done < self.reward_begins:
            return {"pretrain_loss": self.gpt.step()["loss"]}
        if done < self.last_begins:
            return self._learn_reward()
        if self.config.method == "dpo":
            return self._dpo()
        if done == self.last_begins and self._learns:
            self._settle_rewards()
        return self._ppo()

    def _keep_reference(self) -> None:
        """What pre-training came to, and what the rule makes of it; all other networks begin there."""
        weights = self.policy.state_dict()
        self.reference.load_state_dict(weights)
        for scorer in (self.rewarder, self.values):
            scorer.body.load_state_dict(weights)
        counted = self.responses.counted(self._calibration())
        self.progress.mean, self.progress.deviation = float(counted.mean()), float(counted.std()) or 1.0

    def _settle_rewards(self) -> None:
        """Of the reward model mean 0 and deviation 1 over the reference's responses; the values begin as it."""
        rewards = self._rewards(self._calibration())
        self.rewarder.rescale(float(rewards.mean()), float(rewards.std()) or 1.0)
        self.values.load_state_dict(self.rewarder.state_dict())

    def _calibration(self) -> IntArray:
        """Responses of the reference to settle a scale by."""
        prompts = self._windows(CALIBRATED * self.config.batch_size, self.config.prompt)
        return self.responses.draw(self.reference, prompts, self.generator)

    def _labelled(self) -> Pairs:
        """Pairs of the reference's responses, in batches."""
        prompts = self._windows(self.config.batch_size, self.config.prompt)
        unit = self.progress.deviation if self.config.labels == "drawn" else 0.0
        return self.responses.pairs(self.reference, prompts, self.generator, unit)

    def _learn_reward(self) -> dict[str, float]:
        better, worse, differ = (self._tensor(part) for part in self._labelled())
        scores = self.rewarder.score(sg.cat([better, worse]))
        ahead, behind = scores.chunk(2)
        loss = _mean(bradley_terry_loss(ahead, behind), differ)
        self._update(self.reward_optimizer, loss, self.rewarder)
        self.reward_schedule.step()
        return {"reward_loss": loss.item(), "reward_accuracy": _mean((ahead > behind).to(sg.float32), differ).item()}

    def _ppo(self) -> dict[str, float]:
        config = self.config
        ids = self.responses.draw(self.policy, self._windows(config.batch_size, config.prompt), self.generator)
        rewards = self._rewards(ids)
        beta = self.controller.beta
        found = self.ppo.step(self._tensor(ids), config.response, rewards, beta, self.generator)
        self.controller.update(found["kl"])
        score = (self.responses.counted(ids).mean() - self.progress.mean) / self.progress.deviation
        return {"reward": float(rewards.mean()), "score": float(score), **found, "beta": beta}

    def _dpo(self) -> dict[str, float]:
        better, worse, differ = self._labelled()
        both = self._tensor(np.concatenate([better, worse]))
        with sg.no_grad():
            known = self._log_likelihood(self.reference, both)
        (liked, other), (liked_ref, other_ref) = self._log_likelihood(self.policy, both).chunk(2), known.chunk(2)
        weights = self._tensor(differ)
        loss = _mean(dpo_loss(liked, other, liked_ref, other_ref, self.config.beta), weights)
        self._update(self.optimizer, loss, self.policy)
        ahead = (liked - liked_ref) > (other - other_ref)
        return {"dpo_loss": loss.item(), "dpo_accuracy": _mean(ahead.to(sg.float32), weights).item()}

    def _log_likelihood(self, model: GPT, ids: Tensor) -> Tensor:
        """log pi of whole responses, (N,)."""
        return log_probs(response_logits(model, ids, self.config.response), ids).sum(1)

    def _update(self, optimizer: sg.optim.Optimizer, loss: Tensor, network: nn.Module) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    # --- evaluation

    def validate(self) -> dict[str, float]:
        """Of the reward model its accuracy, of a policy what ``evaluate`` says, on held-out prompts."""
        done = self.progress.done
        if done <= self.reward_begins:
            return {}
        if done <= self.last_begins and self.config.method != "best-of-n":
            return {"reward_accuracy": float(self._accuracy(self.dataset.validation, 256).mean())}
        found = self._compare(self.dataset.validation, 256)
        return {key: found[key] for key in ("score", "kl", "win_rate", "perplexity_ratio")}

    def evaluate(self) -> dict[str, float]:
        """On test prompts, of a response of the policy and one of the model it began as.

        score             the rule's mean, from the reference's, in deviations over the reference's responses
        kl                nats a response from the reference; of the best of n by its formula
        win_rate          share of prompts at which the rule prefers the policy's response, ties for half
        perplexity_ratio  of the responses under the reference, by that of the reference's own
        reward            as ``score``, by the reward model; ``reward_accuracy`` is of that on pairs by the reference
        """
        found = self._compare(self.dataset.test, TESTED)
        if self._learns:
            right = self._accuracy(self.dataset.test, 2048)
            found |= {"reward_accuracy": float(right.mean()), "reward_accuracy_se": _error(right)}
        return found

    def baselines(self) -> dict[str, dict[str, float]]:
        prompts = self._prompts(self.dataset.test, TESTED)
        begun, n = self.responses.draw(self.start, prompts, Generator(SEED)), self.config.best_of
        same = self._measure(begun, begun)
        chosen = self._measure(self.best_of(prompts, n, Generator(SEED).spawn(1)), begun)
        return {"reference": {**same, "kl": 0.0}, f"best of {n}": {**chosen, "kl": best_of_kl(n)}}

    def _improved(self, prompts: IntArray, generator: Generator) -> IntArray:
        """Prompts with responses by the method."""
        if self.config.method == "best-of-n":
            return self.best_of(prompts, self.config.best_of, generator)
        return self.responses.draw(self.policy, prompts, generator)

    def _compare(self, rows: Text, count: int) -> dict[str, float]:
        prompts, generator = self._prompts(rows, count), Generator(SEED)
        begun = self.responses.draw(self.start, prompts, generator)
        ids = self._improved(prompts, generator.spawn(1))
        if self.config.method == "best-of-n":
            return {**self._measure(ids, begun), "kl": best_of_kl(self.config.best_of)}
        with sg.no_grad():
            both = [response_logits(m, self._tensor(ids), self.config.response) for m in (self.policy, self.start)]
            apart = divergence(*both).sum(1).numpy(force=True)
        return {**self._measure(ids, begun), "kl": float(apart.mean()), "kl_se": _error(apart)}

    def _measure(self, ids: IntArray, begun: IntArray) -> dict[str, float]:
        """Responses beside the reference's own to the same prompts."""
        ours, theirs = self.responses.counted(ids), self.responses.counted(begun)
        unit = theirs.std() or 1.0
        won = (ours > theirs) + 0.5 * (ours == theirs)
        with sg.no_grad():
            surprise = [float(-self._log_likelihood(self.start, self._tensor(x)).mean().item()) for x in (ids, begun)]
        found = {
            "score": float((ours.mean() - theirs.mean()) / unit),
            "score_se": float(np.hypot(_error(ours), _error(theirs)) / unit),
            f"share_of_{self.config.rule}": float(ours.mean()),
            "win_rate": float(won.mean()),
            "win_rate_se": _error(won),
            "perplexity_ratio": float(np.exp((surprise[0] - surprise[1]) / self.config.response)),
        }
        if self._learns:
            rewards, before = self._rewards(ids), self._rewards(begun)
            found["reward"] = float((rewards.mean() - before.mean()) / (before.std() or 1.0))
        return found

    def _accuracy(self, rows: Text, count: int) -> Floats:
        """Whether the reward model orders pairs of the reference's responses as the rule does; ties are left out."""
        better, worse, differ = self.responses.pairs(self.start, self._prompts(rows, count), Generator(SEED).spawn(2))
        return np.asarray(self._rewards(better) > self._rewards(worse), np.float64)[differ != 0]

    # --- writing

    def best_of(self, prompts: IntArray, n: int, generator: Generator) -> IntArray:
        """Of n responses of the reference to each prompt the one with the highest reward."""
        ids, rewards = self._candidates(prompts, n, generator)
        return ids.reshape(*rewards.shape, -1)[np.arange(len(prompts)), rewards.argmax(1)]

    def _candidates(self, prompts: IntArray, n: int, generator: Generator) -> tuple[IntArray, Floats]:
        """n responses of the reference to each prompt, (N n, prompt + response), and their rewards (N, n)."""
        ids = self.responses.draw(self.start, np.repeat(prompts, n, axis=0), generator)
        return ids, self._rewards(ids).reshape(-1, n)

    def sample(
        self,
        count: int,
        generator: Generator,
        *,
        prompt: str = "",
        length: int = 200,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> dict[str, Any]:
        """Texts of the policy that go on from ``prompt``, ``length`` tokens long, as those of ``gpt``.

        The best of n are responses as they were in training: ``prompt`` has at least as many tokens (without one, it
        is those of the test text in turn), and nothing else can be chosen.
        """
        options: dict[str, Any] = {"length": length, "temperature": temperature, "top_p": top_p}
        if self.config.method != "best-of-n":
            return self.gpt.sample(count, generator, prompt=prompt, **options)
        self._refuse(options)
        prompts = self._prompts(self.dataset.test, count)
        if prompt:
            ids = self.tokenizer.encode(prompt)[-self.config.prompt :]
            if len(ids) < self.config.prompt:
                raise ValueError(f"best-of-n: a prompt needs {self.config.prompt} tokens, as in training")
            prompts = np.repeat(ids[None], count, axis=0)
        found = self.best_of(prompts, self.config.best_of, generator)
        shown = [prompt or self.tokenizer.decode(row) for row in prompts.tolist()]
        return {"text": [before + text for before, text in zip(shown, self.responses.texts(found), strict=True)]}

    def stream(
        self,
        prompt: str,
        generator: Generator,
        *,
        length: int = 200,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> Iterator[str]:
        options: dict[str, Any] = {"length": length, "temperature": temperature, "top_p": top_p}
        if self.config.method != "best-of-n":
            yield from self.gpt.stream(prompt, generator, **options)
        else:
            (text,) = self.sample(1, generator, prompt=prompt, **options)["text"]
            yield text.removeprefix(prompt)

    def _refuse(self, options: dict[str, Any]) -> None:
        if changed := [key for key, value in options.items() if value != DRAWN[key]]:
            raise ValueError(f"best-of-n: responses are drawn as in training; leave out {', '.join(changed)}")

    def preview(self, folder: Path, step: int) -> None:
        prompts = self._prompts(self.dataset.validation, SHOWN)
        sides = {"reference": self.responses.draw(self.start, prompts, Generator(SEED))}
        last = self.progress.done > self.last_begins
        if last or self.config.method == "best-of-n":
            sides[self.config.method] = self._improved(prompts, Generator(SEED))
        shown = {name: (self.responses.texts(ids), self.responses.counted(ids)) for name, ids in sides.items()}
        write_responses(folder, step, [self.tokenizer.decode(row) for row in prompts.tolist()], shown)
        if last:
            prompts = self._prompts(self.dataset.validation, DRAWN_FROM)
            ids, rewards = self._candidates(prompts, self.config.best_of, Generator(SEED))
            chosen = best_of_curve(rewards, self.responses.counted(ids).reshape(rewards.shape))
            frontier(folder / "frontier.png", {self.config.method: folder}, {"best of n": chosen})

    # --- what others say

    def references(self) -> list[Reference]:
        return []


def _mean(x: Tensor, weight: Tensor) -> Tensor:
    """Of the numbers with weight 1, and 0 if there are none."""
    return (x * weight).sum() / weight.sum().clamp(min=1.0)


def _error(x: Floats) -> float:
    """Standard error of the mean."""
    return float(x.std() / np.sqrt(len(x)))
