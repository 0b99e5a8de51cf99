"""Training the Wasserstein GANs, clipped and penalised. The model is in ``scratchgen.models.wgan``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import scratchgen as sg
from scratchgen import Generator, Tensor, metrics, nn, viz
from scratchgen.models.gan import ImageDiscriminator, mlp, noise
from scratchgen.models.wgan import (
    clip_,
    critic_loss,
    critic_steps,
    generator_loss,
    gradient_penalty,
    r1_penalty,
)

from .adversarial import NOISE, AdversarialConfig, AdversarialRecipe
from .base import setting

MEASURED = 50  # times in a run that the critic's estimate is held against the exact distance
POINTS = 1000  # of both samples, for the exact distance


class WassersteinRecipe(AdversarialRecipe):
    """What both ways of keeping the critic Lipschitz share: the losses and the networks.

    On points the critic's estimate of the distance is held against the exact one as training goes on.
    """

    def __init__(self, config: Any, dataset: Any, device: sg.Device, seed: int) -> None:
        super().__init__(config, dataset, device, seed)
        self.distances = Distances()

    def state(self) -> dict[str, Any]:
        return super().state() | {"distances": self.distances}

    def step(self) -> dict[str, float]:
        report = super().step()
        if not self.is_image:
            self.distances.note(report["wasserstein"])
            if self.steps_done % max(1, self.config.steps // MEASURED) == 0:
                self.distances.close(self.steps_done, self._exact_distance())
        return report

    def _exact_distance(self) -> float:
        """W1 of training points and of the present generator's, both as the critic sees them."""
        with sg.no_grad():
            fake = self.model(noise(POINTS, self.config.latent, Generator(NOISE), next(self.model.parameters())))
        return metrics.earth_movers_distance(self.dataset.trainval.x[:POINTS] / self.scale, fake.numpy(force=True))

    def evaluate(self) -> dict[str, float]:
        """The judge's metrics; of points also whether the critic's estimate rose and fell with the exact distance."""
        found = super().evaluate()
        if len(self.distances.steps) > 2:
            found["w1"], found["w1_rank_correlation"] = self.distances.exact[-1], self.distances.rank_correlation()
        return found

    def preview(self, folder: Path, step: int) -> None:
        super().preview(folder, step)
        if self.distances.steps:
            self.distances.draw(folder / "distance.png")

    def build(self) -> tuple[nn.Module, nn.Module]:
        config, generator = self.config, self.make_generator(self.config.hidden)
        hidden = [config.width] * config.depth
        if not self.is_image:
            return generator, mlp((2, *hidden, 1))
        shape = self.dataset.shape
        if config.network == "conv":
            norm: Any = getattr(config, "norm", "none")
            return generator, ImageDiscriminator(shape, config.width, norm, hidden=config.hidden)
        return generator, nn.Sequential(
            nn.Flatten(), *mlp((math.prod(shape), *hidden, 1), lambda: nn.LeakyReLU(0.2))
        )

    def opponent_loss(self, real: Tensor, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = critic_loss(self.opponent(real), self.opponent(fake))
        report = {"wasserstein": -loss.item()}
        penalty = self.penalty(real, fake)
        if penalty is not None:
            weighted = penalty.item()
            loss, report["penalty"] = loss + penalty, weighted
        return loss, report

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor | None:
        """What is added to the critic's loss, a scalar."""
        return None

    def generator_loss(self, fake: Tensor, label: Tensor) -> tuple[Tensor, dict[str, float]]:
        loss = generator_loss(self.opponent(fake))
        return loss, {"g_loss": loss.item()}


class Distances:
    """The critic's estimates, each the mean since the one before, and the exact distance at the same steps.

    A clipped critic jitters about its best, and a single estimate with it (Arjovsky et al. show theirs filtered).
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.estimates: list[float] = []
        self.exact: list[float] = []
        self._sum, self._count = 0.0, 0

    def note(self, estimate: float) -> None:
        """One step's estimate."""
        self._sum, self._count = self._sum + estimate, self._count + 1

    def close(self, step: int, exact: float) -> None:
        """Keep the mean estimate beside the exact distance."""
        self.steps.append(step)
        self.estimates.append(self._sum / self._count)
        self.exact.append(exact)
        self._sum, self._count = 0.0, 0

    def rank_correlation(self) -> float:
        """Spearman's: 1 if the estimate rises and falls with the distance, whatever its scale."""
        from scipy.stats import spearmanr

        return float(spearmanr(self.estimates, self.exact).statistic)

    def draw(self, path: Path) -> None:
        panels = {"the critic's estimate": {"estimate": self.estimates}, "exact distance": {"W1": self.exact}}
        viz.lines(path, self.steps, panels, label="step")

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps), "estimates": list(self.estimates), "exact": list(self.exact),
            "sum": self._sum, "count": self._count,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.estimates, self.exact = (list(state[key]) for key in ("steps", "estimates", "exact"))
        self._sum, self._count = state["sum"], state["count"]


@dataclass(frozen=True)
class WassersteinConfig(AdversarialConfig):
    """Settings that both have."""

    opponent_steps: int = setting(5, "steps of the critic before each of the generator")
    hidden: int = setting(0, "images: units of a dense layer on both networks' narrow side, as InfoGAN has; 0: none")


