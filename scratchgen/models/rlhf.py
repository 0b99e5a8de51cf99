"""Learning from preferences: a language model that writes what is liked better.

Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences" (arXiv:1909.08593), and Ouyang et al. 2022,
"Training language models to follow instructions with human feedback" (InstructGPT, arXiv:2203.02155). To a prompt x the
policy pi writes a response y. Of two of them, by a model pi_ref that is kept as it was, y_w is liked better than y_l. A
reward r is fitted to such pairs, as Bradley and Terry (1952) did to games,

    P(y_w over y_l) = sigma(r(x, y_w) - r(x, y_l)),      loss = -log of it                  (1)  (Ouyang et al., eq. 1)

and the policy is trained to be rewarded without going far from where it began:

    J(pi) = E_pi[r(x, y)] - beta KL(pi || pi_ref)                                       (2)  (Ziegler et al., eq. 2)
    pi*(y | x) = pi_ref(y | x) exp(r(x, y) / beta) / Z(x),   J(pi*) = beta log Z        (3)  (Rafailov et al., eq. 4)

Three ways to (3) are here: PPO (``models/ppo.py``); DPO, which puts the r of (3) into (1), so that no reward is fitted
and nothing is sampled (Rafailov et al. 2023, arXiv:2305.18290, eq. 7); and drawing n responses to keep the best, which
trains nothing. KL is in nats a response.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

import scratchgen as sg
from scratchgen import Tensor, nn
from scratchgen.nn import functional as F

from .gpt import GPT

Floats = npt.NDArray[np.float64]


class Scorer(nn.Module):
    """A GPT with one number at each position in place of logits, (N, T) -> (N, T): a reward, or a value.

    The head begins at N(0, 1 / (width + 1)) (Stiennon et al. 2020); ``body`` is trained with it.
    """

    def __init__(self, body: GPT) -> None:
        super().__init__()
        width = body.tokens.weight.shape[1]
        self.body = body
        self.head = nn.Linear(width, 1)
        nn.init.normal_(self.head.weight, 0.0, 1 / math.sqrt(width + 1))
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body.hidden(ids))[..., 0]

    def score(self, ids: Tensor) -> Tensor:
        """The reward of whole sequences (N, T), which is the number at their last token: (N,)."""
        return self(ids)[:, -1]

    def rescale(self, mean: float, deviation: float) -> None:
        """Take ``mean`` from all scores and divide them by ``deviation``; in place, in the head.

        (1) leaves a constant open, and nothing says how much a reward is: both are settled so that the reference's own
        responses have mean 0 and deviation 1 (Ziegler et al., section 2).
        """
        weight, bias = self.head.weight, self.head.bias
        assert bias is not None
        with sg.no_grad():
            weight.copy_(weight / deviation)
            bias.copy_((bias - mean) / deviation)


# --- the policy


def response_logits(policy: GPT, ids: Tensor, count: int) -> Tensor:
    """The logits that the last ``count`` tokens of ``ids`` (N, T) were drawn by, (N, count, vocabulary)."""
    return policy.logits(policy.hidden(ids[:, :-1])[:, -count:])


def log_probs(logits: Tensor, ids: Tensor) -> Tensor:
    """log pi of the tokens that the last of ``ids`` (N, T) are, (N, count) for logits (N, count, vocabulary)."""
    drawn = ids[:, -logits.shape[1] :]
    return -F.cross_entropy(logits.flatten(0, 1), drawn.flatten(), reduction="none").reshape(*drawn.shape)


def entropy(logits: Tensor) -> Tensor:
    """In nats, (...) for logits (..., vocabulary)."""
    return -(F.softmax(logits, -1) * F.log_softmax(logits, -1)).sum(-1)


def divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(pi || pi_ref) of the next token, (...) for logits (..., vocabulary) of both: nothing is estimated.

    Its sum over the tokens of a response that pi drew has the KL of responses as its mean.
    """
    log_pi = F.log_softmax(logits, -1)
    return (sg.exp(log_pi) * (log_pi - F.log_softmax(reference, -1))).sum(-1)


def k1(log_pi: Floats, log_ref: Floats) -> Floats:
    """log pi - log pi_ref of tokens drawn from pi: its mean is KL(pi || pi_ref), but it may be below 0."""
    return log_pi - log_ref


def k3(log_pi: Floats, log_ref: Floats) -> Floats:
    """pi_ref / pi - 1 + k1 of tokens drawn from pi: the same mean, since pi_ref / pi has the mean 1, and never below 0.

    Schulman 2020, "Approximating KL Divergence". Near the reference it has less noise than k1; far from it, where a
    token that pi seldom draws is likely under pi_ref, it has much more.
    """
    return np.exp(log_ref - log_pi) - 1 + k1(log_pi, log_ref)


# --- preferences


def bradley_terry_loss(better: Tensor, worse: Tensor) -> Tensor:
    """(1) of pairs of rewards, (N,) each: (N,)."""
    return F.softplus(worse - better)


def dpo_loss(better: Tensor, worse: Tensor, better_ref: Tensor, worse_ref: Tensor, beta: float) -> Tensor:
    """DPO's loss of pairs, (N,), by the log-probabilities of whole responses under policy and reference, (N,) each.

    By (3) r = beta log(pi* / pi_ref) + beta log Z(x), and of two responses to one prompt Z cancels in (1).
    """
    return bradley_terry_loss(beta * (better - better_ref), beta * (worse - worse_ref))


def best_of_kl(n: int) -> float:
    """log n - (n - 1) / n: how far the best of n is from one draw, in nats, where scores have no ties.

    With ties it is less, so this is an upper bound (Stiennon et al. 2020; Beirami et al. 2024, arXiv:2401.01879).
    """
    return math.log(n) - (n - 1) / n
