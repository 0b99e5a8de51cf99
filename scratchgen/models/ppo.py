"""PPO on a language model: one token is one action, a response is an episode, and its reward comes at the end.

Schulman et al. 2017, "Proximal Policy Optimization Algorithms" (arXiv:1707.06347), with advantages by Schulman et al.
2016 (arXiv:1506.02438), as Ziegler et al. 2019 and Ouyang et al. 2022 have it for (2) of ``models/rlhf.py``. Of a token
y_t, drawn by the policy as it was, pi_old, after the prompt and the tokens before it, s_t:

    R_t = [t is last] r(x, y) - beta (log pi_old(y_t | s_t) - log pi_ref(y_t | s_t))                               (1)
    delta_t = R_t + gamma V(s_{t+1}) - V(s_t),    A_t = sum_k (gamma lambda)^k delta_{t+k}      (2)  (2016, eq. 16)
    L = E[max(-rho A, -clip(rho, 1 - eps, 1 + eps) A)],    rho = pi(y_t | s_t) / pi_old(y_t | s_t)  (3)  (2017, eq. 7)

The values V are a network of their own, which learns the returns A + V and may in one round leave what it gave before
by no more than eps. Of every batch of responses several epochs of mini-batches are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import scratchgen as sg
from scratchgen import Generator, Tensor, nn

from .gpt import GPT
from .rlhf import Scorer, divergence, entropy, k1, k3, log_probs, response_logits

Floats = npt.NDArray[np.float64]


def advantages(rewards: Floats, values: Floats, gamma: float = 1.0, decay: float = 0.95) -> Floats:
    """(2) with lambda = ``decay`` of rewards and values (N, T); after the last token the value is 0."""
    found, after, value = np.zeros_like(rewards), np.zeros(len(rewards)), np.zeros(len(rewards))
    for t in reversed(range(rewards.shape[1])):
        after = rewards[:, t] + gamma * value - values[:, t] + gamma * decay * after
        found[:, t], value = after, values[:, t]
    return found


def whiten(x: Floats) -> Floats:
    """With mean 0 and deviation 1 over everything."""
    return (x - x.mean()) / (x.std() + 1e-8)


def policy_loss(new: Tensor, old: Tensor, advantage: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """(3) and the ratios rho, of log-probabilities and advantages of the same shape."""
    ratio = sg.exp(new - old)
    return sg.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip, 1 + clip)).mean(), ratio


def value_loss(new: Tensor, old: Tensor, returns: Tensor, clip: float) -> Tensor:
    """Half the squared error, of the value or of the value kept within ``clip`` of the old, whichever is worse."""
    kept = old + (new - old).clamp(-clip, clip)
    return 0.5 * sg.maximum((new - returns) ** 2, (kept - returns) ** 2).mean()


class KLController:
    """beta, which grows while KL is above ``target`` and shrinks while it is below (Ziegler et al., section 2.2).

    ``rate`` 0: it stays.
    """

    def __init__(self, beta: float, target: float, rate: float = 0.1) -> None:
        self.beta, self.target, self.rate = beta, target, rate

    def update(self, kl: float) -> None:
        """After a batch of which ``kl`` is the mean, in nats a response."""
        self.beta *= 1 + self.rate * min(max(kl / self.target - 1, -0.2), 0.2)

    def state_dict(self) -> dict[str, float]:
        return {"beta": self.beta}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.beta = state["beta"]


@dataclass(frozen=True)
class Settings:
    """How much is made of a batch of responses.

    clip         eps of (3); ``value_clip`` that of the values
    decay        lambda of (2); gamma is 1: a response is finite, and none of its tokens is worth less for being early
    text_weight  weight of the loss of language modelling that is added to (3), PPO-ptx (Ouyang et al., eq. 2)
    """

    epochs: int = 4
    mini_batches: int = 2
    clip: float = 0.2
    value_clip: float = 0.2
    decay: float = 0.95
    clip_gradients: float = 1.0
    text_weight: float = 0.0


class Batch(NamedTuple):
    """Responses and what was thought of their tokens when they were drawn: ids (N, T), all others (N, tokens)."""

    ids: Tensor
    log_probs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def take(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Some of its rows."""
        chosen = sg.as_tensor(rows, device=self.ids.device)
        return Batch(*(part[chosen] for part in self))


