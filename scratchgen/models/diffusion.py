"""Denoising diffusion: noise is added to an image step by step, and a network learns to take it away.

Ho et al. 2020, "Denoising Diffusion Probabilistic Models" (arXiv:2006.11239); the equation numbers are theirs. One
step forward, and T of them at once, with abar_t the product of all (1 - beta_s) up to t:

    x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps                                                        (2)
    x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                                                            (4)

Both keep the variance of x at 1 if x_0 has it. (The survey prints 1 - sqrt(1 - beta_t) as the factor of x_{t-1}; one
such step would erase the image. tests/test_diffusion.py shows both rules.) A network is trained to say, from x_t and t,
what eps was, or x_0, or the velocity v = sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans and Ho 2022).

Steps are counted from 0 here: index t stands for the paper's t + 1. Images are (N, C, H, W) in [-1, 1]; points
(N, 2). Schedules are float64, since their products would lose what is left of the signal in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import scratchgen as sg
from scratchgen import Generator, Tensor, nn

Schedule = Literal["linear", "cosine", "offset-cosine", "sigmoid"]
Target = Literal["eps", "x0", "v"]
Array = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


# --- the noise schedule


def abar_of(schedule: Schedule, steps: int, offset: float = 0.008) -> Array:
    """abar (steps,) of a named schedule, in float64.

    ``linear``: beta from 1e-4 to 0.02 in 1000 steps, more in fewer (section 4). ``cosine``: Nichol and Dhariwal 2021,
    eq. 17; ``offset`` is their s. They choose it so that the first step's noise, sqrt(beta), is a little less than the
    distance of two grey levels: what is finer than that costs bits and says nothing. ``offset-cosine``: signal rates
    from 0.95 to 0.02 along a circle (the Keras example that the survey's U-Net is from). ``sigmoid``: Jabri et al.
    2023, between -3 and 3.
    """
    if steps < 1:
        raise ValueError(f"a diffusion has at least one step, got {steps}")
    t = np.arange(1, steps + 1) / steps
    if schedule == "linear":
        scale = 1000 / steps
        return np.cumprod(1 - np.minimum(np.linspace(1e-4 * scale, 0.02 * scale, steps), 0.999))
    if schedule == "cosine":
        f = np.cos((np.append(0, t) + offset) / (1 + offset) * np.pi / 2) ** 2
        return np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))
    if schedule == "offset-cosine":
        start, end = math.acos(0.95), math.acos(0.02)
        return np.cos(start + t * (end - start)) ** 2
    if schedule == "sigmoid":
        f = 1 / (1 + np.exp(6 * np.append(0, t) - 3))
        return np.maximum((f[1:] - f[-1]) / (f[0] - f[-1]), 1e-4 * (1 - t) + 1e-5)
    raise ValueError(f"unknown schedule {schedule!r}; there are linear, cosine, offset-cosine, sigmoid")


@dataclass(frozen=True)
class Process:
    """The forward process: its schedule, and what follows from it in closed form."""

    abar: Array

    @classmethod
    def of(cls, schedule: Schedule, steps: int, offset: float = 0.008) -> Process:
        return cls(abar_of(schedule, steps, offset))

    @property
    def steps(self) -> int:
        return len(self.abar)

    @cached_property
    def betas(self) -> Array:
        """beta_t = 1 - abar_t / abar_{t-1}."""
        return 1 - self.abar / np.append(1.0, self.abar[:-1])

    @cached_property
    def snr(self) -> Array:
        """The signal-to-noise ratio abar / (1 - abar)."""
        return self.abar / (1 - self.abar)

    def single_step(self, x: Tensor, t: int, eps: Tensor) -> Tensor:
        """x_t from x_{t-1} (2)."""
        beta = self.betas[t]
        return math.sqrt(1 - beta) * x + math.sqrt(beta) * eps

    def jump(self, x0: Tensor, t: Times, eps: Tensor) -> Tensor:
        """x_t of each sample from its x_0 at once (4); ``t`` (N,)."""
        return at(np.sqrt(self.abar), t, x0) * x0 + at(np.sqrt(1 - self.abar), t, x0) * eps


def at(table: Array, t: Times, like: Tensor) -> Tensor:
    """``table[t]`` (N, 1, 1, ...), of the dtype and device of ``like``, to multiply its samples by."""
    values = table[t].reshape(-1, *[1] * (like.ndim - 1))
    return sg.as_tensor(values, dtype=like.dtype, device=like.device)


# --- what the network is asked for


class Prediction(NamedTuple):
    """What is known of x_0 at (x_t, t): a consistent pair, and the learned share of the variance if there is one."""

    x0: Tensor
    eps: Tensor
    share: Tensor | None = None  # in [0, 1]: 1 for the largest variance, beta; 0 for the smallest


class Diffusion(nn.Module):
    """A network and the process it undoes.

    network   (x, t (N,) float, label (N,) or None) -> (N, C, ...), or (N, 2 C, ...) with ``learned_variance``
    target    what the network's output means
    classes   0, or the number of labels; label ``classes`` is the null token, "any of them" (Ho and Salimans 2022)
    """

    def __init__(
        self,
        network: nn.Module,
        process: Process,
        target: Target = "eps",
        learned_variance: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.process = process
        self.target = target
        self.learned_variance = learned_variance
        self.classes = classes

    def target_of(self, x0: Tensor, eps: Tensor, t: Times) -> Tensor:
        """What the network should have said."""
        if self.target == "eps":
            return eps
        if self.target == "x0":
            return x0
        abar = self.process.abar
        return at(np.sqrt(abar), t, x0) * eps - at(np.sqrt(1 - abar), t, x0) * x0

    def output(self, x: Tensor, t: Times, label: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The network's answer, and the share of the learned variance."""
        if self.classes and label is None:
            label = sg.full((len(x),), self.classes, dtype=sg.int64, device=x.device)
        answer = self.network(x, sg.as_tensor(t, dtype=x.dtype, device=x.device), label)
        if not self.learned_variance:
            return answer, None
        answer, share = answer.chunk(2, 1)
        return answer, (share + 1) / 2

    def predict(self, x: Tensor, t: Times, label: Tensor | None = None, clip: bool = False) -> Prediction:
        """x_0 and eps at (x_t, t). ``clip``: x_0 is known to lie in [-1, 1]; eps follows it."""
        answer, share = self.output(x, t, label)
        return self._pair(x, t, answer, share, clip)

    def guided(
        self, x: Tensor, t: Times, label: Tensor, weight: float, clip: bool = False, rescale: float = 0.0
    ) -> Prediction:
        """``predict`` with classifier-free guidance (Ho and Salimans 2022, eq. 6): (1 + w) of the class, -w of any.

        ``rescale``: how much of the spread that guidance adds is taken away again (Lin et al. 2024, eq. 16).
        """
        own, share = self.output(x, t, label)
        free, _ = self.output(x, t, None)
        answer = (1 + weight) * own - weight * free
        if rescale:
            dims = tuple(range(1, x.ndim))
            ratio = own.std(dims, keepdim=True) / answer.std(dims, keepdim=True)
            answer = answer * (rescale * ratio + 1 - rescale)
        return self._pair(x, t, answer, share, clip)

    def _pair(self, x: Tensor, t: Times, answer: Tensor, share: Tensor | None, clip: bool) -> Prediction:
        signal, noise = (at(np.sqrt(table), t, x) for table in (self.process.abar, 1 - self.process.abar))
        if self.target == "eps":
            eps, x0 = answer, (x - noise * answer) / signal
        elif self.target == "x0":
            eps, x0 = (x - signal * answer) / noise, answer
        else:
            eps, x0 = noise * x + signal * answer, signal * x - noise * answer
        if clip:
            x0 = x0.clamp(-1, 1)
            eps = (x - signal * x0) / noise
        return Prediction(x0, eps, share)

    # --- training

    def losses(
        self,
        x0: Tensor,
        t: Times,
        generator: Generator,
        label: Tensor | None = None,
        levels: int = 256,
        censored: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """The squared error of the network's answer at a random x_t, and the bound's term in nats (zeros unless the
        variance is learned); both (N,), means and sums over a sample's numbers.

        The first is the simple loss (14). The hybrid loss adds 0.001 of the second (Nichol and Dhariwal 2021, eq. 16),
        which reaches the variance only: the mean is a constant to it. ``censored``: see ``beyond``.
        """
        eps = sg.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        x = self.process.jump(x0, t, eps)
        answer, share = self.output(x, t, label)
        dims = tuple(range(1, x0.ndim))
        error = (answer - self.target_of(x0, eps, t)) ** 2
        if censored:
            error = sg.where(beyond(self._pair(x, t, answer.detach(), None, clip=False).x0, x0), 0.0, error)
        error = error.mean(dims)
        if share is None:
            return error, sg.zeros(len(x0), dtype=x0.dtype, device=x0.device)
        fixed = self._pair(x, t, answer.detach(), share, clip=False)
        return error, self.bound_terms(x0, x, t, fixed, levels)

    def min_snr_weight(self, t: Times, gamma: float = 5.0) -> Array:
        """What makes the loss that of x_0, weighted by min(SNR, gamma) (Hang et al. 2023, section 3.4); (N,)."""
        snr = self.process.snr[t]
        capped = np.minimum(snr, gamma)
        return {"eps": capped / snr, "x0": capped, "v": capped / (snr + 1)}[self.target]

    # --- the variational bound

    def reverse(
        self, x: Tensor, t: Times, prediction: Prediction, before: Times | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p(x_s | x_t) (11), for ``before`` = s < t, by default t - 1; -1 is the data.

        Without a learned share the variance is the smallest, that of q(x_s | x_t, x_0) (7).
        """
        mean, smallest, largest = posterior(self.process, x, prediction.x0, t, before)
        if prediction.share is None:
            return mean, smallest.expand(x.shape)
        return mean, prediction.share * largest + (1 - prediction.share) * smallest

    def bound_terms(self, x0: Tensor, x: Tensor, t: Times, prediction: Prediction, levels: int) -> Tensor:
        """L_t of each sample (N,) in nats: a KL of two Gaussians (5), and for t = 0 the code length of the pixels (13).

        ``levels``: how many values a pixel has, evenly spaced from -1 to 1.
        """
        dims = tuple(range(1, x0.ndim))
        mean, log_variance = self.reverse(x, t, prediction)
        true_mean, true_log_variance, _ = posterior(self.process, x, x0, t)
        kl = 0.5 * (
            log_variance - true_log_variance - 1
            + sg.exp(true_log_variance - log_variance)
            + (true_mean - mean) ** 2 * sg.exp(-log_variance)
        )  # fmt: skip
        first = sg.as_tensor(t == 0, device=x.device)
        code = -log_discretised_gaussian(x0, mean, log_variance, levels)
        return sg.where(first, code.sum(dims), kl.sum(dims))

    def prior_term(self, x0: Tensor) -> Tensor:
        """L_T (N,) in nats: what x_T still tells of x_0."""
        abar = float(self.process.abar[-1])
        return 0.5 * (abar * x0**2 - abar - math.log1p(-abar)).sum(tuple(range(1, x0.ndim)))


def beyond(guess: Tensor, x0: Tensor) -> Tensor:
    """Where x_0 is at an end of its range, -1 or 1, and the guess of it lies further out.

    A sampler that clips its guess has it right there, so the loss need not count it: as in (13), an outermost level
    reaches to infinity. The clipped guess of least error is the mean of x_0 given x_t as before; what changes is that a
    network comes to say black by a margin, and black is black in samples, not one grey level off.
    """
    return ((x0 <= -1) & (guess < -1)) | ((x0 >= 1) & (guess > 1))


def posterior(
    process: Process, x: Tensor, x0: Tensor, t: Times, before: Times | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """q(x_s | x_t, x_0) (6), (7): its mean, its log-variance, and the logarithm of the larger choice, beta.

    ``before``: s, by default t - 1, where -1 is the data themselves. At s = -1 the variance (7) is 0; its logarithm is
    that of the step after it, as in the authors' code.
    """
    before = t - 1 if before is None else before
    abar = process.abar[t]
    abar_before = np.where(before >= 0, process.abar[before], 1.0)
    beta = 1 - abar / abar_before
    smallest = beta * (1 - abar_before) / (1 - abar)
    second = process.betas[1] * (1 - process.abar[0]) / (1 - process.abar[1]) if process.steps > 1 else 1e-20
    rows = np.arange(len(t))
    of_x0 = at(np.sqrt(abar_before) * beta / (1 - abar), rows, x)
    of_x = at(np.sqrt(1 - beta) * (1 - abar_before) / (1 - abar), rows, x)
    log_smallest = at(np.log(np.where(before >= 0, smallest, second)), rows, x)
    return of_x0 * x0 + of_x * x, log_smallest, at(np.log(beta), rows, x)


def log_discretised_gaussian(x: Tensor, mean: Tensor, log_variance: Tensor, levels: int) -> Tensor:
    """log of the mass that N(mean, variance) has on each pixel's own level (13); the outermost ones reach to infinity.

    ``levels`` values are evenly spaced from -1 to 1.
    """
    scale = sg.exp(-0.5 * log_variance)
    half = 1 / (levels - 1)

    def cdf(z: Tensor) -> Tensor:
        return 0.5 * (1 + sg.erf(z / math.sqrt(2)))

    above = sg.where(x > 1 - half, 1.0, cdf((x - mean + half) * scale))
    below = sg.where(x < half - 1, 0.0, cdf((x - mean - half) * scale))
    return sg.log((above - below).clamp(min=1e-12))


Denoiser = Callable[[Tensor, Times], Prediction]
