"""Settings of the RLHF recipe, and of the small GPT that it begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .base import Config, setting
from .gpt import ARCHITECTURE, GPTConfig
from .gpt_text import read_start


@dataclass(frozen=True)
class RLHFConfig(Config):
    """Settings of RLHF."""

    steps: int = setting(150, "steps of the last stage; those before it have their own", least=1)
    batch_size: int = setting(64, "responses in a step of ppo, pairs in one of dpo and of the reward model", least=1)
    learning_rate: float = setting(2e-4, "learning rate of the last stage", least=0)
    method: Literal["ppo", "dpo", "best-of-n"] = setting("ppo", "how responses become better")
    reward: Literal["model", "rule"] = setting("model", "ppo, best-of-n: what is maximised, learnt from pairs or exact")
    rule: Literal["vowels", "syllables"] = setting("vowels", "what is liked in a response, counted")
    labels: Literal["exact", "drawn"] = setting(
        "exact", "of pairs: the rule's, or drawn by Bradley and Terry with its scores as rewards, as people waver"
    )
    base: str = setting("", "run folder of a gpt on the same text to begin with; empty: train a small one first")
    layers: int = setting(2, "blocks of the small one", least=1)
    heads: int = setting(4, "heads of attention in each", least=1)
    width: int = setting(64, "numbers that stand for a token", least=1)
    prompt: int = setting(16, "tokens of a prompt", least=1)
    response: int = setting(32, "tokens of a response", least=1)
    pretrain_steps: int = setting(1000, "steps of the small one on text", least=0)
    pretrain_batch: int = setting(32, "its windows in a mini-batch", least=1)
    pretrain_rate: float = setting(3e-3, "its peak learning rate", least=0)
    reward_steps: int = setting(300, "steps of the reward model", least=0)
    reward_rate: float = setting(1e-3, "its peak learning rate", least=0)
    beta: float = setting(0.3, "price of a nat from the reference, in deviations of the score", least=0)
    kl_target: float = setting(5.0, "ppo: nats that beta is steered to; 0: it stays", least=0)
    epochs: int = setting(4, "ppo: times that each response is used", least=1)
    mini_batches: int = setting(2, "ppo: parts of a batch", least=1)
    clip: float = setting(0.2, "ppo: change of a ratio, and of a value, that is paid for", least=0)
    text_weight: float = setting(0.0, "ppo: weight of the loss on running text beside it (PPO-ptx)", least=0)
    best_of: int = setting(16, "best-of-n: responses to choose from", least=1)


def pretraining(config: RLHFConfig) -> GPTConfig:
    """Settings of the small GPT, or of the one in ``base``. Raises ValueError if responses do not fit its block."""
    needed = config.prompt + config.response
    own = GPTConfig(
        steps=max(1, config.pretrain_steps), batch_size=config.pretrain_batch, learning_rate=config.pretrain_rate,
        layers=config.layers, heads=config.heads, width=config.width, block=needed, hold_out=True,
    )  # fmt: skip
    if not config.base:
        return own
    settings, *_ = read_start(Path(config.base))
    if settings["block"] < needed:
        raise ValueError(
            f"base={config.base}: its block of {settings['block']} tokens is less than prompt + response, {needed}"
        )
    return replace(own, start=config.base, **{key: settings[key] for key in ARCHITECTURE})