class PPO:
    """Improves ``policy`` and ``values`` by batches of responses that the policy drew at temperature 1.

    None of the networks may drop out: ratios would then differ from 1 before anything was learnt.
    ``text_loss()``: the policy's loss on a batch of running text, where ``text_weight`` is not 0.
    """

    def __init__(
        self,
        policy: GPT,
        values: Scorer,
        reference: GPT,
        optimizer: sg.optim.Optimizer,
        settings: Settings = Settings(),
        text_loss: Callable[[], Tensor] | None = None,
    ) -> None:
        if settings.text_weight and text_loss is None:
            raise ValueError("PPO: text_weight needs text_loss, which gives a loss to weigh")
        self.policy, self.values, self.reference = policy, values, reference
        self.optimizer, self.settings, self.text_loss = optimizer, settings, text_loss

    def step(self, ids: Tensor, count: int, scores: Floats, beta: float, generator: Generator) -> dict[str, float]:
        """One round on sequences (N, T) whose last ``count`` tokens are responses with rewards ``scores`` (N,).

        kl               in nats a response, from the reference, of the policy that drew them; ``kl_k3`` as k3 has it
        entropy          nats a token, of the same
        ratio            mean of rho over all mini-batches; ``clip_share`` of them are outside of 1 +- eps
        value_explained  share of the returns' variance that the values had foreseen
        """
        batch, found = self.look_back(ids, count, scores, beta)
        ratios = np.concatenate([self._improve(part) for part in self._mini_batches(batch, generator)])
        outside = np.abs(ratios - 1) > self.settings.clip
        return {**found, "ratio": float(ratios.mean()), "clip_share": float(outside.mean())}

    def look_back(self, ids: Tensor, count: int, scores: Floats, beta: float) -> tuple[Batch, dict[str, float]]:
        """(1) and (2) for responses just drawn."""
        with sg.no_grad():
            logits = response_logits(self.policy, ids, count)
            logits_ref = response_logits(self.reference, ids, count)
            drawn, values = log_probs(logits, ids), self._values(ids, count)
            log_pi, log_ref, value, apart, unsure = (
                np.asarray(part.numpy(force=True), np.float64)
                for part in (
                    drawn, log_probs(logits_ref, ids), values, divergence(logits, logits_ref), entropy(logits)
                )
            )  # fmt: skip
        rewards = -beta * k1(log_pi, log_ref)
        rewards[:, -1] += scores
        advantage = advantages(rewards, value, decay=self.settings.decay)
        returns = advantage + value
        made = (sg.as_tensor(x.astype(np.float32), device=ids.device) for x in (whiten(advantage), returns))
        return Batch(ids, drawn, values, *made), {
            "kl": float(apart.sum(1).mean()),
            "kl_k3": float(k3(log_pi, log_ref).sum(1).mean()),
            "entropy": float(unsure.mean()),
            "value_explained": float(1 - (returns - value).var() / (returns.var() + 1e-8)),
        }

    def _values(self, ids: Tensor, count: int) -> Tensor:
        """V(s_t): what is thought before each token of the response, (N, count)."""
        return self.values(ids[:, :-1])[:, -count:]

    def _mini_batches(self, batch: Batch, generator: Generator) -> Iterator[Batch]:
        count = len(batch.ids)
        for _ in range(self.settings.epochs):
            for rows in np.array_split(generator.permutation(count), min(self.settings.mini_batches, count)):
                yield batch.take(rows)

    def _improve(self, part: Batch) -> npt.NDArray[np.float32]:
        """One update on a mini-batch; returns its ratios."""
        settings, count = self.settings, part.log_probs.shape[1]
        new = log_probs(response_logits(self.policy, part.ids, count), part.ids)
        loss, ratio = policy_loss(new, part.log_probs, part.advantages, settings.clip)
        loss = loss + value_loss(self._values(part.ids, count), part.values, part.returns, settings.value_clip)
        if settings.text_weight and self.text_loss is not None:
            loss = loss + settings.text_weight * self.text_loss()
        self.optimizer.zero_grad()
        loss.backward()
        for network in (self.policy, self.values):  # each by its own: they share nothing
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip_gradients)
        self.optimizer.step()
        return np.asarray(ratio.numpy(force=True)).ravel()