@dataclass(frozen=True)
class WGANConfig(WassersteinConfig):
    """Settings of the clipped Wasserstein GAN."""

    clip: float = setting(0.01, "bound of every number in the critic")
    patience: bool = setting(True, "100 critic steps for the first 25 generator steps and every 500th")


# The generator is slow, so that the critic keeps near its best and its estimate falls as the distance does; and no rate
# decays, since a critic that jitters less estimates more.
_CLIPPED: dict[str, Any] = {
    "latent": 2, "width": 128, "batch_size": 256, "clip": 0.1, "learning_rate": 4e-5, "opponent_learning_rate": 2e-4,
    "decay_rates": False,
}  # fmt: skip


class WGANRecipe(WassersteinRecipe):
    """Wasserstein GAN with weight clipping."""

    name: ClassVar[str] = "wgan"
    paper: ClassVar[str] = "Arjovsky et al. 2017, Wasserstein GAN"
    default_data: ClassVar[str] = "ring8"
    presets: ClassVar[Mapping[str, Mapping[str, WGANConfig]]] = {
        "tiny": {
            # In more steps samples get better, but the critic finds finer structure, and its estimate rises meanwhile.
            "ring8": WGANConfig(steps=6000, **_CLIPPED),
            **{name: WGANConfig(steps=12_000, **_CLIPPED) for name in ("grid25", "moons", "rings")},
            "digits": WGANConfig(steps=4000, batch_size=64, width=48, learning_rate=2e-4, dequantise=True),
            "*": WGANConfig(steps=4000, batch_size=64, learning_rate=2e-4),
        },
        # The authors' code: RMSprop at 5e-5, batch 64, z of 100 numbers, clipping at 0.01.
        "full": {"*": WGANConfig(steps=20_000, batch_size=64, latent=100, width=64, learning_rate=5e-5, average=0.0)},
    }
    expected: ClassVar[str] = (
        "tiny on ring8: 8 of 8 modes, 24 % of samples in them, the critic's estimate falls as the distance (rank "
        "correlation 0.98), a minute; clipping is slow, hence wgan-gp"
    )

    config: WGANConfig

    def make_optimizer(self, model: nn.Module, rate: float) -> Any:
        return sg.optim.RMSprop(model.parameters(), rate)  # the authors saw momentum make the loss diverge

    def opponent_steps(self) -> int:
        config = self.config
        return critic_steps(self.steps_done, config.opponent_steps) if config.patience else config.opponent_steps

    def after_opponent(self) -> None:
        clip_(self.opponent.parameters(), self.config.clip)

    def preview(self, folder: Path, step: int) -> None:
        super().preview(folder, step)
        weights = np.concatenate([p.numpy(force=True).ravel() for p in self.opponent.parameters()])
        viz.histogram(folder / "critic-weights.png", {"critic": weights}, title="clipping piles the weights up")


@dataclass(frozen=True)
class WGANGPConfig(WassersteinConfig):
    """Settings of the Wasserstein GAN with gradient penalty."""

    penalty: Literal["two-sided", "one-sided", "r1"] = setting("two-sided", "kind of gradient penalty")
    weight: float = setting(10.0, "lambda, the weight of the penalty")
    beta1: float = setting(0.0, "Adam's decay of the mean gradient")
    beta2: float = setting(0.9, "Adam's decay of the mean square")
    norm: Literal["none", "layer", "instance"] = setting("none", "conv: norm of the critic; batch norm would be wrong")


_PENALISED: dict[str, Any] = {
    "latent": 2, "width": 128, "batch_size": 256, "weight": 0.1, "learning_rate": 1e-3, "beta1": 0.5,
}  # fmt: skip


class WGANGPRecipe(WassersteinRecipe):
    """Wasserstein GAN with gradient penalty."""

    name: ClassVar[str] = "wgan-gp"
    paper: ClassVar[str] = "Gulrajani et al. 2017, Improved Training of Wasserstein GANs"
    default_data: ClassVar[str] = "grid25"
    presets: ClassVar[Mapping[str, Mapping[str, WGANGPConfig]]] = {
        "tiny": {
            **{name: WGANGPConfig(steps=12_000, **_PENALISED) for name in ("ring8", "grid25", "moons", "rings")},
            "digits": WGANGPConfig(
                steps=5000, batch_size=64, latent=32, width=48, hidden=256, opponent_steps=2, learning_rate=1e-3,
                dequantise=True, standing=4000,
            ),
            "*": WGANGPConfig(
                steps=6000, batch_size=64, width=32, hidden=256, opponent_steps=2, learning_rate=5e-4, standing=4000
            ),
        },
        # The authors' MNIST code: width 64, lambda 10, 5 critic steps, Adam 1e-4 (0.5, 0.9), batch 50.
        "full": {
            "*": WGANGPConfig(
                steps=200_000, batch_size=50, latent=128, width=64, learning_rate=1e-4, beta1=0.5, decay_rates=False
            ),
        },
    }  # fmt: skip
    expected: ClassVar[str] = (
        "tiny on grid25: 25 of 25 modes, 83 % of samples in them, reverse KL 0.009, 4 minutes; "
        "on fashion-mnist: nfd 0.12 %, 6 minutes"
    )

    config: WGANGPConfig

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        config = self.config
        if config.penalty == "r1":
            return config.weight * r1_penalty(self.opponent, real)
        one_sided = config.penalty == "one-sided"
        return config.weight * gradient_penalty(self.opponent, real, fake, self.generator, one_sided)
